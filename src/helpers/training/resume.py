"""Checkpoints of a training that is under way, so that a killed one goes on where it was. Safetensors and JSON only.

The Trainer's own checkpoints keep the optimiser in pickled files. Here its state, the random generators' and the
schedule's are written beside the weights, into a folder that gets its name only when it is complete.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from helpers.errors import StudyError, Unwritable
from helpers.files import beside, replace_folder, sha256, write_tensors, write_text
from helpers.memory import say
from helpers.weights.folders import PICKLES

STATE, FACTS = "optimiser.safetensors", "run.json"
CPU, CUDA = "random.cpu", "random.cuda"  # names of the generators' states among the optimiser's tensors


class Checkpoints(TrainerCallback):
    """Writes ``folder/step-<n>`` every so many steps (never if ``every`` is 0) and restores it at the start.

    ``run`` identifies the training: a checkpoint of another one is not resumed. Only the newest is kept. The first loss
    logged after a restart is the mean over the steps since. For one process, or several that each have the whole model,
    not for a model that is sharded.
    """

    def __init__(self, folder: Path, every: int, run: str):
        self.folder, self.every, self.run = folder, every, run
        self.updating = False  # between the first and the last weight that a step changes
        self._start = 0  # the step that was restored
        self._parts = {}

    def latest(self) -> Path | None:
        """The newest checkpoint of this run that is as it was written, or None. Raises StudyError for a pickle."""
        for path in sorted(self.folder.glob("step-*"), key=_step, reverse=True):
            facts = _facts(path)
            if facts.get("run") == self.run:
                _refuse_pickles(path)
                if facts.get("hashes") == _hashes(path):
                    return path
                say(f"the checkpoint {path} is not what was written and is passed over")
        return None

    def clear(self) -> None:
        """Remove all checkpoints, whole and half-written, and their folder if nothing else is in it."""
        for path in [*self.folder.glob("step-*"), *self.folder.glob(".step-*")]:
            shutil.rmtree(path, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def on_train_begin(self, args, state, control, model=None, optimizer=None, lr_scheduler=None, **kwargs):
        """Restore optimiser and schedule where the Trainer has restored weights and step."""
        self._parts = {"model": model, "optimiser": optimizer, "schedule": lr_scheduler}
        self._start, self.updating = state.global_step, False
        if self._start:
            checkpoint = self.folder / f"step-{self._start}"
            facts, tensors = _facts(checkpoint), load_file(checkpoint / STATE)
            optimizer.load_state_dict(_unpacked(tensors, facts["groups"]))
            lr_scheduler.load_state_dict({**lr_scheduler.state_dict(), **facts["schedule"]})
            self._random = {name: tensors[name] for name in (CPU, CUDA) if name in tensors}

    def on_step_begin(self, args, state, control, **kwargs):
        """Write a checkpoint of the state that the last step has left, now that it is in the log too."""
        step = state.global_step
        if step and step == self._start:
            torch.set_rng_state(self._random[CPU])
            if CUDA in self._random and torch.cuda.is_available():
                torch.cuda.set_rng_state(self._random[CUDA])
        self._random = _generators()
        if self.every and step > self._start and step % self.every == 0 and state.is_world_process_zero:
            self.write(state)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        """Note that weights are about to change."""
        self.updating = True

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Note that all weights have changed."""
        self.updating = False

    def write(self, state) -> None:
        """Write weights, optimiser, schedule, generators and log after ``state.global_step`` whole steps.

        Raises StudyError when they cannot be written. ``run.json`` holds the hashes of the other files.
        """
        final = self.folder / f"step-{state.global_step}"
        try:
            with beside(final) as partial:
                self._fill(partial, state)
                replace_folder(partial, final)
        except Unwritable as error:
            raise StudyError(
                f"the checkpoint {final} cannot be written ({error.reason}): free space there, or set checkpoint_steps "
                "to 0, and run the same command again"
            ) from None
        for older in self.folder.glob("step-*"):
            if older != final:
                shutil.rmtree(older, ignore_errors=True)

    def _fill(self, folder: Path, state) -> None:
        """Write all files of a checkpoint, and last the one that makes it one."""
        self._parts["model"].save_pretrained(folder)
        state.save_to_json(str(folder / "trainer_state.json"))
        packed = self._parts["optimiser"].state_dict()
        write_tensors(folder / STATE, {**_packed(packed["state"]), **self._random})
        schedule = {k: v for k, v in self._parts["schedule"].state_dict().items() if k != "lr_lambdas"}
        facts = {"run": self.run, "groups": packed["param_groups"], "schedule": schedule, "hashes": _hashes(folder)}
        write_text(folder / FACTS, json.dumps(facts))


def _hashes(checkpoint: Path) -> dict[str, str]:
    return {file.name: sha256(file) for file in sorted(checkpoint.iterdir()) if file.name != FACTS}


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _facts(checkpoint: Path) -> dict:
    try:
        return json.loads((checkpoint / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _refuse_pickles(checkpoint: Path) -> None:
    """Raise StudyError for a pickle even beside safetensors: the Trainer would load an optimizer.pt of its own."""
    if pickles := sorted(path.name for path in checkpoint.glob("*") if path.suffix.lower() in PICKLES):
        raise StudyError(
            f"{checkpoint} holds {pickles[0]} beside its own files: loading a pickle can run code, so move it out of "
            "the folder first"
        )


def _packed(state: dict[int, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def _unpacked(tensors: dict[str, torch.Tensor], groups: list[dict]) -> dict:
    """The optimiser's state dictionary from what ``_packed`` made of it."""
    state = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        if index.isdecimal():
            state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": [{**g, "betas": tuple(g["betas"])} for g in groups]}


def _generators() -> dict[str, torch.Tensor]:
    cuda = {CUDA: torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {CPU: torch.get_rng_state(), **cuda}
