"""The lock on a folder of results, which one process holds for as long as it writes there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.errors import StudyError
from helpers.paths import results_root


@contextmanager
def only_run(name: str, what: str = "") -> Iterator[None]:
    """Hold the lock of a study or card, which Snakemake inherits; the system frees it when all that hold it have died.

    Raises StudyError if another run holds it, which says ``what`` that one does.
    """
    folder = results_root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (held until the end of the run)
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({error.strerror}): free it or set SUBSPACES_RESULTS") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            what = what or f"study {name} is already being run"
            raise StudyError(f"{what} by process {holder}: wait for it or stop it") from None
        os.set_inheritable(lock.fileno(), True)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
