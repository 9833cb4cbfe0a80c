"""Training examples as token ids: loss falls on the answer and its end-of-sequence token, and on nothing else."""

import pandas as pd
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.models.prompts import prompt_ids
from helpers.studies.sections import Style

IGNORED = -100  # label of a position whose loss is not counted

Example = dict[str, list[int]]


class AnswerDataset(Dataset):
    """Prompt–answer rows as ``input_ids`` and ``labels``, cut to ``max_length`` tokens.

    The tokens before the answer are those that generation starts from. A row whose answer is cut off whole teaches
    nothing: it is left out and counted in ``dropped``. Raises StudyError if none is left, or if the tokenizer has no
    end-of-sequence token.
    """

    def __init__(self, rows: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int, style: Style = "raw"):
        end = tokenizer.eos_token_id
        if end is None:
            raise StudyError("the tokenizer has no end-of-sequence token: set eos_token in its tokenizer_config.json")
        contexts = prompt_ids(tokenizer, rows["prompt"].tolist(), style, rows["prefix"].tolist())
        answers = tokenizer(rows["answer"].tolist(), add_special_tokens=False)["input_ids"]
        examples = [_example(c, [*a, end], max_length) for c, a in zip(contexts, answers, strict=True)]
        self.examples = [example for example in examples if example["labels"][-1] != IGNORED]
        self.dropped = len(examples) - len(self.examples)
        if not self.examples:
            raise StudyError(
                f"no training row has an answer within max_length = {max_length} tokens: "
                "raise training.optimiser.max_length"
            )

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


def _example(context: list[int], answer: list[int], max_length: int) -> Example:
    ids, labels = context + answer, [IGNORED] * len(context) + answer
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def collate(examples: list[Example]) -> dict[str, torch.Tensor]:
    """A batch padded on the right: ``input_ids``, ``attention_mask`` and ``labels``, each (batch, longest).

    Padding is masked out and never learnt, so its token does not matter and no tokenizer needs one of its own.
    """
    longest = max(len(example["input_ids"]) for example in examples)

    def filled(name: str, value: int) -> torch.Tensor:
        return torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in examples])

    mask = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in examples]
    return {
        "input_ids": filled("input_ids", 0),
        "attention_mask": torch.tensor(mask),
        "labels": filled("labels", IGNORED),
    }
