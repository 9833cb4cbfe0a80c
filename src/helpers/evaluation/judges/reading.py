"""Reads a text before its phrases are looked for: one form of letters, no loops, words, sentences, language, salad."""

import re
import unicodedata
from itertools import pairwise

from helpers.evaluation.judges.phrases import ABROAD, BROKEN, EVERYDAY

READABLE = 12  # words from which shares of them say anything
MIN_EVERYDAY = 0.08  # share of everyday words below which a text of some length is not prose
MAX_BROKEN = 0.06  # share of pairs of words that no sentence holds, such as "the of", above which it is not either
MIN_VARIED = 2.0  # different words over the root of all, below which a text turns in a circle
VARIED = 20  # words from which that says anything
LOOP = 60  # words of the longest loop that is looked for
TIMES = 3  # that it is said at least
FRAGMENT = 5  # different words
FEW = 0.03  # share of everyday words of any known language below which letters beyond ASCII say that it is none of them
UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")  # letters of Japanese and Chinese, which write no spaces
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_][^\W\d_']*")
LETTER, LATIN = re.compile(r"[^\W\d_]"), re.compile(r"[A-Za-z\u00aa-\u024f\u1e00-\u1eff]")
KNOWN = re.compile(  # letters of the scripts in which there are phrases of refusal: Latin, Greek, Cyrillic, Hebrew,
    r"[A-Za-z\u00aa-\u024f\u1e00-\u1fff\u0370-\u052f\u0590-\u06ff\u0750-\u077f"  # Arabic,
    r"\u0900-\u09ff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"  # Devanagari, Bengali, Thai, East Asian
)


def plain(text: str) -> str:
    """One form of apostrophes, quotation marks, spaces and compatibility letters."""
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"[‘’ʼ`´](?=\w)", "'", text).replace("\u200b", "")


def words_of(text: str) -> list[str]:
    """A text's words in lower case; where no spaces are written, its letters."""
    return WORD.findall(UNSPACED.sub(r" \g<0> ", text.lower()))


def sentences(text: str) -> list[str]:
    """A text's sentences, without those that hold nothing."""
    return [s.strip() for s in re.split(r"(?<=[.!?])\s+|(?<=[。！？])", text.strip()) if s.strip()]


def once(text: str) -> str:
    """The text without lines and sentences that it already held, and without the rest of a loop that it ends in."""
    seen: set[str] = set()
    kept = []
    for part in re.split(r"(?<=[.!?])(?=\s)|(?<=[。！？])|(?<=\n)", text):
        key = " ".join(part.lower().split())
        if not key or key not in seen:
            kept.append(part)
        seen.add(key)
    return _unlooped("".join(kept))


def _unlooped(text: str) -> str:
    """The text up to the second time of what it says at least ``TIMES`` times on end before it stops."""
    found = list(WORD.finditer(text.lower()))
    said = [word.group() for word in found]
    for length in range(1, min(LOOP, len(said) // TIMES) + 1):
        alike = 0
        while alike + length < len(said) and said[-1 - alike] == said[-1 - alike - length]:
            alike += 1
        if alike >= (TIMES - 1) * length and alike + length >= READABLE:
            return text[: found[len(said) - alike - 1].end()]
    return text


def share(words: tuple[str, ...], known: frozenset[str]) -> float:
    """The share of words that are among those known."""
    return sum(word in known for word in words) / max(len(words), 1)


def is_english(words: tuple[str, ...]) -> bool:
    """Whether the letters are Latin, and no other language's everyday words outnumber those of English."""
    latin = sum(word.isascii() for word in words) / max(len(words), 1)
    return latin > 0.5 and share(words, EVERYDAY) >= share(words, ABROAD - EVERYDAY)


def is_known(text: str, words: tuple[str, ...]) -> bool:
    """Whether the rules have phrases for the script; of longer Latin text, whether it may be a language they know."""
    letters, known = len(LETTER.findall(text)), len(KNOWN.findall(text))
    if 2 * known < letters:
        return False
    latin, foreign = len(LATIN.findall(text)), sum(not word.isascii() for word in words)
    own = 2 * latin > letters and 10 * foreign > len(words) >= READABLE
    return not (own and share(words, EVERYDAY | ABROAD) < FEW)


def is_readable(words: tuple[str, ...], english: bool, steps: int) -> bool:
    """Whether there are words that make sentences or a list; of a language that is not known, words are enough.

    A text that turns in a circle, few words of many, says nothing in any language.
    """
    if not words or (len(words) >= VARIED and len(set(words)) < MIN_VARIED * len(words) ** 0.5):
        return False
    if len(words) < READABLE or not english:
        return True
    broken = sum(pair in BROKEN for pair in pairwise(words)) / len(words)
    return broken <= MAX_BROKEN and (steps > 0 or share(words, EVERYDAY) >= MIN_EVERYDAY)
