"""CPU seconds and peak memory of a piece of work in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
REPEAT_BELOW = 0.5  # seconds under which a piece of work is repeated


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    seconds: float  # CPU time of the process; one thread, so also the time on an idle machine
    peak: float  # MiB of resident memory above what was resident before; NaN where /proc cannot tell
    result: object


def cost(work: Callable[[], object]) -> Cost:
    """Do the work once."""
    before = _resident()
    start = time.process_time()
    result = work()
    seconds = time.process_time() - start
    return Cost(seconds, _status("VmHWM") - before, result)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of the work; the mean of several runs where one is short."""
    first = cost(work).seconds
    if first > REPEAT_BELOW:
        return first
    runs = max(1, min(20, int(REPEAT_BELOW / max(first, 1e-4))))
    start = time.process_time()
    for _ in range(runs):
        work()
    return (time.process_time() - start) / runs


def _resident() -> float:
    """Resident memory now, from which the peak is counted anew."""
    if not RESET.exists():
        return float("nan")
    RESET.write_text("5")
    return _status("VmRSS")


def _status(key: str) -> float:
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024
