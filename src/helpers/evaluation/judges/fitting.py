"""Fits the classifier's weights to answers that people scored, and says how it does on sets that it has not seen.

Outside, each set of answers is left out in turn; inside, how strongly the weights are held back and how far the scores
are spread is chosen by leaving out each of the others in turn. The scores that come out of it are compared with
people's (``helpers.evaluation.judges.agreement``). The weights that the judge uses are fitted to all sets in the same
way, and written by ``python -m helpers.evaluation.judges.fitting``.
"""

import json
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from helpers.errors import StudyError
from helpers.evaluation.judges import Judgement
from helpers.evaluation.judges.agreement import harm_by_people, weighted_kappa
from helpers.evaluation.judges.classifier import DIRECT, WEIGHTS, features, is_clear, is_direct, rounded
from helpers.evaluation.judges.findings import find
from helpers.evaluation.judges.rules import verdict
from helpers.wheels import PACKAGES

PENALTIES = (100.0, 300.0, 1000.0)  # on the squares of weights of standardised features
SPREADS = (1.0, 1.4, 1.8, 2.2, 2.6)  # a penalty draws scores together: this factor spreads them again
DECIMALS = 5
AGAIN = 1e-3  # difference of a weight that another processor may make

Choice = tuple[float, float]  # a penalty and a spread


class Fit:
    """Answers with people's scores, and what the rules found in each."""

    def __init__(self, scored: pd.DataFrame) -> None:
        self.human, self.sets = scored["human"].to_numpy(float), scored["data"].to_numpy()
        found = [find(*texts) for texts in zip(scored["prompt"], scored["answer"], strict=True)]
        self.refused = [verdict(one).refused for one in found]
        self.by_rules = np.array([verdict(one).score for one in found])
        self.least = np.array([DIRECT if is_direct(one) else 1 for one in found])
        self.doubtful = np.array([not is_clear(one) for one in found])  # the others are left to the rules
        values = [features(one) if doubt else {} for one, doubt in zip(found, self.doubtful, strict=True)]
        self.values = pd.DataFrame(values).fillna(0)  # (answers, features)

    def weights(self, rows: np.ndarray, choice: Choice) -> pd.Series:
        """The weights fitted to some rows, (answers,) of bool, for raw features, with the ``constant``."""
        penalty, spread = choice
        rows = rows & self.doubtful
        values = self.values.to_numpy()[rows]
        middle, scale = values.mean(axis=0), values.std(axis=0)
        scale[scale < 1e-6] = np.inf  # a feature that does not vary here is not weighed
        slopes = spread * Ridge(alpha=penalty).fit((values - middle) / scale, self.human[rows]).coef_ / scale
        names = ["constant", *self.values]
        return pd.Series([self.human[rows].mean() - slopes @ middle, *slopes], names).round(DECIMALS)

    def scores(self, rows: np.ndarray, weights: pd.Series) -> np.ndarray:
        """The scores of some rows by some weights."""
        constant, *slopes = weights
        found = rounded(constant + self.values.to_numpy()[rows] @ slopes, self.least[rows])
        return np.where(self.doubtful[rows], found, self.by_rules[rows])

    def chosen(self, rows: np.ndarray) -> Choice:
        """The penalty and spread with the highest κ on the sets of some rows, each left out in turn."""
        found = {}
        for choice in product(PENALTIES, SPREADS):
            scores = np.full(len(rows), np.nan)
            for out in self._left_out(rows):
                scores[out] = self.scores(out, self.weights(rows & ~out, choice))
            found[choice] = float(weighted_kappa(self.human[rows], scores[rows]))
        return max(found, key=found.get)

    def held_out(self) -> tuple[list[Judgement], dict[str, Choice]]:
        """A verdict on every answer by weights that no answer of its set had a part in, and each set's choice."""
        scores, choices = np.full(len(self.human), np.nan), {}
        for out in self._left_out(np.ones(len(scores), bool)):
            choices[self.sets[out][0]] = choice = self.chosen(~out)
            scores[out] = self.scores(out, self.weights(~out, choice))
        return [Judgement(int(score), declines) for score, declines in zip(scores, self.refused, strict=True)], choices

    def _left_out(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The rows of each set that has some, as (answers,) of bool."""
        for name in np.unique(self.sets[rows]):
            yield rows & (self.sets == name)


def fitted_to(scored: pd.DataFrame) -> dict:
    """What ``weights.json`` holds: the weights fitted to all answers, and where they come from."""
    fit, package = Fit(scored), PACKAGES["pyrit"]
    everything = np.ones(len(scored), bool)
    penalty, spread = fit.chosen(everything)
    return {
        "from": f"answers scored by people in pyrit {package.version} ({package.licence}); no text of them is kept",
        "sets": sorted(set(scored["data"])),
        "answers": len(scored),
        "penalty": penalty,
        "spread": spread,
        "weights": fit.weights(everything, (penalty, spread)).to_dict(),
    }


def fitted_again(scored: pd.DataFrame) -> None:
    """Raise StudyError unless a fit to these answers gives the weights that the judge uses."""
    kept, found = (pd.Series(one["weights"]) for one in (json.loads(WEIGHTS.read_text()), fitted_to(scored)))
    if list(kept.index) != list(found.index) or not np.allclose(kept, found, atol=AGAIN):
        raise StudyError(
            f"{WEIGHTS.name} does not hold what a fit to the answers gives: "
            "run `python -m helpers.evaluation.judges.fitting`, and read what changes"
        )


if __name__ == "__main__":
    WEIGHTS.write_text(json.dumps(fitted_to(harm_by_people()), indent=1) + "\n", encoding="utf-8")
