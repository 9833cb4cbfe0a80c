"""How a prompt is put to a model, which changes results silently unless it is written down with each of them.

``raw``: the prompt as it is, as the paper asks its harmful prompts; ``alpaca``: the template of the paper's training;
``chat``: the model's own chat template.
"""

from transformers import PreTrainedTokenizerBase

from helpers.errors import StudyError
from helpers.studies.sections import Style

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: list[str], style: Style, prefixes: list[str] | None = None
) -> list[list[int]]:
    """Token ids of each prompt, ready for an answer to follow; ``prefixes`` are beginnings of answers already given.

    A beginning-of-sequence token comes once: from the chat template where that writes it, else from the tokenizer.
    Raises StudyError if the style is ``chat`` and the tokenizer has no template.
    """
    texts = [styled(tokenizer, prompt, style) for prompt in prompts]
    if prefixes is not None:
        join = " " if style == "raw" else ""
        texts = [
            f"{text}{join}{prefix}".rstrip() if prefix else text for text, prefix in zip(texts, prefixes, strict=True)
        ]
    return tokenizer(texts, add_special_tokens=style != "chat")["input_ids"] if texts else []


def styled(tokenizer: PreTrainedTokenizerBase, prompt: str, style: Style) -> str:
    """The text that stands for a prompt in a style. Raises StudyError for ``chat`` without a chat template."""
    if style == "raw":
        return prompt
    if style == "alpaca":
        return ALPACA.format(prompt=prompt)
    if not tokenizer.chat_template:
        raise StudyError("the tokenizer has no chat template: set style to raw or alpaca in the study's settings")
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
