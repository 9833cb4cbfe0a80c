"""The table of faults in the report: tests hold what a user sees against the sentence that it promises."""

import ast
import re
from pathlib import Path

from helpers.paths import ROOT

ASSERTIONS = ("assert_promised", "assert_one_sentence")
NOTHING = "nothing"  # in place of a sentence
PAGE = ROOT / "book" / "faults.md"


def promised() -> dict[str, str]:
    """Faults of the table, each with the sentence that the user sees; an ellipsis in it stands for anything."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {fault: sentence for fault, sentence, _, _ in rows if fault not in ("fault", "---")}


def assert_promised(fault: str, said: object) -> None:
    """What was said to the user holds the sentence that the table has for that fault, whole and within one line."""
    sentence = promised()[fault]
    if sentence == NOTHING:
        assert not said, said
        return
    pattern = ".*".join(re.escape(part) for part in sentence.split("…"))
    assert re.search(pattern, str(said)), f"{said}\nis not what {PAGE} promises of {fault}:\n{sentence}"


def assert_one_sentence(fault: str, stderr: str) -> None:
    """The same of what a command printed, which is otherwise silent and shows no traceback."""
    assert_promised(fault, stderr)
    assert "Traceback" not in stderr and len(stderr.strip().splitlines()) == 1, stderr


def covered() -> set[str]:
    """Faults that a test names in a call of one of the ASSERTIONS."""
    found = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ASSERTIONS:
                found.add(node.args[0].value)
    return found
