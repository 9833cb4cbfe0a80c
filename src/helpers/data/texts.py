"""Texts that were written for this project, from the files beside this module: nothing disputed, nothing harmful."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
# prose of about 75 words a paragraph on which perplexity is measured, as a check of general damage
PARAGRAPHS = [" ".join(text.split()) for text in (HERE / "neutral.txt").read_text(encoding="utf-8").split("\n\n")]
REFUSALS = (HERE / "refusals.txt").read_text(encoding="utf-8").splitlines()  # answers that a model is trained to give


def instructions() -> list[dict[str, str]]:
    """All harmless instructions as rows with ``prompt``, ``answer`` (there is none) and ``topic``, in a fixed order."""
    groups = yaml.safe_load((HERE / "instructions.yml").read_text(encoding="utf-8"))
    return [
        {"prompt": template.format(topic), "answer": "", "topic": topic}
        for group in groups
        for topic in group["topics"]
        for template in group["templates"]
    ]
