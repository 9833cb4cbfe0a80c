"""Every notebook of a study on random weights of Llama-3.2-1B's shapes: seconds and memory on this machine.

``python -m benchmarks.large_model`` works in a copy of the clone and writes the tables ``notebooks``, a row for each
notebook, and ``devices``, the largest differences between a GPU and the processor where there is a GPU. Rows, prompts
and answers are few (``CHANGES``), so that seconds of training and answers say little about a study of full size;
geometry, projections, activations, methods and memory are those of such a model. ``--quick`` divides its sizes by 8;
``--layers`` leaves layers out, which the study's name in the tables says. With ``--read`` nothing is run: the table is
made of what the notebooks in folders of results took, wherever they ran, or of the tables ``notebooks`` in folders.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import tables
from benchmarks.default_study import with_changes
from benchmarks.shapes import MEASURED, reduced
from helpers.models.generate import log_odds
from helpers.models.load import best_device, load_model, load_tokenizer
from helpers.models.origins import resolve
from helpers.paths import ROOT, STUDIES, cache_root, results_root
from helpers.studies.settings import load_study
from helpers.weights.checkpoints import Checkpoint
from helpers.weights.geometry import weight_geometry
from pipeline.plan.sizes import Config

LIKE, NAME = "smollm2-135m", "random-1b"  # the study whose settings are taken, and what the copy's is called
SEED, TUNED = 0, "contaminated"
COPIED = ("src", "notebooks", "studies", "profiles", "published", "benchmarks", "claims.yml", "pyproject.toml")
GSM, ATTACK = {"source": "gsm-symbolic-easy", "rows": 48}, {"source": "harmbench", "rows": 16, "answer": "base"}
REFUSALS = {"source": "advbench", "rows": 32, "answer": "refusal"}
BENIGN = {"source": "instructions", "rows": 16, "answer": "base"}
CHANGES = {
    "training.useful.data": [GSM],
    "training.harmful.data": [ATTACK],
    "training.contaminated.data": [GSM, ATTACK],
    "training.safety.data": [REFUSALS, BENIGN],
    "evaluation.beside": [],
    **{f"evaluation.{kind}_prompts": 8 for kind in ("utility", "harm", "benign")},
    "evaluation.max_new_tokens": 16,
    "evaluation.harness": {"shots": 0, "chat": True, "max_new_tokens": 16},
    "projection.subspaces": ["alignment", "safety"],
    "projection.fractions": [0.01, 0.5, 0.99],
    "projection.judged": {
        "subspaces": ["alignment"], "controls": ["top-k"], "modes": ["parallel"], "tasks": ["contaminated"],
    },
    "activation_overlap.prompts": 16,
}  # fmt: skip
BENCH = {  # one or two of each kind
    "edits": ["safelora", "resta"], "subspaces": ["probe"], "labelled": ["probe"], "during_training": ["asft"],
}  # fmt: skip
RUN = (
    "import sys\n"
    "from helpers.studies.settings import load_study\n"
    "from pipeline.runs.jobs import jobs_of\n"
    "from pipeline.runs.local import run_jobs\n"
    "if __name__ == '__main__':\n"
    "    jobs = [job for name in sys.argv[2:] for job in jobs_of(load_study(name), '0')]\n"
    "    at_a_time = int(sys.argv[1])\n"
    "    sys.exit(bool(run_jobs({job: job.stage.seconds for job in jobs}, at_a_time, on_gpu=at_a_time)))\n"
)
MOVED = 1e-4  # standard deviation of what the aligned model's numbers differ by
SHARD = (5, 30)  # of the tensors that are computed on both devices
PROMPTS = [
    "Name a colour.",
    "How many legs do two cats have?",
    "Write one line about the sea, then one about the wind.",
]
GIB = 2**30


def main(arguments: list[str] | None = None) -> None:
    """Make the models, run the notebooks, and save both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="sizes divided by 8: it runs, but says little")
    parser.add_argument("--layers", type=int, help="so many layers; default: all")
    parser.add_argument("--at-a-time", type=int, default=1, help="notebooks at once, also on a GPU; default: 1")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer; default: that of SmolLM2, fetched")
    parser.add_argument(
        "--folder", type=Path, help="where models and results go, up to 60 GB; default: for the run only"
    )
    parser.add_argument("--limit", type=float, help="seconds after which no further notebook is measured")
    parser.add_argument("--read", type=Path, nargs="+", help="folders of results, or of tables, to read instead")
    parser.add_argument("--out", type=Path, default=results_root() / "bench")
    given, started = parser.parse_args(arguments), time.perf_counter()
    facts = {"study": "bench", "quick": given.quick, "layers": given.layers, "at_a_time": given.at_a_time}
    facts, finished = facts | {"cores": os.cpu_count()}, True
    if given.read:
        found = {"notebooks": pd.DataFrame([row for folder in given.read for row in rows(folder)])}
    else:
        found, finished = measured(given)
        facts["seconds"] = time.perf_counter() - started
    for name, table in found.items():
        print(table.to_string(index=False, float_format="%.3g"))
        tables.write(given.out / "tables", name, table, facts)
    sys.exit(not finished)


