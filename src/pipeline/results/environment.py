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
    found = [_difference("python", then.get("python"), now.get("python"), of_version)]
    for name in sorted({*packages, *todays} if packages else ()):
        rule = of_shown if name in SHOWING else of_version
        found.append(_difference(name, packages.get(name, NONE), todays.get(name, NONE), rule))
    found.append(_difference("platform", then.get("platform"), now.get("platform"), of_platform))
    found.append(_difference("cpu", then.get("cpu"), now.get("cpu"), _of_names))
    if then.get("seed") is not None or "float32" in then:  # chapters over seeds compute without a model and its device
        found.append(_difference("device", then.get("device"), now.get("device"), of_device))
        found.append(_difference("float32", then.get("float32"), now.get("float32"), _of_arithmetic))
    return [difference for difference in found if difference is not None]


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


def of_shown(then: str, now: str) -> str:
    """Grade of two versions of what only draws or builds pages."""
    return SAME if then == now else COMPATIBLE


def of_platform(then: str, now: str) -> str:
    """Grade of two operating systems, such as ``Linux-6.1-x86_64``; their kind is the first word."""
    if then == now:
        return SAME
    return COMPATIBLE if then.split("-")[0] == now.split("-")[0] else MAY_DIFFER


def of_device(then: str, now: str) -> str:
    """Grade of two devices: ``cpu`` or the name of a GPU."""
    return DIFFERS if (then == "cpu") != (now == "cpu") else _of_names(then, now)


def _of_names(then: str, now: str) -> str:
    return SAME if then == now else MAY_DIFFER


def _of_arithmetic(then: str, now: str) -> str:
    return SAME if then == now else DIFFERS


def _difference(fact: str, then: str | None, now: str | None, rule) -> Difference | None:
    """A graded fact, or None where one side does not say."""
    return Difference(fact, then, now, rule(then, now)) if then and now else None
