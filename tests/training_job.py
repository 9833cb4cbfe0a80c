"""Trains a small organism as a process of its own, so that a test can kill it or take its memory away."""

import argparse
import resource
import sys
from pathlib import Path

import torch
from transformers.utils import logging

from helpers.data.rows import training_rows
from helpers.models.language import Language
from helpers.models.load import save_model
from helpers.models.organism import build_model, build_tokenizer
from helpers.studies.settings import load_study
from helpers.training.train import train


def main() -> None:
    """Train as the options say; the weights go to ``out``, the log beside it, what became of it to stderr."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--megabytes", type=int, help="of memory beyond what is in use before training")
    options = parser.parse_args()
    logging.disable_progress_bar()
    study = load_study("smoke")
    tokenizer = build_tokenizer(Language(study.language), study.training.optimiser.max_length)
    torch.manual_seed(options.seed)
    wide = {"intermediate_size": 8192} if options.megabytes else {}
    model = build_model(study.model.model_copy(update=wide), tokenizer)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1  # the generators' state must come back too
    optimiser = study.training.optimiser.model_copy(update={"checkpoint_steps": 4, "processes": options.processes})
    objective = study.training.base.model_copy(update={"epochs": 1 if options.megabytes else 3})
    rows = training_rows(study, objective, 0)[: 256 if options.megabytes else None]
    if options.megabytes:
        limit_memory(options.megabytes)
    log = train(model, tokenizer, rows, objective, optimiser, options.seed, options.checkpoints)
    save_model(model, tokenizer, options.out)
    log.to_csv(options.out.with_suffix(".csv"), index=False)
    print(log.attrs, file=sys.stderr)


def limit_memory(megabytes: int) -> None:
    """Let this process take so much address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
