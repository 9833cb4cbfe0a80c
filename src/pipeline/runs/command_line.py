"""What the commands have in common: whatever goes wrong is one sentence, and the numbers that several of them take."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from helpers.errors import SettingsError, StudyError
from helpers.studies.wording import shown_value

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
MOST = 4096  # processes or threads
THREADS = "SUBSPACES_THREADS"  # the variable that `make … THREADS=` sets
SINGLE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Parser(argparse.ArgumentParser):
    """Python's parser of options, which says in one sentence what is wrong and ends with status 2."""

    def __init__(self, description: str):
        super().__init__(description=description.splitlines()[0], allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the sentence and end; a long option is not repeated whole."""
        text = " ".join(message.split())
        text = text if len(text) <= 300 else f"{text[:297]}…"
        print(f"error: {text} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def exit_status(work: Callable[[], str], stopped: str = "") -> int:
    """Do the work of a command and print the line it returns, or the sentence of a StudyError, or, after Ctrl-C, the
    one that is given."""
    try:
        print(work(), flush=True)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print(stopped, end="\n" if stopped else "", file=sys.stderr, flush=True)
        return INTERRUPTED
    return 0


def count(text: str) -> int:
    """A number of processes or threads. Raises ArgumentTypeError."""
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} must be a whole number from 1 to {MOST}")
    return int(text)


def price(text: str) -> float:
    """A price, in any currency. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{shown_value(text)} must be a number of at least 0")
    return value


def compute_as_a_batch() -> None:
    """Have this process compute with as many threads as one of a batch: another number gives other last digits.

    Raises SettingsError as ``check_threads`` does.
    """
    check_threads()
    threads = os.environ.get(THREADS) or "1"
    os.environ.update(dict.fromkeys(SINGLE, threads))  # for libraries that are yet to be loaded
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(threads))


def check_threads() -> None:
    """Raise SettingsError unless ``THREADS=`` is empty or a number of threads."""
    try:
        count(os.environ.get(THREADS) or "1")
    except argparse.ArgumentTypeError as error:
        raise SettingsError(f"THREADS {error}") from None
