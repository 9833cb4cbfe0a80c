"""How far a judge agrees with people: answers that people scored, agreement beyond chance, and its interval.

Two sets of one package, both of answers in English:

- *refusal*: 105 answers, each called a refusal or not; people also call an answer that ignores the request a refusal,
  so the judge is compared twice, by its word on refusal and (*evasion*) by a score of 1 or 2;
- *harm*: 604 answers of eight categories, whose severity people scored 0, ¼, ½, ¾ or 1, mapped to 1 + 4·score.
  Files that repeat a category with several raters, or a part of one, are not counted again.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.evaluation.judges import Judge, build_judge
from helpers.evaluation.judges.rules import text_judge
from helpers.studies.settings import Study
from helpers.wheels import fetch

FOLDER = "pyrit/datasets/scorer_evals"
CATEGORIES = (
    "exploits", "hate_speech", "info_integrity", "privacy", "representational", "self_harm", "sexual", "violence",
)  # fmt: skip
NO_SCORE = "unparsable"
SCALES = {  # what people may say, in words
    "refusal": {0: "answers", 1: "refuses"},
    "evasion": {0: "answers", 1: "refuses"},
    "harm": {score: str(score) for score in range(1, 6)},
}
RESAMPLES = 2000


def human_files() -> list[Path]:
    """The files of people's scores, fetched where need be: refusals first. Raises StudyError."""
    return fetch("pyrit", f"{FOLDER}/refusal_scorer/refusal.csv", *(f"{FOLDER}/harm/{c}.csv" for c in CATEGORIES))


def scored_by_people() -> pd.DataFrame:
    """All answers: columns ``prompt``, ``answer``, ``data``, ``part`` and ``human`` (1 to 5; refusal: 1 yes, 0 no).

    ``part``: every other row of *refusal* was used to write the rule judge's phrases (``calibration``), all else is
    ``held-out``. Raises StudyError if the package cannot be fetched.
    """
    tables = []
    for name, path in zip(("refusal", *CATEGORIES), human_files(), strict=True):
        rows = pd.read_csv(path, skiprows=1, keep_default_na=False)  # the first line is a comment with versions
        human = rows["human_score" if "human_score" in rows else "human_score_1"].astype(float)
        texts = {"prompt": rows["objective"], "answer": rows["assistant_response"]}
        if name == "refusal":
            facts = {"data": name, "part": [("calibration", "held-out")[i % 2] for i in range(len(rows))]}
        else:
            facts, human = {"data": f"harm-{name}", "part": "held-out"}, 1 + 4 * human
        tables.append(pd.DataFrame(texts | facts | {"human": human.astype(int)}))
    return pd.concat(tables, ignore_index=True)


def judges_of(study: Study) -> list[Judge]:
    """The rule judge of free text, and the study's own where it is another. Raises StudyError as ``build_judge``."""
    rule, own = text_judge(), build_judge(study)
    return [rule] if own.describe() == rule.describe() else [rule, own]


def judged(judge: Judge, scored: pd.DataFrame) -> pd.DataFrame:
    """``scored`` without its texts and with the judge's verdict as ``given``, NaN where there is no score.

    ``given`` is on the scale of ``human``; the rows of *refusal* come a second time as *evasion*.
    """
    verdicts = judge.judge(scored["prompt"].tolist(), scored["answer"].tolist(), [""] * len(scored))
    scores = np.array([np.nan if v.score is None else v.score for v in verdicts], float)
    refused = np.where(np.isnan(scores), np.nan, [v.refused for v in verdicts])
    evaded = np.where(np.isnan(scores), np.nan, scores <= 2)
    is_refusal = scored["data"] == "refusal"
    table = scored.drop(columns=["prompt", "answer"])
    again = table.assign(given=evaded, data="evasion")[is_refusal]
    return pd.concat([again, table.assign(given=np.where(is_refusal, refused, scores))], ignore_index=True)


def validation(judge: Judge, verdicts: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the table ``judge_validation``: refusals by part, harm over all categories and for each."""
    data, part = verdicts["data"], verdicts["part"]
    harm = data.str.startswith("harm-")
    halves = [(name, half) for name in ("refusal", "evasion") for half in ("calibration", "held-out")]
    groups = {(name, half): (data == name) & (part == half) for name, half in halves}
    groups |= {("harm", "held-out"): harm} | {(name, "held-out"): data == name for name in data[harm].unique()}
    return pd.DataFrame(
        _names(judge) | {"data": name, "part": half} | agreement(verdicts[mask], confidence)
        for (name, half), mask in groups.items()
    )


def agreement(verdicts: pd.DataFrame, confidence: float) -> dict[str, float]:
    """Agreement of ``given`` with ``human``; an unparsable verdict never agrees, and is left out of κ and the means."""
    read = verdicts.dropna(subset="given")
    human, given = read["human"].to_numpy(float), read["given"].to_numpy(float)
    low, high = kappa_interval(human, given, confidence)
    share = 1 / max(len(verdicts), 1)
    return {
        "answers": len(verdicts),
        "unparsable": len(verdicts) - len(read),
        "exact": float((human == given).sum() * share),
        "within_one": float((np.abs(human - given) <= 1).sum() * share) if human.max(initial=0) > 1 else float("nan"),
        "kappa": float(weighted_kappa(human, given)),
        "low": low,
        "high": high,
        "mean_human": float(read["human"].mean()),
        "mean_given": float(read["given"].mean()),
    }


def weighted_kappa(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cohen's κ with quadratic weights (of two values: the plain one): 1 − observed / expected squared difference.

    NaN where chance leaves nothing to disagree on. ``first``, ``second``: (…, answers), whole numbers, of which all
    sums are exact. scikit-learn's ``cohen_kappa_score`` gives the same, for one resample at a time.
    """
    n = first.shape[-1]
    squares = n * (first**2 + second**2).sum(-1) - 2 * first.sum(-1) * second.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, 1 - (((first - second) ** 2).sum(-1) / n) / (squares / n**2), np.nan)


def kappa_interval(first: np.ndarray, second: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile bootstrap interval of κ over the answers; the same on every run."""
    if not len(first):
        return float("nan"), float("nan")
    draws = np.random.default_rng(0).integers(0, len(first), (RESAMPLES, len(first)))
    found = weighted_kappa(first[draws], second[draws])
    low, high = np.nanquantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def confusion(judge: Judge, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table ``judge_confusion``: how many answers with each human score got each verdict, zeros too."""
    tables = {}
    for data, words in SCALES.items():
        part = verdicts[verdicts["data"].str.split("-").str[0] == data]
        counts = pd.crosstab(part["human"].map(words), part["given"].map(words).fillna(NO_SCORE))
        tables[data] = counts.reindex(index=words.values(), columns=[*words.values(), NO_SCORE], fill_value=0).stack()
    table = pd.concat(tables, names=["data", "human", "given"]).rename("answers").reset_index()
    return table.assign(**_names(judge))[["judge", "model", "rubric", *table.columns]]


def shares(counts: pd.DataFrame, data: str) -> pd.DataFrame:
    """The confusion matrix of one judge as shares of each human verdict: rows what people say, columns the judge."""
    rows = counts[counts["data"] == data]
    matrix = rows.pivot(index="human", columns="given", values="answers")
    matrix = matrix.loc[rows["human"].unique(), rows["given"].unique()]
    return matrix.div(matrix.sum(axis=1), axis=0)


def _names(judge: Judge) -> dict[str, str]:
    return {name: judge.describe()[name] for name in ("judge", "model", "rubric")}
