"""Memory that runs out: how it shows, and the smaller batches that are tried before the user is asked."""

import gc
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from helpers.errors import StudyError

Result = TypeVar("Result")
CONTROL = Path("/sys/fs/cgroup")
GROUP_FILES = (  # of a control group: its limit, what is used, and what of that are files that can be read again
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the machine has no memory left."""
    import torch  # here, so that what only says a line need not wait for it

    texts = ("can't allocate memory", "not enough memory", "out of memory")
    said = isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def free_memory() -> None:
    """Give back what a run that is over held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free() -> int:
    """Bytes of memory that this process may still take: what the machine has, or a container or a job is allowed."""
    import psutil

    return max(0, min([psutil.virtual_memory().available, *map(_left_in, _groups())]))


def _groups() -> list[Path]:
    """The folders of this process's control groups of memory, of version 2 or 1, and of those around them."""
    own, found = Path("/proc/self/cgroup"), []
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):
            top = CONTROL / kinds
            inner = top / path.strip("/")
            found += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return found


def _left_in(group: Path) -> float:
    """What a control group leaves to its processes, in bytes; memory that only keeps files can be had again."""
    for limit, used, kept in GROUP_FILES:
        if (group / limit).is_file() and (text := (group / limit).read_text().strip()) != "max":
            facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            return int(text) - int((group / used).read_text()) + sum(int(facts.get(name, 0)) for name in kept)
    return math.inf


def say(line: str) -> None:
    """One line for whoever watches."""
    print(line, file=sys.stderr, flush=True)


def backing_off(batch_size: int, attempt: Callable[[int], Result]) -> Result:
    """``attempt(batch_size)``, again with half as many prompts at a time whenever memory runs out.

    Raises StudyError if it runs out with one.
    """
    while True:
        try:
            return attempt(batch_size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free_memory()  # here, where what was begun is no longer held by its exception
        if batch_size <= 1:
            raise StudyError(
                "a model does not fit in memory even with one prompt at a time: run fewer notebooks at once (CORES=1), "
                "lower max_new_tokens, or use a device with more memory"
            )
        say(f"out of memory with {batch_size} prompts at a time, goes on with {batch_size // 2}")
        batch_size //= 2


@contextmanager
def enough_to(do: str) -> Iterator[None]:
    """Raise StudyError, which says what could not be done, if memory runs out within."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise StudyError(
            f"there is not enough memory to {do}: run fewer notebooks at once (CORES=1), or use a machine with more"
        ) from None
