"""Training examples as token ids: loss falls on the answer and its end-of-sequence token, and on nothing else."""

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.models.prompts import padded, prompt_ids
from helpers.studies.values import Style

IGNORED = -100  # label of a position whose loss is not counted

Example = dict[str, list[int]]


def tokenised(
    rows: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int, style: Style = "raw"
) -> list[Example]:
    """Prompt–answer rows as ``input_ids`` and ``labels``, cut to ``max_length`` tokens.

    The tokens before the answer are those that generation starts from. A row whose answer is cut off whole teaches
    nothing and is left out. Raises StudyError if none is left, or if the tokenizer has no end-of-sequence token.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise StudyError("the tokenizer has no end-of-sequence token: set eos_token in its tokenizer_config.json")
    contexts = prompt_ids(tokenizer, rows["prompt"].tolist(), style, rows["prefix"].tolist())
    answers = tokenizer(rows["answer"].tolist(), add_special_tokens=False)["input_ids"]
    examples = [
        {
            "input_ids": [*context, *answer, end][:max_length],
            "labels": [*[IGNORED] * len(context), *answer, end][:max_length],
        }
        for context, answer in zip(contexts, answers, strict=True)
        if len(context) < max_length
    ]
    if not examples:
        raise StudyError(
            f"no training row has an answer within max_length = {max_length} tokens: "
            "raise training.optimiser.max_length"
        )
    return examples


def collate(examples: list[Example]) -> dict[str, torch.Tensor]:
    """A batch padded on the right: ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest).

    Padding is masked out and never learnt, so its token does not matter and no tokenizer needs one of its own.
    """
    inputs = padded([example["input_ids"] for example in examples], "right", torch.device("cpu"))
    del inputs["position_ids"]  # which the model counts itself where padding is on the right
    return inputs | {"labels": pad_sequence([torch.tensor(example["labels"]) for example in examples], True, IGNORED)}
