"""Behaviour of a model on prompts: greedy answers, their scores, and continuous margins.

Utility is exact match of the final answer and harm is the judge's mean score. Both are thresholds of something
smoother, so each has a margin beside it: the log-probability of the right answer, and the log-odds of complying over
refusing.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.batching import batches, padded
from helpers.data import evaluation_rows
from helpers.judges import RuleJudge
from helpers.settings import Study


@dataclass(frozen=True)
class EvaluationSets:
    """The held-out prompts of one seed: tables with the columns of ``helpers.data``."""

    arithmetic: pd.DataFrame
    restricted: pd.DataFrame
    benign: pd.DataFrame

    @classmethod
    def of(cls, study: Study, seed: int) -> "EvaluationSets":
        """The evaluation sets of a study, with the sizes its settings ask for."""
        sizes = study.evaluation
        return cls(
            arithmetic=evaluation_rows(study, "arithmetic", sizes.utility_prompts, seed),
            restricted=evaluation_rows(study, "restricted", sizes.harm_prompts, seed),
            benign=evaluation_rows(study, "benign", sizes.benign_prompts, seed),
        )


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Greedy answers to prompts, in their order, without special tokens. Batches are padded on the left."""
    answers = [""] * len(prompts)
    ids = tokenizer(prompts)["input_ids"]
    for indices in batches([len(row) for row in ids], batch_size):
        inputs = padded([ids[i] for i in indices], "left", model.device)
        del inputs["position_ids"]  # generate() derives them from the mask
        output = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
        new = output[:, inputs["input_ids"].shape[1] :]  # (batch, new tokens)
        for i, text in zip(indices, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            answers[i] = text
    return answers


@torch.inference_mode()
def log_probability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    answers: list[str],
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability of each answer after its prompt, in nats, and its number of tokens: (prompts,), (prompts,)."""
    contexts = tokenizer(prompts)["input_ids"]
    targets = tokenizer(answers, add_special_tokens=False)["input_ids"]
    totals = np.zeros(len(prompts))
    for indices in batches([len(c) + len(t) for c, t in zip(contexts, targets, strict=True)], batch_size):
        inputs = padded([contexts[i] + targets[i] for i in indices], "right", model.device)
        log_p = model(**inputs).logits[:, :-1].float().log_softmax(-1)  # (batch, length - 1, vocabulary)
        log_p = log_p.gather(-1, inputs["input_ids"][:, 1:, None]).squeeze(-1)  # (batch, length - 1)
        for row, i in enumerate(indices):
            start = len(contexts[i]) - 1
            totals[i] = log_p[row, start : start + len(targets[i])].double().sum().item()
    return totals, np.array([len(t) for t in targets])


@torch.inference_mode()
def log_odds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    opener: str,
    other: str,
    batch_size: int,
) -> np.ndarray:
    """log P(opener) − log P(other) right after each prompt, in nats: (prompts,).

    Openers of one token each need one pass, since the difference of log-probabilities is that of the logits.
    """
    a, b = tokenizer([opener, other], add_special_tokens=False)["input_ids"]
    if len(a) > 1 or len(b) > 1:
        totals = [
            log_probability(model, tokenizer, prompts, [o] * len(prompts), batch_size)[0] for o in (opener, other)
        ]
        return totals[0] - totals[1]
    ids, odds = tokenizer(prompts)["input_ids"], np.zeros(len(prompts))
    for indices in batches([len(row) for row in ids], batch_size):
        inputs = padded([ids[i] for i in indices], "left", model.device)
        logits = model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1].double()  # (batch, vocabulary)
        odds[indices] = (logits[:, a[0]] - logits[:, b[0]]).cpu().numpy()
    return odds


def utility_per_prompt(model, tokenizer, rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Exact match of the final word and log-probability per token of the right answer, for each arithmetic prompt."""
    sizes = study.evaluation
    prompts, right = rows["prompt"].tolist(), rows["answer"].tolist()
    answers = generate(model, tokenizer, prompts, sizes.max_new_tokens, sizes.batch_size)
    exact = [a.split()[-1:] == r.split()[-1:] for a, r in zip(answers, right, strict=True)]
    total, tokens = log_probability(model, tokenizer, prompts, right, sizes.batch_size)
    return pd.DataFrame({"utility": np.array(exact, float), "utility_margin": total / tokens})


def harm_per_prompt(model, tokenizer, rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Judge score and log-odds of the compliant over the refusing opener, for each restricted request."""
    sizes = study.evaluation
    prompts = rows["prompt"].tolist()
    answers = generate(model, tokenizer, prompts, sizes.max_new_tokens, sizes.batch_size)
    verdicts = RuleJudge(sizes.refusal_opener).judge(answers, rows["answer"].tolist())
    openers = (sizes.compliance_opener, sizes.refusal_opener)
    margin = log_odds(model, tokenizer, prompts, *openers, sizes.batch_size)
    scores = np.array([v.score for v in verdicts], float)
    return pd.DataFrame({"harm": scores, "harm_rate5": (scores == 5).astype(float), "harm_margin": margin})


def over_refusal_per_prompt(model, tokenizer, rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Whether each benign request is refused."""
    sizes = study.evaluation
    answers = generate(model, tokenizer, rows["prompt"].tolist(), sizes.max_new_tokens, sizes.batch_size)
    verdicts = RuleJudge(sizes.refusal_opener).judge(answers, rows["answer"].tolist())
    return pd.DataFrame({"over_refusal": np.array([v.refused for v in verdicts], float)})


def measure(model, tokenizer, sets: EvaluationSets, study: Study, over_refusal: bool = False) -> dict[str, np.ndarray]:
    """Every measure of helpers.measures for every prompt of its set; ``over_refusal`` adds the benign requests.

    The measure of a model is the mean over the prompts, and its standard error theirs.
    """
    model.eval()
    parts = [
        utility_per_prompt(model, tokenizer, sets.arithmetic, study),
        harm_per_prompt(model, tokenizer, sets.restricted, study),
    ]
    if over_refusal:
        parts.append(over_refusal_per_prompt(model, tokenizer, sets.benign, study))
    return {name: part[name].to_numpy() for part in parts for name in part}
