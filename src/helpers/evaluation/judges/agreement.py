"""How far a judge agrees with people: answers that people scored, agreement beyond chance, and its interval.

Sets of one package, all of answers in English:

- *refusal*: 105 answers, each called a refusal or not; people also call an answer that ignores the request a refusal,
  so the judge is compared twice, by its word on refusal alone and (*evasion*) by that or a score of 1 or 2.
  *refusal-more* is a second set of that kind;
- *harm*: 604 answers of eight categories, whose severity people scored 0, ¼, ½, ¾ or 1, mapped to 1 + 4·score;
- *raters*: two further sets of two of these categories, scored alike by three people each, so that people can be
  compared with one another on the same answers.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.evaluation.judges import Judge, Judgement, build_judge
from helpers.evaluation.judges.classifier import best_judge
from helpers.evaluation.judges.rules import text_judge
from helpers.studies.ledger import judge_rule
from helpers.studies.settings import Study
from helpers.wheels import fetch

FOLDER = "pyrit/datasets/scorer_evals"
CATEGORIES = (
    "exploits", "hate_speech", "info_integrity", "privacy", "representational", "self_harm", "sexual", "violence",
)  # fmt: skip
FILES = {
    "refusal": "refusal_scorer/refusal.csv",
    "refusal-more": "refusal_scorer/refusal_extra.csv",
    **{f"harm-{category}": f"harm/{category}.csv" for category in CATEGORIES},
    **{f"raters-{category}": f"harm/{category}_multi_score.csv" for category in ("hate_speech", "violence")},
}
RATERS = ["human_1", "human_2", "human_3"]
NO_SCORE = "unparsable"
SCORES = {score: str(score) for score in range(1, 6)}
YES = {0: "answers", 1: "refuses"}
SCALES = {"refusal": YES, "evasion": YES, "harm": SCORES, "raters": SCORES}  # what people may say, in words
RESAMPLES = 2000


def human_files() -> list[Path]:
    """The files of people's scores, fetched where need be, in the order of ``FILES``. Raises StudyError."""
    return fetch("pyrit", *(f"{FOLDER}/{file}" for file in FILES.values()))


def scored_by_people() -> pd.DataFrame:
    """All answers: ``prompt``, ``answer``, ``data``, ``part``, ``human`` (1 to 5; refusal: 1 yes, 0 no) and ``RATERS``.

    ``human`` is the median of the raters, of whom there is one but in the sets *raters*. ``part``: every other row of
    *refusal* was used to write the rules' phrases (``calibration``); to *harm* and *raters* the classifier is fitted
    (``left out``: a set is scored by weights that it had no part in); all else is ``held-out``, less the answers that
    were seen before. Raises StudyError if the package cannot be fetched.
    """
    tables = {name: _scored(name, path) for name, path in zip(FILES, human_files(), strict=True)}
    seen: set[str] = set()
    for name, table in tables.items():
        keys = table["answer"].str.split().str.join(" ")
        first = table["part"] != "held-out"
        seen |= set(keys[first])
        tables[name] = table[first | ~keys.isin(seen)]
        seen |= set(keys)
    return pd.concat(tables.values(), ignore_index=True)


def is_fitted(scored: pd.DataFrame) -> pd.Series:
    """Which answers the classifier is fitted to: those of which people scored the severity."""
    return scored["part"] == "left out"


def _scored(name: str, path: Path) -> pd.DataFrame:
    """One file's rows; the lines before its header are comments."""
    with open(path, encoding="utf-8") as lines:
        comments = next(i for i, line in enumerate(lines) if "assistant_response" in line)
    rows = pd.read_csv(path, skiprows=comments, keep_default_na=False)
    raters = rows[[column for column in rows if column.startswith("human_score")]].astype(float)
    raters = (raters if name.startswith("refusal") else 1 + 4 * raters).set_axis(RATERS[: raters.shape[1]], axis=1)
    texts = {"prompt": rows["objective"], "answer": rows["assistant_response"], "data": name}
    parts = {"refusal": np.resize(["calibration", "held-out"], len(rows))}
    parts |= {name: "left out" for name in FILES if not name.startswith("refusal")}
    table = pd.DataFrame(texts).assign(part=parts.get(name, "held-out"))
    return table.assign(human=raters.median(axis=1).astype(int)).join(raters.reindex(columns=RATERS))


def judges_of(study: Study) -> list[Judge]:
    """The rules and the classifier for free text, and the study's own judge where it is another. Raises StudyError."""
    ours, own = [text_judge(), best_judge()], build_judge(study)
    return ours if own.describe() in [one.describe() for one in ours] else [*ours, own]


def judged(judge: Judge, scored: pd.DataFrame) -> pd.DataFrame:
    """``compared`` with a judge's own verdicts. Raises StudyError as the judge does."""
    texts = (scored["prompt"].tolist(), scored["answer"].tolist())
    return compared(judge.judge(*texts, [""] * len(scored)), scored)


def compared(verdicts: list[Judgement], scored: pd.DataFrame) -> pd.DataFrame:
    """``scored`` without its answers and with the verdicts on them as ``given``, NaN where there is no score.

    ``given`` is on the scale of ``human``; the rows of *refusal* come a second time as *evasion*.
    """
    scores = np.array([np.nan if v.score is None else v.score for v in verdicts], float)
    refused = np.where(np.isnan(scores), np.nan, [v.refused for v in verdicts])
    evaded = np.where(np.isnan(scores), np.nan, [v.refused or v.score in (1, 2) for v in verdicts])
    is_refusal = scored["data"].str.startswith("refusal")
    table = scored.drop(columns="answer")
    again = table.assign(given=evaded, data=table["data"].str.replace("refusal", "evasion"))[is_refusal]
    return pd.concat([again, table.assign(given=np.where(is_refusal, refused, scores))], ignore_index=True)


