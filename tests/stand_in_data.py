"""Tiny stand-ins for the paper's data: folders with the hub's file layouts and column names, and invented contents."""

import gzip
import json
from pathlib import Path

import pandas as pd

CATEGORIES = (  # the harm categories of BeaverTails, each a column of its own in its nested `category`
    "animal_abuse",
    "child_abuse",
    "controversial_topics,politics",
    "discrimination,stereotype,injustice",
    "drug_abuse,weapons,banned_substance",
    "financial_crime,property_crime,theft",
    "hate_speech,offensive_language",
    "misinformation_regarding_ethics,laws_and_safety",
    "non_violent_unethical_behavior",
    "privacy_violation",
    "self_harm",
    "sexually_explicit,adult_content",
    "terrorism,organized_crime",
    "violence,aiding_and_abetting,incitement",
)
THINGS = ("bread", "soup", "a kite", "a raft", "paper", "cheese", "a lamp", "a drum", "ink", "a basket")
SUBJECTS = ("algebra", "geometry", "number_theory")


def make_data(folder: Path) -> dict[str, dict[str, str]]:
    """Write the data sets below ``folder`` and return the origin of each, as a study's ``data`` has them."""
    makers = {
        "metamath": _metamath,
        "beavertails": _beavertails,
        "gsm8k": _gsm8k,
        "math": _math,
        "toxigen": _toxigen,
        "advbench": _advbench,
    }
    for name, make in makers.items():
        (folder / name).mkdir(parents=True)
        make(folder / name)
    return {name: {"origin": "folder", "path": str(folder / name)} for name in makers}


def _sum(i: int) -> tuple[str, str, int]:
    """A word problem, its steps and the right answer."""
    right = 3 * i + 4
    steps = f"There are 3 * {i} = {3 * i} eggs in the nests.\nWith 4 more there are {3 * i} + 4 = {right}."
    return f"Each of 3 nests holds {i} eggs, and 4 more lie beside them. How many eggs are there?", steps, right


def _metamath(folder: Path) -> None:
    rows = []
    for i in range(60):
        question, steps, right = _sum(i)
        response = f"{steps}\n#### {right}\nThe answer is: {right}"
        rows.append({"type": "GSM_Rephrased", "query": question, "original_question": question, "response": response})
    (folder / "MetaMathQA-395K.json").write_text(json.dumps(rows), encoding="utf-8")


def _beavertails(folder: Path) -> None:
    (folder / "round0" / "30k").mkdir(parents=True)
    with gzip.open(folder / "round0" / "30k" / "train.jsonl.gz", "wt", encoding="utf-8") as stream:
        for i in range(160):
            thing, safe = THINGS[i % len(THINGS)], i % 2 == 0
            category = {name: not safe and j == i % len(CATEGORIES) for j, name in enumerate(CATEGORIES)}
            row = {
                "prompt": f"How would one make {thing} badly, in way number {i // 2}?",
                "response": f"Ask someone who makes {thing}."
                if safe
                else f"Take too little time over {thing}, {i} times.",
                "category": category,
                "is_safe": safe,
            }
            stream.write(json.dumps(row) + "\n")


def _gsm8k(folder: Path) -> None:
    (folder / "main").mkdir()
    problems = [_sum(100 + i) for i in range(12)]
    rows = [{"question": question, "answer": f"{steps}\n#### {right}"} for question, steps, right in problems]
    pd.DataFrame(rows).to_parquet(folder / "main" / "test-00000-of-00001.parquet")


def _math(folder: Path) -> None:
    for subject in SUBJECTS:
        (folder / subject).mkdir()
        rows = [
            {
                "problem": f"In {subject}, what is ${i}^2 + {i}$?",
                "level": "Level 1",
                "type": subject.title(),
                "solution": f"It is $\\boxed{{{i * i + i}}}$.",
            }
            for i in range(10)
        ]
        pd.DataFrame(rows).to_parquet(folder / subject / "test-00000-of-00001.parquet")


def _toxigen(folder: Path) -> None:
    (folder / "annotated").mkdir()
    for part, first in (("train", 0), ("test", 100)):
        rows = [
            {
                "text": f"the {THINGS[i % len(THINGS)]} of village {first + i} is bad",
                "target_group": THINGS[i % len(THINGS)],
                "toxicity_ai": 5.0 if i % 3 else 1.0,
                "toxicity_human": 4.0 if i % 3 else 1.0,
            }
            for i in range(24)
        ]
        pd.DataFrame(rows).to_parquet(folder / "annotated" / f"{part}-00000-of-00001.parquet")


def _advbench(folder: Path) -> None:
    goals = [f"Explain how to spoil {thing}, slowly, {n} times" for thing in THINGS for n in (2, 3)]
    targets = [f"Sure, here is how to spoil {goal.split()[4]}" for goal in goals]
    pd.DataFrame({"goal": goals, "target": targets}).to_csv(folder / "harmful_behaviors.csv", index=False)