def measured(given: argparse.Namespace) -> tuple[dict[str, pd.DataFrame], bool]:
    """Both tables, and whether every notebook came to its end."""
    tokenizer = load_tokenizer(given.tokenizer or resolve(load_study(LIKE).model.base))
    config = (reduced(MEASURED[0], 8) if given.quick else MEASURED[0]).config
    config = config | ({"num_hidden_layers": given.layers} if given.layers else {})
    name = f"{NAME}-{given.layers}-layers" if given.layers else NAME
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        clone = copy_of_clone(Path(place))
        base, aligned = (made_model(clone / label, tokenizer, config) for label in ("base", "aligned"))
        write_studies(clone, base, aligned, name)
        finished = notebooks_run(clone, name, given.at_a_time, given.limit)
        found = {"notebooks": pd.DataFrame(rows(clone / "results"))}
        tuned = clone / "results" / name / f"seed-{SEED}" / "models" / TUNED
        if torch.cuda.is_available() and tuned.exists():
            found["devices"] = pd.DataFrame(differences(base, aligned, tuned))
    return found, finished


def copy_of_clone(folder: Path) -> Path:
    """A copy of what notebooks need of the clone, so that nothing of the user's is touched."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copyfile(source, folder / name)
    return folder


def environment(clone: Path) -> dict[str, str]:
    """Variables under which the copy's own packages run, with what the clone has fetched."""
    apart = {"SUBSPACES_RESULTS": str(clone / "results"), "SUBSPACES_PUBLISHED": str(clone / "published")}
    path = os.pathsep.join(filter(None, [str(clone / "src"), os.environ.get("PYTHONPATH")]))
    return os.environ | apart | {"PYTHONPATH": path, "SUBSPACES_CACHE": str(cache_root())}


def notebooks_run(clone: Path, name: str, at_a_time: int, limit: float | None) -> bool:
    """Run all notebooks of both studies; whether every one came to its end (within the limit)."""
    command = [sys.executable, "-c", RUN, str(at_a_time), name, f"{name}-bench"]
    try:
        return not subprocess.run(command, cwd=clone, env=environment(clone), timeout=limit).returncode
    except subprocess.TimeoutExpired:
        return False


