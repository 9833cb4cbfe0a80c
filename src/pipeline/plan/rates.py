"""How fast this machine is: products, a linear layer, and the calls of a tiny model, timed for a second or two."""

import os
import time
import timeit
from collections import Counter
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.models.load import best_device
from helpers.models.precision import product_speed, resolved
from helpers.studies.settings import OwnModels, Study
from helpers.training.answers import LARGE
from pipeline.plan.sizes import Size

WIDTH, TOKENS = {"cpu": 2048, "cuda": 8192}, 64  # of a linear layer, and through it
LAYERS, NEW_TOKENS = 8, 8  # of the tiny model, and of its answer
BACKWARD = 3  # times of a forward pass that a training pass takes
CHECKPOINTING = 4 / 3  # times as long that it takes if it computes its activations twice and does not keep them
READ = 0.4  # of the tokens, after which logits are read
STEP, HASHED = 3e-9, 1e-9  # seconds of the optimiser for a parameter, and of reading and hashing a byte, on a processor


def measured(study: Study | OwnModels, size: Size) -> Counter:
    """Seconds here for each unit of ``pipeline.plan.work``, and of the ``start`` of a process that imports models.

    A pass calls each layer and reads all weights, whatever the batch; each token is multiplied with all of them, with
    those of the head only where logits are read (training with a small vocabulary reads all). Uses as many threads as
    the environment gives a process of the workflow (OMP_NUM_THREADS, or else one).
    """
    start, device, s = time.process_time(), best_device(), study.evaluation
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    rule = study.training.optimiser if isinstance(study, Study) else None
    backward = BACKWARD * (CHECKPOINTING if rule and rule.gradient_checkpointing else 1)
    rates = Counter(start=start, traffic=HASHED, train_steps=STEP * size.parameters / (50 if device == "cuda" else 1))
    for unit in ("float64", "float32"):
        rates[unit] = 1 / product_speed(getattr(torch, unit), 768, device)
    layer, generating = _calls(device)
    for kind, times, precision in (("train_", backward, rule.autocast if rule else s.autocast), ("", 1, s.autocast)):
        dtype = getattr(torch, resolved(precision))
        reading, token = (size.multiplied * _weight(n, dtype, device) / n for n in (1, TOKENS))
        whole = kind and size.vocabulary < LARGE
        share = 1.0 if whole else 1 - (1 - READ) * size.vocabulary * size.hidden / size.multiplied
        rates[f"{kind}tokens"], rates[f"{kind}calls"] = times * token * share, times * (size.layers * layer + reading)
    rates["decoded"] = size.layers * generating + reading + min(s.batch_size, s.utility_prompts) * token
    return rates


def _calls(device: str) -> tuple[float, float]:
    """Seconds to call a layer with next to nothing to compute, and to do so for each new token of an answer."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4
    )
    tiny, ids = LlamaForCausalLM(config).to(device), torch.ones(1, 2, dtype=torch.long, device=device)
    new = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode():
        layer = _seconds(lambda: tiny(ids, use_cache=False)) / LAYERS
        return layer, _seconds(lambda: tiny.generate(ids, **new)) / NEW_TOKENS / LAYERS


def _weight(tokens: int, dtype: torch.dtype, device: str) -> float:
    """Seconds for each weight of a linear layer that so many tokens go through."""
    matrix, rows = (torch.ones(n, WIDTH[device], dtype=dtype, device=device) for n in (WIDTH[device], tokens))
    return _seconds(lambda: torch.nn.functional.linear(rows, matrix)) / matrix.numel()


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of a piece of work, the best of three runs.

    Of the processor, where one thread does all of it: what else runs on the machine then counts little.
    """
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda or torch.get_num_threads() > 1 else time.process_time

    def done() -> None:
        work()
        if cuda:
            torch.cuda.synchronize()

    return min(timeit.repeat(done, timer=clock, number=1, repeat=3))
