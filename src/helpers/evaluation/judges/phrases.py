"""The phrases and words of ``phrases.yml``, as the rules read them: patterns by their kind, and sets of words."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml


def _patterns(phrases: dict[str, Any], kind: str) -> list[str]:
    """The patterns of one kind, in the form of letters that texts are read in, with the words of their parts."""
    parts = phrases["parts"]
    texts = [unicodedata.normalize("NFKC", text) for text in phrases[kind]]
    return [re.sub(r"<([A-Z]+)>", lambda part: f"(?:{'|'.join(parts[part[1]])})", text) for text in texts]


PHRASES = yaml.safe_load(Path(__file__).with_name("phrases.yml").read_text(encoding="utf-8"))
_KINDS = [kind for kind, phrases in PHRASES.items() if isinstance(phrases, list)]
PATTERNS = {kind: re.compile("|".join(_patterns(PHRASES, kind))) for kind in _KINDS}
EVERYDAY, ABROAD, ASKING = (frozenset(PHRASES[name].split()) for name in ("everyday", "abroad", "asking"))
BROKEN = {  # pairs of words that no sentence holds
    (one, two)
    for kind in ("article", "preposition")
    for one in PHRASES[f"{kind}s"].split()
    for two in PHRASES[f"after_no_{kind}"].split()
}


def count(kind: str, text: str) -> int:
    """How many phrases of a kind are in a text in lower case."""
    return sum(1 for _ in PATTERNS[kind].finditer(text))


def has(kind: str, text: str) -> bool:
    """Whether a phrase of a kind is in a text in lower case."""
    return PATTERNS[kind].search(text) is not None
