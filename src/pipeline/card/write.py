"""The edited model of a card, written for use: whole, or as an adapter where the fine-tune is one. Defences only."""

import json
from pathlib import Path

from torch import Tensor

from helpers.errors import SettingsError, StudyError
from helpers.experiments.card_variants import CardContext
from helpers.files import beside, replace_folder, write_text
from helpers.methods.door import Edit, edit_named
from helpers.studies.doors import tenants
from helpers.weights.adapters import Adapted
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.written import write_adapter, write_model
from pipeline.card.record import Card, weights_of


def chosen(text: str) -> tuple[Edit, float]:
    """An edit and the place of its dial from ``orthogonal:0.5``. Raises SettingsError unless it is a defence."""
    name, _, dial = text.partition(":")
    edit = writable(edit_named(name))
    try:
        place = float(dial) if dial else edit.dials[len(edit.dials) // 2]
    except ValueError:
        raise SettingsError(f"the dial {dial!r} of edit {name!r} is no number: say {name}:0.5") from None
    if edit.name == "scaling" and not 0 <= place <= 1:
        what = "which a step from the aligned (0) to the fine-tuned model (1) has not"
        raise SettingsError(f"the dial of edit {name!r} is {place:g}, {what}: say one between, such as {name}:0.5")
    return edit, place


def writable(edit: Edit) -> Edit:
    """The same edit. Raises SettingsError unless it is a defence that cards measure."""
    if edit.kind == "defence" and edit.card:
        return edit
    what = f"is an {edit.kind}" if edit.kind else 'has no kind="defence" in its decorator'
    what = what if edit.card else "is of the bench, which no report card measures"
    known = [edit_named(name) for name in tenants("methods", "edit")]
    others = ", ".join(one.name for one in known if one.kind == "defence" and one.card)
    raise SettingsError(f"edit {edit.name!r} {what}, so it is never written: choose one of {others}")


def write(card: Card, folders: dict[str, Path], task: str, text: str, out: Path) -> Path:
    """Write a fine-tune of the card after an edit to the folder ``out``, with a model card; returns it.

    Raises StudyError for an attack, a fine-tune that the card has not, a folder that is there already, a card that is
    not finished, or models that are no longer those that it measured.
    """
    edit, dial = chosen(text)
    if task not in card.study.tuned:
        raise SettingsError(f"the card has no fine-tune {task!r}: it has {', '.join(card.study.tuned)}")
    if out.exists():
        raise StudyError(f"{out} is there already: name a new folder with OUT=…")
    checkpoints = {name: Checkpoint(folder) for name, folder in folders.items()}
    _check_unchanged(card, {name: checkpoints[name] for name in ("base", "aligned", task)})
    context = CardContext(card.study, checkpoints)
    readme = model_card(card, task, edit, dial, context.left(task))
    aligned, tuned = (context.checkpoints[name] for name in ("aligned", task))

    def edited(name: str) -> Tensor | None:
        return context.edited(task, edit, dial, name)

    def changed(name: str) -> Tensor | None:
        tensor = edited(name)
        return None if tensor is None else tensor - aligned.tensor(name).double()

    with beside(out) as partial:
        if isinstance(tuned, Adapted):
            write_adapter(tuned, changed, partial)
        else:
            write_model(tuned, edited, partial)
        write_text(partial / "README.md", readme)
        replace_folder(partial, out)
    return out


def _check_unchanged(card: Card, checkpoints: dict[str, Checkpoint]) -> None:
    """Raise StudyError, naming the model, if the weights of one are no longer those of which the card says its numbers.

    A card that is not finished raises MissingInput.
    """
    measured = card.read("card_models").set_index("model")["sha256"]
    for name, checkpoint in checkpoints.items():
        if weights_of(checkpoint) != measured[name]:
            raise StudyError(f"{name} in {checkpoint.folder} has changed since the card was made: make the card again")


def model_card(card: Card, task: str, edit: Edit, dial: float, left: list[str]) -> str:
    """What the written model is, how it was made and what was measured of it, as a model card of the hub."""
    models = card.read("card_models").set_index("model")
    measured = card.read("card_edits").query("task == @task and edit == @edit.name and dial == @dial")
    lines = ["---", f"base_model: {json.dumps(models.loc[task, 'origin'])}", "tags: [safety, edited]", "---"]
    lines += [f"# {task} after {edit.name} at {dial:g}", ""]
    lines += [f"{tenants('methods', 'edit')[edit.name].summary} Made from the card `{card.study.name}`:", ""]
    lines += [f"- {name}: `{row['origin']}`, sha256 {row['sha256']}" for name, row in models.iterrows()]
    lines += [f"- {len(left)} tensors were left as fine-tuned: {', '.join(left[:3])}"] if left else []
    numbers = measured.iloc[0].drop(["task", "edit", "kind", "dial"]).dropna() if len(measured) else {}
    lines += ["", "| measured by the card | mean |", "| --- | --- |"]
    lines += [f"| {name} | {value:.4g} |" for name, value in dict(numbers).items()]
    said = "" if len(measured) else "This place of the dial was not measured by the card. "
    lines += ["", f"{said}Margins are in nats. Measure it again with `make card … TUNED=` this folder before any use."]
    return "\n".join([*lines, ""])
