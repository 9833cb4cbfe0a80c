"""Where everything lives. Results of one study: ``results/<study>/seed-<n>`` and ``results/<study>/all``.

Published results, the tables of a study that ran elsewhere, are in ``published/<study>`` in the same folders. They are
read where ``seeds`` is the word ``published``, and nowhere else, so that own and published results never mix.
"""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the clone: this package is installed in editable mode
STUDIES = ROOT / "studies"  # one commented YAML per study
CLAIMS = ROOT / "claims.yml"  # the ledger: the paper's claims and by what they are judged
PROFILES = ROOT / "profiles"  # how jobs are started: a folder for each way
NOTEBOOKS = ROOT / "notebooks"  # the committed notebooks, without outputs
CONTROL = "planted"  # the study whose safety is separable by construction, and whose graded control gives the power
PUBLISHED = "published"  # given in place of seeds: the published tables of a study
SETTINGS = "settings.yml"  # copy of the settings that published tables were made with, beside them


def results_root() -> Path:
    """The folder of all results: ``results/`` in the clone, or ``$SUBSPACES_RESULTS`` where that is set."""
    return Path(os.environ.get("SUBSPACES_RESULTS") or ROOT / "results")


def published_root() -> Path:
    """The folder of all published results: ``published/`` in the clone, or ``$SUBSPACES_PUBLISHED``."""
    return Path(os.environ.get("SUBSPACES_PUBLISHED") or ROOT / "published")


def published_seeds(study: str) -> list[int]:
    """The seeds of which a study has published results; none where it has not been published."""
    return sorted(int(folder.name.removeprefix("seed-")) for folder in (published_root() / study).glob("seed-*"))


def cache_root() -> Path:
    """Files fetched or converted once for all studies: ``.cache/`` in the clone, or ``$SUBSPACES_CACHE``."""
    return Path(os.environ.get("SUBSPACES_CACHE") or ROOT / ".cache")


def bench_tables(table: str = "models") -> Path:
    """The folder of a table of the benchmark: of ``make bench`` on this machine, or else the published one."""
    own = results_root() / "bench" / "tables"
    return own if (own / f"{table}.csv").exists() else ROOT / "benchmarks" / "published"


def power_table() -> Path | None:
    """The table ``power`` of the graded control, of one's own or else the published one; None where it never ran.

    One's own is that of seeds run here: the chapter of published seeds only makes the published table again.
    """
    own = RunPaths(CONTROL)
    published = not any(own.root.parent.glob("seed-*")) or not own.table("power").exists()
    path = RunPaths(CONTROL, published=published).table("power")
    return path if path.exists() else None


def bench_summaries() -> dict[str, Path]:
    """The tables ``bench_summary`` by study: of seeds that were run here, or else the published one."""
    found = {path.parents[2].name: path for path in published_root().glob("*/all/tables/bench_summary.csv")}
    own = results_root().glob("*/all/tables/bench_summary.csv")
    found |= {path.parents[2].name: path for path in own if any(path.parents[2].glob("seed-*"))}
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class RunPaths:
    """The folders of one seed of a study, or of all seeds together (``seed=None``); own results or published ones.

    ``apart``: name of a folder in place of that of all seeds, for what is tried by hand.
    """

    study: str
    seed: int | None = None
    published: bool = False
    apart: str = ""

    @property
    def root(self) -> Path:
        """``results/<study>/seed-<n>`` or ``results/<study>/all``, or the same below ``published/``."""
        folder = published_root() if self.published else results_root()
        return folder / self.study / ((self.apart or "all") if self.seed is None else f"seed-{self.seed}")

    def model(self, name: str) -> Path:
        """Folder of a model: ``config.json``, ``model.safetensors`` and the tokenizer."""
        return self.root / "models" / name

    def table(self, name: str) -> Path:
        """A tidy CSV table; its provenance is beside it as ``<name>.json``."""
        return self.root / "tables" / f"{name}.csv"

    def array(self, name: str) -> Path:
        """Arrays too large for a table, as safetensors; their provenance is beside them as ``<name>.json``."""
        return self.root / "arrays" / f"{name}.safetensors"

    def scratch(self, name: str) -> Path:
        """Folder of what a run keeps only until it has ended, such as the checkpoints of a training."""
        return self.root / "scratch" / name

    def notebook(self, name: str) -> Path:
        """An executed notebook."""
        return self.root / "notebooks" / f"{name}.ipynb"
