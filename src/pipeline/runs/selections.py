"""Which studies a report shows: the one that was asked for, and beside it all others that have results to show.

A study shows its own results where all of its notebooks have run here, and else its published ones.
"""

from dataclasses import dataclass

from helpers import paths
from helpers.errors import SettingsError
from helpers.paths import PUBLISHED, RunPaths
from helpers.studies.settings import Study, as_published, available, load_study, parse_seeds
from pipeline.results.provenance import read_record, sidecar
from pipeline.runs.jobs import Job, jobs_of
from pipeline.runs.stages import LAST, Settings

DEFAULT = "organism"  # the study that is shown beside any other, once it has run


@dataclass(frozen=True)
class Selection:
    """A study of the report and the seeds of it that are shown, of its own results or of the published ones."""

    study: Settings
    seeds: list[int]
    published: bool = False

    def __post_init__(self) -> None:
        """Published results are shown with the settings they were made with, whatever the settings say by now."""
        if self.published:
            object.__setattr__(self, "study", as_published(self.study))

    @property
    def asked(self) -> str:
        """The seeds as they are asked for: numbers, or the word ``published``."""
        return PUBLISHED if self.published else ",".join(map(str, self.seeds))

    @property
    def command(self) -> str:
        """The command that makes the results of this selection."""
        return f"make book STUDY={self.study.name} SEEDS={self.asked}"

    @property
    def remade_by(self) -> str:
        """The command that makes all results of the study anew; of a bench also the models that it measures."""
        of = self.study.models_of if isinstance(self.study, Study) else ""
        bench = self.study.name == f"{of}-bench"
        return f"make bench-methods STUDY={of}" if bench else f"make book STUDY={self.study.name}"

    @property
    def jobs(self) -> list[Job]:
        """The runs of notebooks that make them."""
        return jobs_of(self.study, self.asked)

    @property
    def over_seeds(self) -> list[RunPaths]:
        """The folders of what is made over all seeds; published measurements come after what was made of them here."""
        folders = [RunPaths(self.study.name), RunPaths(self.study.name, published=True)]
        return folders if self.published else folders[:1]

    @property
    def runs(self) -> list[RunPaths]:
        """The folder of each seed."""
        return [RunPaths(self.study.name, seed, self.published) for seed in self.seeds]


def select(study: Settings, seeds: str = "") -> Selection:
    """A study with the seeds that are asked for. Raises SettingsError if there are none such."""
    return Selection(study, parse_seeds(seeds, study), seeds == PUBLISHED)


def with_results(study: Settings) -> Selection | None:
    """What there is to show of a study: its own results, else its published ones, else None."""
    last = LAST[study.apart][1] if isinstance(study, Study) and study.apart else "verdicts"
    record = sidecar(RunPaths(study.name).table(last))
    if record.exists():
        asked = read_record(record).get("parameters", {}).get("seeds", "")
        if asked != PUBLISHED and all(job.output.exists() for job in jobs_of(study, asked)):
            return select(study, asked)
    found = paths.published_seeds(study.name)
    return Selection(study, found, published=True) if found else None


def beside(main: Selection) -> list[Selection]:
    """The further studies of a report: published ones, the default one, those of pretrained models that ran.

    A study that is published is shown with one's own results where it has run here.
    """
    others = [found for study in _studies() if study.name != main.study.name and (found := with_results(study))]
    published = {one.study.name for one in others if paths.published_seeds(one.study.name)}
    return [one for one in others if one.study.name in {*published, DEFAULT} or one.study.kind == "pretrained"]


def not_tested(shown: list[Selection]) -> list[Study]:
    """The studies of pretrained models that a report has no results of, of those that judge the claims."""
    names = {selection.study.name for selection in shown}
    real = [study for study in _studies() if study.kind == "pretrained" and not study.apart]
    return [study for study in real if study.name not in names]


def _studies() -> list[Settings]:
    """All studies whose settings can be read, the default one first."""
    found = []
    for name in sorted(available(), key=lambda name: (name != DEFAULT, name)):
        try:
            found.append(load_study(name))
        except SettingsError:  # of a file that is being written; whoever runs it is told
            continue
    return found
