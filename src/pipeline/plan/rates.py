"""How fast this machine is: a few layers of a model's width with random weights, timed for some seconds at most.

Where such layers would take long, as in bfloat16 on a processor without it, narrower ones stand for them: what is
measured counts for each parameter.
"""

import os
import time
from collections import Counter
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.models.load import best_device
from helpers.models.precision import product_speed, resolved
from helpers.studies.sections import Precision
from pipeline.plan.sizes import Size

SAMPLE, PASS, LEAST = 2e7, 0.2, 16  # parameters of the layers, seconds of one pass, and its tokens at least
NEW_TOKENS = 4
HEAD = 0.25  # of the positions of prompts and answers that have logits
BACKWARD = 3  # times of a forward pass that a training pass takes
STEP, HASHED = 3e-9, 1e-9  # seconds of the optimiser for a parameter, and of reading and hashing a byte, on a processor


def measured(size: Size, rows: int, length: int, evaluate: Precision, train: Precision) -> Counter:
    """Seconds for each unit of ``pipeline.plan.work`` here, and of the ``start`` of a process that imports models.

    ``rows`` of ``length`` tokens are a batch; ``evaluate`` and ``train`` are the settings of autocast. Uses as many
    threads as the environment gives a process of the workflow (OMP_NUM_THREADS, or else one).
    """
    start, device = time.process_time(), best_device()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    head = size.vocabulary * size.hidden / (size.layers * size.block)  # in layers
    call, token, decoded = _passes(size, rows, length, resolved(evaluate), device)
    rates = Counter(start=start, calls=call, tokens=token * (1 + HEAD * head), decoded=decoded * (1 + head))
    if resolved(train) != resolved(evaluate):
        call, token, _ = _passes(size, rows, length, resolved(train), device)
    rates |= Counter(train_calls=BACKWARD * call, train_tokens=BACKWARD * token * (1 + head))
    rates |= Counter(train_steps=STEP * size.parameters / (50 if device == "cuda" else 1), traffic=HASHED)
    return rates | Counter(
        {name: 1 / product_speed(getattr(torch, name), 768, device) for name in ("float64", "float32")}
    )


def _passes(size: Size, rows: int, length: int, precision: Precision, device: str) -> tuple[float, float, float]:
    """Seconds of all layers for a batch whatever its size, for each of its tokens, and for a new token of every row."""
    dtype = getattr(torch, precision)
    budget = PASS * min(product_speed(dtype, n, device) for n in (128, 256)) / 2  # products of one pass
    narrow = max(1.0, (LEAST * size.block / budget) ** 0.5)
    sample = _sample(size, narrow).to(device)
    parameters = sum(p.numel() for p in sample.model.layers.parameters())
    wider, deeper = size.layers * size.block / parameters, size.layers / sample.config.num_hidden_layers

    def hidden(*shape: int) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            sample.model(torch.ones(*shape, dtype=torch.long, device=device), use_cache=False)

    with torch.inference_mode():
        most = max(LEAST, int(budget / parameters))
        batch = max(1, min(rows, most // length)), min(length, most)
        small, large = _seconds(lambda: hidden(1, 2)), _seconds(lambda: hidden(*batch))
        token = max(large - small, 0.2 * large) / (batch[0] * batch[1])
        speaker, few = sample.to(dtype), min(rows, 4 * LEAST)  # decodes with weights in that precision
        new = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
        ids = torch.ones(few, 1, dtype=torch.long, device=device)
        decoded = _seconds(lambda: speaker.generate(ids, **new)) / NEW_TOKENS * rows / few
    return max(0.0, small - 2 * token) * deeper, token * wider, decoded * (wider if max(narrow, deeper) > 1 else 1)


def _sample(size: Size, narrow: float) -> LlamaForCausalLM:
    """Some layers, ``narrow`` times less wide than the model's, with as many parameters for that; no vocabulary."""
    width, keys = max(64, round(size.hidden / narrow / 64) * 64), max(1, round(size.key_value / narrow / 64))
    inner = (size.block / narrow**2 / width - 2 * width - 128 * keys) / 3  # of three matrices
    heads = width // 64
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=max(64, int(inner)),
        num_hidden_layers=max(1, min(size.layers, int(SAMPLE / size.block))),
        num_attention_heads=heads,
        num_key_value_heads=next(n for n in range(min(keys, heads), 0, -1) if heads % n == 0),
        eos_token_id=None,
    )
    return LlamaForCausalLM(config)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of a piece of work, the best of three runs or of as many as a budget allows.

    Of the processor, where one thread does all of it: what else runs on the machine then counts little.
    """
    cuda, runs = torch.cuda.is_available(), []
    clock = time.perf_counter if cuda or torch.get_num_threads() > 1 else time.process_time
    while len(runs) < 3 and sum(runs) < 3 * PASS:
        begun = clock()
        work()
        if cuda:
            torch.cuda.synchronize()
        runs.append(clock() - begun)
    return min(runs)
