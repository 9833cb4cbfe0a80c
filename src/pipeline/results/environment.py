"""How far today's environment departs from the one that made a result, graded by a fixed rule.

The rule is on the page on provenance, ``book/provenance.md``. *May differ*: running again may give other numbers.
*Differs*: the same numbers are not to be expected. What a record does not say is not graded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from pipeline.results import provenance

SAME, COMPATIBLE, MAY_DIFFER, DIFFERS = GRADES = ("same", "compatible", "may differ", "differs")
SHOWING = {"matplotlib", "seaborn", "papermill", "jupyter-book", "snakemake"}  # no number depends on them
NONE = "none"


@dataclass(frozen=True)
class Difference:
    """One fact of an environment: when the result was made, now, and the grade of the difference."""

    fact: str
    then: str
    now: str
    grade: str


def today() -> dict:
    """The environment of this process, with its device, as a record of a result has it."""
    import torch  # noqa: F401 - the device is asked of it; here, because it takes seconds

    provenance.environment.cache_clear()
    return provenance.environment()


def worst(grades: Iterable[str]) -> str:
    """The grade of a whole, from those of its parts; of nothing it is ``same``."""
    return max(grades, key=GRADES.index, default=SAME)


def differences(then: Mapping, now: Mapping) -> list[Difference]:
    """Each fact that a record holds beside today's, with its grade."""
    packages, todays = then.get("packages", {}), now.get("packages", {})
    names = sorted({*packages, *todays}) if packages else []
    facts = [("python", then.get("python"), now.get("python"))]
    facts += [(name, packages.get(name, NONE), todays.get(name, NONE)) for name in names]
    computed = then.get("seed") is not None or "float32" in then  # a chapter over seeds uses no model and no device
    others = ("platform", "cpu", "device", "float32") if computed else ("platform", "cpu")
    facts += [(fact, then.get(fact), now.get(fact)) for fact in others]
    return [Difference(fact, a, b, grade(fact, a, b)) for fact, a, b in facts if a and b]


def grade(fact: str, then: str, now: str) -> str:
    """Grade of a fact (or package) that was ``then`` and is ``now``, such as ``Linux-6.1-x86_64`` of a platform."""
    if then == now:
        return SAME
    match fact:
        case "platform":
            return COMPATIBLE if then.split("-")[0] == now.split("-")[0] else MAY_DIFFER
        case "cpu":
            return MAY_DIFFER
        case "device":  # cpu, or the name of a GPU
            return DIFFERS if "cpu" in (then, now) else MAY_DIFFER
        case "float32":
            return DIFFERS
    return COMPATIBLE if fact in SHOWING else of_version(then, now)


def of_version(then: str, now: str) -> str:
    """Grade of two versions of what computes."""
    if then == now:
        return SAME
    try:
        one, other = Version(then), Version(now)
    except InvalidVersion:
        return DIFFERS
    if (one.epoch, one.major) != (other.epoch, other.major):
        return DIFFERS
    return MAY_DIFFER if one.minor != other.minor or one.pre != other.pre or one.dev != other.dev else COMPATIBLE