def validation(judge: Judge, verdicts: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the table ``judge_validation``: each set by its parts, and *harm* over all its categories."""
    harm = verdicts[verdicts["data"].str.startswith("harm-")].assign(data="harm")
    groups = pd.concat([verdicts, harm]).groupby(["data", "part"], sort=False)
    return pd.DataFrame(
        _names(judge) | {"data": data, "part": part} | agreement(rows, confidence) for (data, part), rows in groups
    )


def agreement(verdicts: pd.DataFrame, confidence: float) -> dict[str, float]:
    """Agreement of ``given`` with ``human``; an unparsable verdict never agrees, and is left out of κ and the means.

    κ is the mean over the raters, each compared alone; all else is about their median.
    """
    from scipy.stats import binomtest  # takes seconds to load, which chapters that only draw need not wait for

    read = verdicts.dropna(subset="given")
    human, given = read["human"].to_numpy(float), read["given"].to_numpy(float)
    exact, prompts = float((verdicts["human"] == verdicts["given"]).mean()), verdicts["prompt"].nunique()
    ends = binomtest(round(exact * prompts), prompts).proportion_ci(confidence, "exact")  # a prompt is one yes or no
    pairs = [(rater, given) for rater in _raters(read)]
    kappa, low, high = interval(partial(mean_kappa, pairs), read["prompt"], confidence)
    near = float((np.abs(human - given) <= 1).sum() / max(len(verdicts), 1))
    return {
        "answers": len(verdicts),
        "prompts": prompts,
        "unparsable": len(verdicts) - len(read),
        "exact": exact,
        "exact_low": float(ends.low),
        "exact_high": float(ends.high),
        "within_one": near if human.max(initial=0) > 1 else float("nan"),
        "kappa": kappa,
        "low": low,
        "high": high,
        "mean_human": float(read["human"].mean()),
        "mean_given": float(read["given"].mean()),
    }


def among_people(scored: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Rows of the table ``human_agreement``: of each set with several raters the mean κ of two of them."""
    rows = []
    for data, answers in scored.groupby("data", sort=False):
        raters = _raters(answers)
        if pairs := list(combinations(raters, 2)):
            kappa, low, high = interval(partial(mean_kappa, pairs), answers["prompt"], confidence)
            counted = {"answers": len(answers), "prompts": answers["prompt"].nunique(), "raters": len(raters)}
            rows.append({"data": data, **counted, "kappa": kappa, "low": low, "high": high})
    return pd.DataFrame(rows)


def agrees(validated: pd.DataFrame) -> pd.DataFrame:
    """Whether a judge agrees with people, by the rule of the ledger, on the sets that it asks about."""
    rule = judge_rule()
    asked = validated[~validated["data"].str.startswith("refusal")]
    shared = asked["data"].str.startswith("evasion")
    low, high = (asked[f"exact_{end}"].where(shared, asked[end]) for end in ("low", "high"))
    least = shared.map({True: rule.refusal, False: rule.kappa})
    said = np.select([low >= least, high < least], ["yes", "no"], "undecided")
    found = asked["exact"].where(shared, asked["kappa"])
    names = asked[["judge", "data", "part", "answers", "prompts"]]
    return names.assign(
        of=shared.map({True: "share", False: "κ"}), found=found, low=low, high=high, least=least, agrees=said
    )


def _raters(rows: pd.DataFrame) -> list[np.ndarray]:
    """The scores of each rater that these rows have, (answers,)."""
    return [rows[rater].to_numpy(float) for rater in RATERS if rows[rater].notna().all()]


def weighted_kappa(first: np.ndarray, second: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Cohen's κ with quadratic weights (of two values: the plain one): 1 − observed / expected squared difference.

    NaN where chance leaves nothing to disagree on. ``first``, ``second``: (answers,), whole numbers, of which all sums
    are exact; ``counts``: (…, answers), how often each answer is there, once if not given. scikit-learn's
    ``cohen_kappa_score`` gives the same, for one resample at a time.
    """
    counts = np.ones(len(first)) if counts is None else counts
    n = counts.sum(-1)
    squares = n * (counts @ (first**2 + second**2)) - 2 * (counts @ first) * (counts @ second)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(squares > 0, 1 - n * (counts @ (first - second) ** 2) / squares, np.nan)


def mean_kappa(pairs: list[tuple[np.ndarray, np.ndarray]], counts: np.ndarray) -> np.ndarray:
    """Mean κ of pairs of (answers,), each answer counted as often as ``counts``, (…, answers), say."""
    return np.mean([weighted_kappa(*pair, counts) for pair in pairs], axis=0)


def interval(
    statistic: Callable[[np.ndarray], np.ndarray], prompts: pd.Series, confidence: float
) -> tuple[float, float, float]:
    """A statistic of answers by how often each counts, (resamples, answers), and its percentile bootstrap interval.

    Prompts are drawn, with all their answers, which are no independent evidence; the same on every run.
    """
    if not len(prompts):
        return float("nan"), float("nan"), float("nan")
    codes, names = pd.factorize(prompts)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    found, *drawn = statistic(np.vstack([np.ones(len(codes)), draws[:, codes]]))  # the answers themselves first
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(found), float(low), float(high)


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
