"""Grade-school word problems with worked steps, from the GSM-Symbolic generators in the package ``reasoning-gym``.

Only the two modules of generators and the one of number formats are loaded, from their files: neither the package nor
anything that it depends on is installed or imported.
"""

import functools
import importlib.util
import random
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType

from helpers.data import plain

BROKEN = {32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98}  # by the list that the package itself keeps
PACKAGE, PREFIX = "reasoning_gym", "generate_"


def problems(files: list[Path], rng: random.Random, topics: Collection[int] = ()) -> Iterator[dict[str, str]]:
    """Problems with distinct prompts, without end: ``prompt``, ``answer`` and ``topic``, the number of the template.

    ``files``: as in ``registry.yml``; ``topics``: the templates to draw from, if not all. The answer is the steps, then
    ``#### <number>``; problems whose answer is negative (a few of one template's: an age below zero) are drawn again.
    """
    templates = generators(tuple(files))
    numbers, seen = sorted(topics or templates), set()
    while True:
        topic = rng.choice(numbers)
        problem = templates[topic](rng, 1.0)
        prompt, number = problem["question"].strip(), problem["answer"]
        if plain(prompt) not in seen and not number.startswith("-"):
            seen.add(plain(prompt))
            steps, _, _ = problem["metadata"]["answer_cot"].rpartition("####")
            yield {"prompt": prompt, "answer": f"{steps.strip()}\n#### {number}", "topic": str(topic)}


def left_out(files: list[Path], topics: Collection[int] = ()) -> dict[str, int]:
    """Number of templates from which no problem is drawn, by reason."""
    harder = len(generators(tuple(files))) - len(topics) if topics else 0
    return {"broken templates": len(BROKEN)} | ({"harder templates": harder} if harder else {})


@functools.cache
def generators(files: tuple[Path, ...]) -> dict[int, Callable[[random.Random, float], dict]]:
    """Generator per template, without those known to be broken."""
    *modules, utilities = files
    try:  # only while they are loaded do the generators need to find their package
        sys.modules[PACKAGE] = ModuleType(PACKAGE)
        sys.modules[f"{PACKAGE}.utils"] = _load(f"{PACKAGE}.utils", utilities)
        loaded = [_load(path.stem, path) for path in modules]
    finally:
        for name in (PACKAGE, f"{PACKAGE}.utils"):
            sys.modules.pop(name, None)
    found = {name: value for module in loaded for name, value in vars(module).items() if name.startswith(PREFIX)}
    numbered = {int(name.removeprefix(PREFIX)): value for name, value in found.items()}
    return {number: generator for number, generator in numbered.items() if number not in BROKEN}


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
