"""Metrics that compare images which share a factor: beta-VAE (Higgins et al. 2017), FactorVAE (Kim and Mnih 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.disentanglement.pairing import Groups
from ngvae_tools.analysis.disentanglement.settings import Settings

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK = 256  # points whose images are gathered at once


def beta_vae(mu: Array, groups: Sequence[Groups], settings: Settings, rng: np.random.Generator) -> float:
    """Accuracy of telling which factor is shared, on fresh evaluation points.

    A point: a factor drawn uniformly, `batch` images and for each another image of its class; the mean
    absolute difference of each dimension. A logistic regression with scikit-learn's defaults tells the factor.

    Args:
        mu: (n, K).
        groups: The images by class, one a factor, at least two factors.
        settings: Numbers of points and images.
        rng: Draws factors and images.
    """
    from sklearn.linear_model import LogisticRegression

    train, labels = difference_points(mu, groups, settings.train, settings.batch, rng)
    test, expected = difference_points(mu, groups, settings.test, settings.batch, rng)
    model = LogisticRegression().fit(train, labels)
    return float(np.mean(model.predict(test) == expected))


def difference_points(
    mu: Array, groups: Sequence[Groups], count: int, batch: int, rng: np.random.Generator
) -> tuple[Array, Integers]:
    """Points (count, K) of the beta-VAE metric and the factor of each (count,)."""
    chosen = rng.integers(len(groups), size=count)
    points = np.empty((count, mu.shape[1]))
    for factor, rows in _blocks(chosen):
        one, other = groups[factor].pairs((len(rows), batch), rng)
        points[rows] = np.abs(mu[one] - mu[other]).mean(axis=1)
    return points, chosen


def factor_vae(mu: Array, groups: Sequence[Groups], settings: Settings, rng: np.random.Generator) -> float | None:
    """Accuracy of the majority vote on fresh evaluation points; None if every dimension is dead.

    A point: a factor drawn uniformly, the class of an image drawn at random, `batch` images of that class; the
    dimension with the least variance over the batch relative to that over all images votes for the factor.

    Args:
        mu: (n, K).
        groups: The images by class, one a factor.
        settings: Numbers of points and images, and the threshold of dead dimensions.
        rng: Draws factors and images.
    """
    sample = rng.choice(len(mu), settings.train, replace=False) if len(mu) > settings.train else slice(None)
    spread = mu[sample].var(axis=0, ddof=1)
    alive = np.sqrt(spread) >= settings.dead
    if not alive.any():
        return None
    scaled = mu[:, alive] / np.sqrt(spread[alive])
    train = _votes(scaled, groups, settings.train, settings.batch, rng)
    return vote_accuracy(train, _votes(scaled, groups, settings.test, settings.batch, rng))


def vote_accuracy(train: Integers, test: Integers) -> float:
    """Share of the test votes (F, K) that fall on the factor with most training votes of their dimension."""
    return float(test[train.argmax(axis=0), np.arange(train.shape[1])].sum() / test.sum())


def _votes(mu: Array, groups: Sequence[Groups], count: int, batch: int, rng: np.random.Generator) -> Integers:
    votes = np.zeros((len(groups), mu.shape[1]), np.int64)
    for factor, rows in _blocks(rng.integers(len(groups), size=count)):
        images = mu[groups[factor].batches(len(rows), batch, rng)]
        votes[factor] += np.bincount(images.var(axis=1, ddof=1).argmin(axis=1), minlength=mu.shape[1])
    return votes


def _blocks(chosen: Integers) -> Iterator[tuple[int, Integers]]:
    """The points of each factor, in blocks."""
    for factor in range(int(chosen.max()) + 1):
        rows = np.flatnonzero(chosen == factor)
        for start in range(0, len(rows), _BLOCK):
            yield factor, rows[start : start + _BLOCK]
