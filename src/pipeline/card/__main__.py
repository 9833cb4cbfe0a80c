"""A report card of fine-tunes: ``python -m pipeline.card --base B --aligned A --tuned "mine=T"`` makes one page.

``python -m pipeline.card write CARD TASK EDIT OUT`` writes the model of a defence.
"""

import os
import sys
from pathlib import Path

import torch

from helpers.errors import StudyError
from helpers.experiments.card_variants import variants_of
from helpers.experiments.own_models import own_folders, starts
from helpers.memory import say
from helpers.models.load import load_tokenizer
from helpers.studies.sections import Origin
from helpers.studies.settings import OwnModels
from helpers.studies.wording import validate
from helpers.weights.folders import is_adapter
from pipeline.card.arguments import card_study, settings
from pipeline.card.estimate import estimate
from pipeline.card.make import make
from pipeline.card.page import write_page, write_pdf
from pipeline.card.record import Card, open_card
from pipeline.card.write import write
from pipeline.plan.sizes import Size, config_of, exact
from pipeline.runs.command_line import THREADS, Parser, count, exit_status
from pipeline.runs.lock import only_run
from pipeline.runs.notebook import quiet

MOST = 8  # threads, unless THREADS= asks for others: small models gain nothing from more
MARGINS = {"utility_prompts": 2, "harm_prompts": 2, "batch_size": 1}
PROVISIONAL = {"evaluation": MARGINS | {"compliance_openers": ["a"], "refusal_openers": ["b"]}}  # until more is known


def card_of(base: str, aligned: str, tuned: str, prompts: int) -> tuple[Card, dict[str, Path], Size | None]:
    """The card for some arguments, not yet measured, with the folders and the size of its models.

    Raises StudyError for models that are not there, or cannot be compared.
    """
    models = settings(base, aligned, tuned)
    real = {"utility": "gsm-symbolic-easy", "harm": "advbench"}
    first = models | {"evaluation": PROVISIONAL["evaluation"] | real}
    first |= {"geometry": {"fractions": [0.1], "energy_fractions": [0.5]}}
    study = validate(OwnModels, first, "the card's arguments")
    folders = own_folders(study)
    size = exact(config_of(Origin(origin="folder", path=str(folders["base"]))))  # where it lies now, whatever was given
    readers = [load_tokenizer(folder, *starts(name, folders)) for name, folder in folders.items() if name != "base"]
    return Card(card_study(models, readers, size.parameters if size else 0, prompts)), folders, size


def announce(card: Card, folders: dict[str, Path], size: Size | None) -> float | None:
    """Say what the card will take; returns the seconds, None where they cannot be told."""
    if size is None:
        say("the size of this family of models cannot be told from its config.json, so there is no estimate; it runs")
        return None
    full = sum(not is_adapter(folders[name]) for name in card.study.tuned)
    found = estimate(card.study, size, len(variants_of(card.study)), full)
    s, minutes = card.study.evaluation, found["seconds"] / 60
    say(
        f"{size.parameters / 1e6:.0f}M parameters, {s.harm_prompts} prompts for refusals and {s.utility_prompts} for "
        f"margins, style {s.style}: about {minutes:.1f} minutes at the speed just measured, "
        f"{found['memory'] / 1e9:.1f} GB of memory and {found['disk'] / 1e9:.1f} GB of disk for models "
        "that are removed again"
    )
    return found["seconds"]


def made(base: str, aligned: str, tuned: str, prompts: int) -> str:
    """Make a card and its page; returns the line that says where. Raises StudyError if another run makes it."""
    threads = os.environ.get(THREADS) or str(min(MOST, os.cpu_count() or 1))
    os.environ["OMP_NUM_THREADS"] = threads  # of the libraries, and of the measurement of this machine
    torch.set_num_threads(int(threads))
    quiet()
    say("looking at the models and timing this machine for some seconds")
    card, folders, size = card_of(base, aligned, tuned, prompts)
    with only_run(card.study.name, "this card is already being made"):
        card.save()
        expected = announce(card, folders, size)
        notes = make(card, folders, expected)
        for name, reason in notes["failed"].items():
            say(f"{name} was not measured: {reason}")
        card.note(notes | {"expected_seconds": expected and round(expected)})
        page = write_page(card)
        pdf = write_pdf(card)
    how = f"and {pdf}" if pdf else "(no Chromium was found here: print it to a PDF from your browser)"
    return f"card: {page} {how}"


def written(arguments: list[str]) -> str:
    """Write an edited model; returns the line that says where it is."""
    parser = Parser("Write a fine-tune after a defence, with a model card.")
    for name in ("card", "task", "edit", "out"):
        parser.add_argument(name)
    given = parser.parse_args(arguments)
    card = open_card(given.card)
    out = write(card, own_folders(card.study), given.task, given.edit, Path(given.out).expanduser())
    return f"written: {out} (README.md says what it is)"


def prompts_of(text: str) -> int:
    """A number of prompts, 0 for the default."""
    return 0 if text == "0" else count(text)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["write"]:
        return exit_status(lambda: written(arguments[1:]))
    parser = Parser(__doc__)
    for name, what in (("base", "the pretrained model"), ("aligned", "what alignment made of it")):
        parser.add_argument(f"--{name}", required=True, help=what)
    parser.add_argument("--tuned", required=True, help='fine-tunes of the aligned model: a path, or "name=path b=path"')
    parser.add_argument("--prompts", type=prompts_of, default=0, help="of each kind; default: by size")
    given = parser.parse_args(arguments)

    def work() -> str:
        missing = [name for name in ("base", "aligned", "tuned") if not getattr(given, name).strip()]
        if missing:
            what = missing[0].upper()
            raise StudyError(f"{what} is not given: make card BASE=… ALIGNED=… TUNED=…, each a folder or id@commit")
        return made(given.base, given.aligned, given.tuned, given.prompts)

    return exit_status(work, "stopped: the same command goes on where it was; what was measured is kept")


if __name__ == "__main__":
    sys.exit(main())
