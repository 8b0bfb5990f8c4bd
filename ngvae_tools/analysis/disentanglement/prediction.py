"""The metrics that predict factors from dimensions: DCI (Eastwood and Williams 2018) and SAP (Kumar et al. 2018)."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Images to learn from and images to judge by.

    Attributes:
        mu: Means to learn from, (a, K).
        codes: Classes of their factors, (a, F), at least two classes in every column.
        test_mu: Means to judge by, (b, K).
        test_codes: Classes of their factors, (b, F).
    """

    mu: Array
    codes: Integers
    test_mu: Array
    test_codes: Integers

    def columns(self, factors: npt.NDArray[np.bool_]) -> Split:
        """The split with some of the factors."""
        return Split(self.mu, self.codes[:, factors], self.test_mu, self.test_codes[:, factors])


@dataclass(frozen=True, slots=True)
class DCI:
    """The three scores; None where one is not defined."""

    disentanglement: float | None = None
    completeness: float | None = None
    informativeness: float | None = None


def dci(split: Split, trees: int, seed: int) -> DCI:
    """Gradient boosting of every factor from all dimensions, with scikit-learn's defaults but for `trees`.

    One thread a factor, as many at a time as there are processors; each has its own seed, so that the
    result does not depend on their number.
    """
    from sklearn.ensemble import GradientBoostingClassifier

    def learn(factor: int) -> tuple[Array, float]:
        model = GradientBoostingClassifier(n_estimators=trees, random_state=seed + factor)
        model.fit(split.mu, split.codes[:, factor])
        right = model.predict(split.test_mu) == split.test_codes[:, factor]
        return np.abs(np.asarray(model.feature_importances_, np.float64)), float(np.mean(right))

    # The slowest first: a factor takes time in proportion to its classes.
    count = split.codes.shape[1]
    order = np.argsort([-len(np.unique(split.codes[:, k])) for k in range(count)], kind="stable").tolist()
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        learnt = dict(zip(order, pool.map(learn, order), strict=True))
    importance = np.stack([learnt[k][0] for k in range(count)], axis=1)
    return DCI(
        disentanglement=concentration(importance) if count > 1 else None,
        completeness=concentration(importance.T) if len(importance) > 1 else None,
        informativeness=float(np.mean([learnt[k][1] for k in range(count)])),
    )


def concentration(importance: Array) -> float:
    """One minus the entropy of each row scaled to its largest, weighted by the rows' shares of all importance.

    Args:
        importance: Not negative, (rows, columns) with at least two columns.
    """
    shares = importance + 1e-11
    shares /= shares.sum(axis=1, keepdims=True)
    scores = 1 + np.sum(shares * np.log(shares), axis=1) / np.log(importance.shape[1])
    if importance.sum() == 0:
        return float(scores.mean())
    return float(np.sum(scores * importance.sum(axis=1)) / importance.sum())


def sap(split: Split, seed: int) -> float:
    """Mean over factors of the gap between the two dimensions that tell its class best, at least two dimensions.

    A dimension's score is the test accuracy of a linear support vector machine on it alone, C = 0.01, classes
    weighted to balance. With C classes the gap is at most one minus the other dimension's chance, never 1.
    """
    scores = np.array(
        [
            [_accuracy(split, dimension, factor, seed) for dimension in range(split.mu.shape[1])]
            for factor in range(split.codes.shape[1])
        ]
    )
    ranked = np.sort(scores, axis=1)
    return float(np.mean(ranked[:, -1] - ranked[:, -2]))


def _accuracy(split: Split, dimension: int, factor: int, seed: int) -> float:
    from sklearn.svm import LinearSVC

    column = slice(dimension, dimension + 1)
    model = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
    model.fit(split.mu[:, column], split.codes[:, factor])
    return float(np.mean(model.predict(split.test_mu[:, column]) == split.test_codes[:, factor]))
