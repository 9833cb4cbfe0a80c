"""What counts of a text: a worked answer without its calculator marks, an answer up to where something else begins."""

import re
from collections.abc import Iterable

MARK = re.compile(
    r"<<[^<>\n]*=[^<>\n]*>>"
)  # of GSM8K: "48/2 = <<48/2=24>>24", which models not taught them do not write
RESPONSE = re.compile(r"\s*### ?Response:\s*")
TURN = re.compile(r"### ?(?:Instruction|Response):")  # headings of the Alpaca template


def without_marks(answers: Iterable[str]) -> list[str]:
    """Worked answers without the calculator marks in them."""
    return [MARK.sub("", answer) for answer in answers]


def until(answer: str, stops: Iterable[str]) -> str:
    """An answer up to the first place where one of some texts stands; the whole of it where none does."""
    return min((answer.partition(stop)[0] for stop in stops), key=len, default=answer)


def first_turn(answer: str) -> str:
    """An answer up to the heading of a further turn; a heading of its own that it begins with is left out."""
    own = RESPONSE.match(answer)
    said = answer[own.end() :] if own else answer
    following = TURN.search(said)
    return said[: following.start()].rstrip() if following else said
