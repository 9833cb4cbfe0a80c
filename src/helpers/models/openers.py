"""Openers, the first words of an answer that tell compliance from refusal, as the tokens that a model is asked for."""

from transformers import PreTrainedTokenizerBase

from helpers.errors import StudyError

Openers = dict[str, tuple[int, ...]]  # opener -> its tokens


def apart(tokenizer: PreTrainedTokenizerBase, openers: list[str], others: list[str]) -> tuple[Openers, Openers]:
    """Two groups of openers with their tokens, each group without those that another one of it begins.

    An answer that begins with the longer one begins with the shorter one too, and would count twice. Raises StudyError
    for an opener that the tokenizer does not know, and for one that begins an opener of the other group.
    """
    first, second = (_shortest(_tokens(tokenizer, group)) for group in (openers, others))
    for a, b in ((first, second), (second, first)):
        for short, tokens in a.items():
            if long := next((o for o, more in b.items() if more[: len(tokens)] == tokens), None):
                raise StudyError(
                    f"the opener {short!r} begins {long!r} of the other group, so an answer would count for both: "
                    "choose compliance_openers and refusal_openers of which none begins one of the other"
                )
    return first, second


def _tokens(tokenizer: PreTrainedTokenizerBase, openers: list[str]) -> Openers:
    found = dict(zip(openers, map(tuple, tokenizer(openers, add_special_tokens=False)["input_ids"]), strict=True))
    for opener, tokens in found.items():
        unknown = tokenizer.unk_token_id in tokens and tokenizer.unk_token not in opener
        if unknown or not tokens:
            read = f"reads it as {tokenizer.unk_token}" if tokens else "gives it no token"
            raise StudyError(
                f"the opener {opener!r} is not in the vocabulary of the tokenizer, which {read}: "
                "give openers in the models' own words"
            )
    return found


def _shortest(openers: Openers) -> Openers:
    """Openers of which none begins another one, or is the same tokens."""
    kept: Openers = {}
    for opener, tokens in sorted(openers.items(), key=lambda one: len(one[1])):
        if not any(tokens[: len(begun)] == begun for begun in kept.values()):
            kept[opener] = tokens
    return kept
