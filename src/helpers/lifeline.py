"""Processes that end when the one they work for has ended, however it ended: nothing computes on behind a killed run.

The kernel of a notebook looks after itself: ipykernel ends when the process that started it has.
"""

import os
import select
import signal
import threading
import time

WORKFLOW = "SUBSPACES_WORKFLOW"  # process number of the Snakemake whose job a notebook is
BUILD = "SUBSPACES_BUILD"  # of the `pipeline.build` that a Snakemake works for
KERNEL = "SUBSPACES_KERNEL"  # of the notebook that training processes work for
INTERVAL = 1.0  # seconds between two looks, where the system cannot tell


def end_with(process: int | str | None) -> None:
    """Kill this process as soon as that one is gone, at once if it is; nothing happens without a number."""
    if not process:
        return
    try:
        handle = os.pidfd_open(int(process))
    except ProcessLookupError:
        _end()
    except (AttributeError, OSError):  # not Linux, or too old a kernel
        handle = None
    threading.Thread(target=_wait, args=(int(process), handle), daemon=True).start()


def _wait(process: int, handle: int | None) -> None:
    if handle is not None:
        gone = select.poll()
        gone.register(handle, select.POLLIN)
        while not gone.poll():
            continue
    else:
        while _alive(process):
            time.sleep(INTERVAL)
    _end()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, so it lives
        return True
    return True


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
