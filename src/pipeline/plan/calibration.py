"""How fast this machine is, measured in seconds on random weights of a model's shape: some of its layers, its head.

Measured layers stand for all of them, and measured rows of the vocabulary for the whole. Nothing else is assumed of
the device: rounding, memory, dispatch and the precision of the settings are in the measurement.
"""

import copy
import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy, linear
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.studies.sections import Precision
from pipeline.plan.architectures import Architecture

SAMPLE = 2e7  # parameters in the layers that are measured, at least one layer
ROWS = 16384  # of the vocabulary that are measured
WORK = 8e10  # FLOP of one measured pass: batches are cut to that
NEW_TOKENS = 6  # generated when decoding is measured


@dataclass(frozen=True)
class Machine:
    """What a study runs on."""

    device: str  # as torch names it
    name: str
    cores: int
    memory: float  # bytes
    gpu_memory: float  # bytes; 0 without a GPU
    disk: float  # free bytes where results go


@dataclass(frozen=True)
class Shape:
    """Rows at a time and tokens in each."""

    rows: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.rows * self.length


@dataclass(frozen=True)
class Rates:
    """Seconds for each unit of ``pipeline.plan.workload.Work``, for one model on one process."""

    train_batch: float  # whatever its size
    train_token: float
    train_step: float  # of the optimiser
    batch: float
    token: float
    decode_step: float
    float64: float  # FLOP a second
    float32: float
    traffic: float  # bytes a second
    start: float  # seconds until a fresh interpreter has imported torch and transformers


def machine(results: Path) -> Machine:
    """The device that a study would run on, its memory, and the disk below ``results``."""
    existing = next(folder for folder in (results, *results.parents) if folder.exists())
    disk = float(shutil.disk_usage(existing).free)
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    cores = os.cpu_count() or 1
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Machine("cuda", found.name, cores, memory, float(found.total_memory), disk)
    return Machine("cpu", platform.processor() or platform.machine(), cores, memory, 0.0, disk)


def measure(
    model: Architecture,
    train: Shape | None,
    evaluate: Shape,
    weights: Precision,
    train_autocast: Precision,
    autocast: Precision,
    device: str,
) -> Rates:
    """Measure this machine on a model's shape; ``train`` is None where nothing is trained.

    Uses as many threads as the environment gives a process of the workflow (OMP_NUM_THREADS, or else one).
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sample = _sample(model, device)
    forward = _Forward(sample, model, evaluate, autocast, device)
    decode = forward.decode()
    whole = forward.seconds(cut := _cut(evaluate, model, device))
    step = forward.seconds(Shape(cut.rows, 1))
    token = max(whole - step, 0.2 * whole) / (cut.tokens - cut.rows if cut.length > 1 else cut.tokens)
    batch = max(step - token * cut.rows, 0.0)
    trained = (0.0, 0.0, 0.0)
    if train is not None:
        trained = _training(sample.to(getattr(torch, weights)), model, train, train_autocast, device)
    algebra = (_products(torch.float64, device), _products(torch.float32, device))
    return Rates(*trained, batch, token, decode, *algebra, _reading(), _start())


def _layers(model: Architecture) -> int:
    """Layers that are measured."""
    each = (model.parameters() - model.vocabulary * model.hidden) / model.layers
    return max(1, min(model.layers, int(SAMPLE / each)))


def _sample(model: Architecture, device: str) -> LlamaForCausalLM:
    """Some layers of the model with random weights and next to no vocabulary."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=_layers(model),
        num_attention_heads=model.heads,
        num_key_value_heads=model.key_value_heads,
        pad_token_id=0,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).to(device)


