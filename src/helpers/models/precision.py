"""The precision that ``autocast: auto`` stands for on this machine: bfloat16 only where it is clearly faster.

A processor without bfloat16 instructions computes such products up to 90 times slower than float32 ones, so both are
measured, on small matrices first, in a tenth of a second.
"""

import functools
import time

import torch

from helpers.memory import say
from helpers.studies.values import Precision

SIZES = (128, 256, 512)  # of the square matrices, from the smallest
CLEARLY = 1.2  # times as fast as float32 that bfloat16 must be
HOPELESS = 0.25  # times as fast as float32, below which no larger matrix is tried
SECONDS = 0.03  # of products with each precision and size, at least two of them


def resolved(autocast: Precision) -> Precision:
    """``float32`` or ``bfloat16``: what a setting of ``autocast`` means on this machine, measured once a process."""
    return _measured()["autocast"] if autocast == "auto" else autocast


def chosen() -> dict[str, str | float]:
    """What ``auto`` was taken for in this process and the speeds it rests on, for the provenance; {} if not asked."""
    return dict(_measured()) if _measured.cache_info().currsize else {}


def faster(float32: float, bfloat16: float) -> Precision:
    """``bfloat16`` if its speed is at least 1.2 times that of float32, else ``float32``."""
    return "bfloat16" if bfloat16 >= CLEARLY * float32 else "float32"


def product_speed(dtype: torch.dtype, size: int, device: str = "cpu", least: float = SECONDS) -> float:
    """FLOP a second of products of square matrices, the best of at least two and of as many as ``least`` s hold.

    In seconds of the processor where one thread works: what else runs on the machine then counts little.
    """
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    matrix = torch.ones(size, size, dtype=dtype, device=device)

    def timed() -> float:
        begun = clock()
        matrix @ matrix
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - begun

    timed()  # the first prepares the kernel
    runs = [timed(), timed()]
    while sum(runs) < least:
        runs.append(timed())
    return 2 * size**3 / min(runs)


@functools.cache
def _measured() -> dict[str, str | float]:
    """Choose, and say so in one sentence: by the device's word on a GPU, by the clock on a processor."""
    if torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bfloat16" if able else "float32"
        say(f"autocast auto: {precision}, because the GPU has {'' if able else 'no '}bfloat16 arithmetic")
        return {"autocast": precision}
    for size in SIZES:
        float32, bfloat16 = (product_speed(dtype, size) / 1e9 for dtype in (torch.float32, torch.bfloat16))
        if bfloat16 < HOPELESS * float32:
            break
    precision = faster(float32, bfloat16)
    say(
        f"autocast auto: {precision}, because this processor computes {bfloat16:.3g} GFLOP/s in bfloat16 "
        f"and {float32:.3g} in float32"
    )
    return {"autocast": precision, "bfloat16_gflops": round(bfloat16, 2), "float32_gflops": round(float32, 2)}
