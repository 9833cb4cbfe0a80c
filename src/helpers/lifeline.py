"""Processes that end when the one they work for has ended, however it ended: nothing computes on behind a killed run.

The kernel of a notebook looks after itself: ipykernel ends when the process that started it has.
"""

import os
import signal
import threading
import time
from contextlib import suppress

import psutil

WORKFLOW = "SUBSPACES_WORKFLOW"  # number of the process whose job a notebook is
BUILD = "SUBSPACES_BUILD"  # of the `pipeline.build` that a Snakemake works for
INTERVAL = 0.2  # seconds between two looks


def end_with(process: int | str | None) -> None:
    """Kill this process as soon as that one is gone, at once if it is; nothing happens without a number."""
    if process:
        try:
            threading.Thread(target=_wait, args=(psutil.Process(int(process)),), daemon=True).start()
        except psutil.NoSuchProcess:
            _end()


def _wait(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:  # ended, though nobody has asked how
            time.sleep(INTERVAL)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