def _cut(shape: Shape, model: Architecture, device: str) -> Shape:
    """A shape with fewer rows, then shorter ones, if a pass over the measured layers would take long."""
    sampled = _layers(model) * (model.multiplied() - model.vocabulary * model.hidden) / model.layers
    most = max(16, int((100 if device == "cuda" else 1) * WORK / (6 * sampled)))
    rows = max(1, min(shape.rows, most // shape.length))
    return Shape(rows, min(shape.length, most))


def _seconds(work: Callable[[], object], device: str, least: float = 0.15) -> float:
    """Seconds of a piece of work, the fastest of two runs, or of as many as fit in ``least`` seconds.

    Of the processor where one thread does all of it: what else runs on the machine then counts little.
    """

    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter

    def timed() -> float:
        begun = clock()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - begun

    timed()
    runs = [timed()]
    while sum(runs) < least:
        runs.append(timed())
    return min([*runs, timed()])


class _Forward:
    """Passes without gradients, of the measured layers and head, as seconds of the whole model."""

    def __init__(self, sample: LlamaForCausalLM, model: Architecture, shape: Shape, autocast: Precision, device: str):
        self.sample, self.model, self.shape, self.autocast, self.device = sample, model, shape, autocast, device
        self.rows = min(ROWS, model.vocabulary)
        self.head = torch.full((self.rows, model.hidden), 0.01, device=device)
        self.layers = model.layers / sample.config.num_hidden_layers

    def seconds(self, shape: Shape) -> float:
        """One batch of prompts with given answers; logits, in float32, of one position in four."""
        ids = torch.ones(shape.rows, shape.length, dtype=torch.long, device=self.device)
        hidden = torch.ones(max(shape.rows, shape.tokens // 4), self.model.hidden, device=self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.autocast == "bfloat16"):
            blocks = self._timed(lambda: self.sample.model(ids, use_cache=False))
        head = self._timed(lambda: linear(hidden, self.head).double().log_softmax(-1))
        return blocks * self.layers + head * self._vocabulary

    def decode(self) -> float:
        """One new token for each row of a full batch, by weights in the precision that is asked for."""
        dtype = getattr(torch, self.autocast)
        speaker, head = copy.deepcopy(self.sample).to(dtype), self.head.to(dtype)
        ids = torch.ones(self.shape.rows, min(self.shape.length, 32), dtype=torch.long, device=self.device)
        hidden = torch.ones(self.shape.rows, self.model.hidden, device=self.device, dtype=dtype)
        options = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}

        def generated(n: int) -> float:
            return self._timed(lambda: speaker.generate(ids, max_new_tokens=n, min_new_tokens=n, **options))

        blocks = max(generated(1 + NEW_TOKENS) - generated(1), 0.0) / NEW_TOKENS
        return blocks * self.layers + self._timed(lambda: linear(hidden, head)) * self._vocabulary

    @property
    def _vocabulary(self) -> float:
        return self.model.vocabulary / self.rows

    def _timed(self, work: Callable[[], object]) -> float:
        with torch.inference_mode():
            return _seconds(work, self.device)


def _training(
    sample: LlamaForCausalLM, model: Architecture, shape: Shape, autocast: Precision, device: str
) -> tuple[float, float, float]:
    """Seconds of a training batch of any size, of each of its tokens, and of a step of the optimiser."""
    shape, rows = _cut(shape, model, device), min(ROWS, model.vocabulary)
    dtype, layers = sample.dtype, model.layers / sample.config.num_hidden_layers
    head = torch.full((rows, model.hidden), 0.01, device=device, dtype=dtype, requires_grad=True)
    optimiser = torch.optim.AdamW(sample.model.parameters(), lr=1e-6)

    def blocks(ids: torch.Tensor) -> None:
        sample.zero_grad()  # as training does: gradients are made anew for each batch
        with torch.autocast(device, torch.bfloat16, enabled=autocast == "bfloat16"):
            hidden = sample.model(ids, use_cache=False).last_hidden_state
        hidden.float().mean().backward()

    def loss(hidden: torch.Tensor) -> None:
        head.grad = None
        with torch.autocast(device, torch.bfloat16, enabled=autocast == "bfloat16"):
            logits = linear(hidden, head)
        cross_entropy(logits.float(), torch.ones(len(hidden), dtype=torch.long, device=device)).backward()

    def batch(tokens: Shape) -> float:
        ids = torch.ones(tokens.rows, tokens.length, dtype=torch.long, device=device)
        hidden = torch.ones(tokens.tokens, model.hidden, device=device, dtype=dtype, requires_grad=True)
        return _seconds(lambda: blocks(ids), device) * layers + _seconds(lambda: loss(hidden), device) * (
            model.vocabulary / rows
        )

    small, large = batch(Shape(1, min(4, shape.length))), batch(shape)
    token = max(large - small, 0.2 * large) / max(1, shape.tokens - min(4, shape.length))
    step = _seconds(lambda: _optimise(sample, optimiser), device)
    share = model.parameters() / sum(p.numel() for p in sample.model.parameters())
    return max(large - token * shape.tokens, 0.0), token, step * share


def _optimise(sample: LlamaForCausalLM, optimiser: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(sample.model.parameters(), 1.0)
    optimiser.step()


def _products(dtype: torch.dtype, device: str, size: int = 768) -> float:
    """FLOP a second of products of square matrices."""
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / _seconds(lambda: matrix @ matrix, device)


def _reading(size: int = 2**24) -> float:
    """Bytes a second that are hashed, which is slower than reading them."""
    data = bytes(size)
    return size / _seconds(lambda: hashlib.sha256(data).digest(), "cpu")


def _start() -> float:
    """Seconds in which a fresh interpreter imports torch and transformers, which every notebook begins with."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import torch, transformers.models.llama.modeling_llama"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
