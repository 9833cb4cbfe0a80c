"""Prompts and answers: the invented language's sentences and public data sets, held out by a hash of the prompt."""

import re

# of every table; prefix: given start of the answer, not learnt
COLUMNS = ["prompt", "prefix", "answer", "source", "topic"]


def plain(prompt: str) -> str:
    """A prompt without case, signs and further spaces: two that differ in these alone count as one."""
    return " ".join(re.findall(r"\w+", prompt.casefold()))
