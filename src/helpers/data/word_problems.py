"""Grade-school word problems with worked steps, from the GSM-Symbolic generators in the package ``reasoning-gym``.

Only the two modules of generators and the one of number formats are loaded, from their files: neither the package nor
anything that it depends on is installed or imported.
"""

import functools
import importlib.util
import random
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType

BROKEN = {32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98}  # by the list that the package itself keeps
PREFIX = "generate_"


def draw(
    files: list[Path], n: int, rng: random.Random, wanted: Callable[[str], bool], topics: Collection[int] = ()
) -> list[dict[str, str]]:
    """``n`` problems with distinct prompts among those that are ``wanted``; topic = number of the template.

    ``files``: as in ``registry.yml``; ``topics``: the templates to draw from, if not all. The answer is the steps, then
    ``#### <number>``; problems whose answer is negative (a few of one template's: an age below zero) are drawn again.
    """
    templates = generators(tuple(files))
    numbers = sorted(topics or templates)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        topic = rng.choice(numbers)
        problem = templates[topic](rng, 1.0)
        prompt, number = problem["question"].strip(), problem["answer"]
        if wanted(prompt) and prompt not in rows and not number.startswith("-"):
            steps, _, _ = problem["metadata"]["answer_cot"].rpartition("####")
            rows[prompt] = {"prompt": prompt, "answer": f"{steps.strip()}\n#### {number}", "topic": str(topic)}
    return list(rows.values())


def left_out(files: list[Path], topics: Collection[int] = ()) -> dict[str, int]:
    """Number of templates from which no problem is drawn, by reason."""
    harder = len(generators(tuple(files))) - len(topics) if topics else 0
    return {"broken templates": len(BROKEN)} | ({"harder templates": harder} if harder else {})


@functools.cache
def generators(files: tuple[Path, ...]) -> dict[int, Callable[[random.Random, float], dict]]:
    """Generator per template, without those known to be broken."""
    *modules, utilities = files
    package = ModuleType("reasoning_gym")
    known = {name: sys.modules.get(name) for name in ("reasoning_gym", "reasoning_gym.utils")}
    try:  # only while they are loaded do the generators need to find their package
        sys.modules["reasoning_gym"] = package
        sys.modules["reasoning_gym.utils"] = _load("reasoning_gym.utils", utilities)
        loaded = [_load(path.stem, path) for path in modules]
    finally:
        for name, module in known.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
    found = {name: value for module in loaded for name, value in vars(module).items() if name.startswith(PREFIX)}
    numbered = {int(name.removeprefix(PREFIX)): value for name, value in found.items()}
    return {number: generator for number, generator in numbered.items() if number not in BROKEN}


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