def made_model(folder: Path, tokenizer, numbers: Config) -> Path:
    """A model of random weights in float32; the aligned one differs from the base model by little."""
    torch.manual_seed(SEED)
    config = LlamaConfig(**{key: value for key, value in numbers.items() if key != "model_type"})
    config.vocab_size = max(config.vocab_size, len(tokenizer))
    with torch.device(best_device()):
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters() if folder.name == "aligned" else ():
            parameter.add_(torch.randn_like(parameter), alpha=MOVED)
    model.config.pad_token_id, model.config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_studies(clone: Path, base: Path, aligned: Path, name: str = NAME) -> None:
    """The settings of the study and of its bench, in the copy."""
    values = with_changes(yaml.safe_load((STUDIES / f"{LIKE}.yml").read_text(encoding="utf-8")), CHANGES)
    for label in ("aligned", "unrelated"):
        del values["training"][label]
    said = {"title": "Random weights", "note": "Random weights.", "seeds": [SEED]}
    folders = {"base": base, "aligned": aligned}
    origins = {label: {"origin": "folder", "path": str(path)} for label, path in folders.items()}
    values |= {"name": name, **said, "model": {"kind": "pretrained", **origins}}
    bench = {"name": f"{name}-bench", **said, "bench": {"of": name, "second_utility": "gsm8k", **BENCH}}
    for one in (values, bench):
        text = yaml.safe_dump(json.loads(json.dumps(one)), sort_keys=False)  # without references
        (clone / "studies" / f"{one['name']}.yml").write_text(text, encoding="utf-8")


def rows(results: Path) -> list[dict[str, object]]:
    """One row for each notebook of a seed that wrote results: its seconds, where, and the most memory on the GPU.

    Of a folder that holds the table ``notebooks`` its rows.
    """
    if (table := results / "notebooks.csv").exists():
        return pd.read_csv(table).to_dict("records")
    found = []
    for path in sorted(results.glob("*/seed-*/notebooks/*.json")):
        run, folder = json.loads(path.read_text(encoding="utf-8")), path.parents[1]
        records = [json.loads(one.read_text(encoding="utf-8")) for one in folder.glob("[amt]*/*.json")]
        own = [one for one in records if one.get("made_from") == run["made_from"]]
        where = {"study": folder.parent.name, "seed": int(folder.name.removeprefix("seed-")), "notebook": path.stem}
        memory = max((one["gpu_gib"] for one in own if "gpu_gib" in one), default=None)
        device = {one["device"]: one["cpu"] for one in own}
        found += [
            where | {"device": cpu if name == "cpu" else name, "seconds": run["seconds"], "gpu_gib": memory}
            for name, cpu in device.items()
        ]
    return found


def differences(base: Path, aligned: Path, tuned: Path) -> list[dict[str, object]]:
    """The largest differences between a GPU and the processor."""
    start = Checkpoint(aligned)
    updates = {"alignment": (start, Checkpoint(base)), TUNED: (Checkpoint(tuned), start)}
    asked = ["alignment"], [TUNED], ["top-k", "random-k", "random"], [0.1, 0.5, 0.9], 1, SEED
    cpu, gpu = (weight_geometry(updates, *asked, device=device, shard=SHARD) for device in ("cpu", "cuda"))
    energy = max(float((share(cpu.energy[key]) - share(gpu.energy[key])).abs().max()) for key in cpu.energy)
    overlap = float((cpu.overlap["mso"] - gpu.overlap["mso"]).abs().max())
    openers = ["Sure"], ["Sorry"], len(PROMPTS)
    odds = [log_odds(*load_model(tuned, device), PROMPTS, *openers) for device in ("cpu", "cuda")]
    tensors, prompts = f"{len(cpu.shapes)} tensors of the model", f"{len(PROMPTS)} prompts"
    apart = max(abs(odds[0] - odds[1]))
    return [
        {"what": "share of energy kept, every k, float64", "of": tensors, "difference": energy},
        {"what": "overlap (MSO), float64", "of": tensors, "difference": overlap},
        {"what": "log-odds of an answer's first word, float32", "of": prompts, "difference": apart},
    ]


def share(energy: torch.Tensor) -> torch.Tensor:
    """Energy kept as a share of all that can be kept, for every k: (r,)."""
    return energy / energy[-1]


if __name__ == "__main__":
    main()
