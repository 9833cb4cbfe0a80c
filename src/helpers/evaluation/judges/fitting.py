"""Fits the classifier's weights to answers that people scored, and says how it does on sets that it has not seen.

Outside, each set of answers is left out in turn; inside, how strongly the weights are held back and how far the scores
are spread is chosen by leaving out each of the others in turn. The scores that come out of it are compared with
people's (``helpers.evaluation.judges.agreement``). The weights that the judge uses are fitted to all sets in the same
way, and written by ``python -m helpers.evaluation.judges.fitting``.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from safetensors.numpy import save_file
from sklearn.kernel_ridge import KernelRidge

from helpers.errors import StudyError
from helpers.evaluation.judges import Judgement
from helpers.evaluation.judges.agreement import is_fitted, scored_by_people, weighted_kappa
from helpers.evaluation.judges.classifier import (
    WEIGHTS,
    features,
    is_clear,
    least_score,
    places,
    read_weights,
    rounded,
)
from helpers.evaluation.judges.findings import find
from helpers.evaluation.judges.rules import verdict
from helpers.wheels import PACKAGES

PENALTIES = (0.3, 1.0, 3.0)  # on the squares of the weights
SPREADS = (1.0, 1.4, 1.8, 2.2, 2.6)  # a penalty draws scores together: this factor spreads them again
WORDS = 0.5  # share of their fitted weights that words keep: a score shall hang less on what an answer is about
FEATURES = 0.05  # standard deviation that a feature has beside words, whose norm is 1
AGAIN = 1e-3  # difference of a weight that another processor may make

Choice = tuple[float, float]  # a penalty and a spread


class Fit:
    """Answers with people's scores, and what is weighed of each."""

    def __init__(self, scored: pd.DataFrame) -> None:
        self.human, self.sets = scored["human"].to_numpy(float), scored["data"].to_numpy()
        found = [find(*texts) for texts in zip(scored["prompt"], scored["answer"], strict=True)]
        self.verdicts = [verdict(one) for one in found]
        self.by_rules = np.array([one.score for one in self.verdicts])
        self.least = np.array([least_score(one) for one in found])
        self.doubtful = np.array([not is_clear(one) for one in found])  # the others are left to the rules
        unclear = [one for one, doubt in zip(found, self.doubtful, strict=True) if doubt]
        self.features = np.array([[*features(one).values()] for one in unclear])  # (doubtful answers, features)
        self.words = np.array([places(one) for one in unclear])  # (doubtful answers, PLACES)
        self._alike = self.words @ self.words.T

    def weights(self, rows: np.ndarray, penalty: float, spread: float) -> dict[str, np.ndarray]:
        """The weights fitted to some rows, (answers,) of bool, for raw features and words, with the ``constant``."""
        own, middle, scale, dual = self._fitted(rows, penalty)
        slopes = spread * dual @ ((self.features[own] - middle) / scale) / scale
        constant = self.human[rows & self.doubtful].mean() - slopes @ middle
        found = {"constant": np.array([constant]), "features": slopes, "words": WORDS * spread * dual @ self.words[own]}
        return {name: values.astype(np.float32) for name, values in found.items()}

    def _fitted(self, rows: np.ndarray, penalty: float) -> tuple[np.ndarray, ...]:
        """Of some rows: places among the doubtful, means and scales of features, each one's share in the weights."""
        own = np.flatnonzero(rows[self.doubtful])
        middle, scale = self.features[own].mean(axis=0), self.features[own].std(axis=0) / FEATURES
        scale[scale < 1e-6] = np.inf  # a feature that does not vary here is not weighed
        scaled = (self.features[own] - middle) / scale
        human = self.human[self.doubtful][own]
        kernel = self._alike[np.ix_(own, own)] + scaled @ scaled.T
        dual = KernelRidge(alpha=penalty, kernel="precomputed").fit(kernel, human - human.mean()).dual_coef_
        return own, middle, scale, dual

    def totals(self, rows: np.ndarray, others: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
        """How far the sums of the doubtful among some rows, fitted to others, lie from those' mean, and that mean."""
        own, middle, scale, dual = self._fitted(others, penalty)
        asked = np.flatnonzero(rows[self.doubtful])
        slopes = dual @ ((self.features[own] - middle) / scale) / scale
        total = WORDS * self._alike[np.ix_(asked, own)] @ dual + (self.features[asked] - middle) @ slopes
        return total, self.human[others & self.doubtful].mean()

    def chosen(self, rows: np.ndarray) -> Choice:
        """The penalty and spread with the highest κ on the sets of some rows, each left out in turn."""
        scores = {choice: np.full(len(rows), np.nan) for choice in product(PENALTIES, SPREADS)}
        for out, penalty in product(self._left_out(rows), PENALTIES):
            total, mean = self.totals(out, rows & ~out, penalty)
            for spread in SPREADS:
                scores[penalty, spread][out] = self._scores(out, mean + spread * total)
        found = {choice: float(weighted_kappa(self.human[rows], some[rows])) for choice, some in scores.items()}
        return max(found, key=found.get)

    def held_out(self) -> tuple[list[Judgement], dict[str, Choice]]:
        """A verdict on every answer by weights that no answer of its set had a part in, and each set's choice."""
        scores, choices = np.full(len(self.human), np.nan), {}
        for out in self._left_out(np.ones(len(scores), bool)):
            choices[self.sets[out][0]] = penalty, spread = self.chosen(~out)
            total, mean = self.totals(out, ~out, penalty)
            scores[out] = self._scores(out, mean + spread * total)
        return [Judgement(int(s), v.refused) for s, v in zip(scores, self.verdicts, strict=True)], choices

    def _scores(self, rows: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """The scores of some rows, by the rules or, where these are in doubt, by the sums."""
        scores = self.by_rules.astype(float)
        scores[rows & self.doubtful] = rounded(totals, self.least[rows & self.doubtful])
        return scores[rows]

    def _left_out(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The rows of each set that has some, as (answers,) of bool."""
        for name in np.unique(self.sets[rows]):
            yield rows & (self.sets == name)


def fitted_to(scored: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What ``weights.safetensors`` holds: the weights fitted to all answers, and where they come from."""
    fit, package = Fit(scored), PACKAGES["pyrit"]
    everything = np.ones(len(scored), bool)
    penalty, spread = fit.chosen(everything)
    facts = {
        "from": f"answers scored by people in pyrit {package.version} ({package.licence}); no text of them is kept",
        "sets": ", ".join(sorted(set(scored["data"]))),
        "answers": len(scored),
        "penalty": penalty,
        "spread": spread,
    }
    return fit.weights(everything, penalty, spread), {name: str(fact) for name, fact in facts.items()}


def check_weights(scored: pd.DataFrame) -> None:
    """Raise StudyError unless a fit to these answers gives the weights that the judge uses."""
    found, _ = fitted_to(scored)
    if not all(np.allclose(found[name], kept, atol=AGAIN) for name, kept in read_weights().items()):
        raise StudyError(
            f"{WEIGHTS.name} does not hold what a fit to the answers gives: "
            "run `python -m helpers.evaluation.judges.fitting`, and read what changes"
        )


if __name__ == "__main__":
    people = scored_by_people()
    weights, facts = fitted_to(people[is_fitted(people)])
    save_file(weights, WEIGHTS, facts)
