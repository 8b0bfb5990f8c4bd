"""Poisson bootstrap over the images of a stream: every replicate weighs each image by a Poisson(1) number.

The weights are those of the classic bootstrap in the limit of many images, and need no second pass (Chamandy et
al. 2012). They depend on the image's index and the seed alone, so the intervals are the same for any batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import BLOCK, Array

CONFIDENCE = 0.95

LEAST_FINITE = 0.9
"""Share of the replicates that must have a value: four images are enough for a variance, three are not."""


class Weights:
    """The weights of the replicates, made block by block.

    Args:
        replicates: Number R of replicates.
        seed: Another seed gives other weights.
    """

    def __init__(self, replicates: int, seed: int = 0) -> None:
        self.replicates = replicates
        self.seed = seed
        self._table = _poisson_table()

    def of(self, index: npt.NDArray[np.int64]) -> Array:
        """Weights of images, given by their ascending indices (n,), shape (n, R)."""
        weights = np.empty((len(index), self.replicates))
        blocks = index // BLOCK
        for block in np.unique(blocks):
            rows = slice(*np.searchsorted(blocks, [block, block + 1]))
            numbers = np.random.default_rng([self.seed, block]).integers(
                2**16, size=(BLOCK, self.replicates), dtype=np.uint16
            )
            weights[rows] = self._table[numbers[index[rows] - block * BLOCK]]
        return weights


@cache
def _poisson_table() -> npt.NDArray[np.uint8]:
    """The inverse of the distribution function, to 16 bits."""
    masses = np.exp(-1) / np.array([math.factorial(n) for n in range(12)])
    return np.searchsorted(masses.cumsum(), (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Replicates:
    """Weighted means and variances of F numbers of every row, one of each for each of R replicates.

    Attributes:
        weight: Sum of the weights, shape (R,).
        mean: Weighted means, shape (R, F).
        squares: Weighted sums of squared deviations from the mean, shape (R, F).
    """

    weight: Array
    mean: Array
    squares: Array

    @classmethod
    def of(cls, weights: Array, rows: Array) -> Replicates:
        """Replicates of one block: weights (n, R) of its images and rows (n P, F), each image's rows together."""
        positions = len(rows) // max(len(weights), 1)
        centre = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        deviation = rows - centre
        weight = weights.sum(axis=0) * positions
        both = np.concatenate([_sums(deviation, positions), _sums(deviation * deviation, positions)], axis=1)
        sums, squares = np.split(weights.T @ both, 2, axis=1)
        shift = sums / np.maximum(weight, 1)[:, None]
        squares = squares - weight[:, None] * shift * shift
        return cls(weight, centre + shift, np.maximum(squares, 0.0))

    def merge(self, other: Replicates) -> Replicates:
        """Replicates of both sets of rows (Chan, Golub and LeVeque 1979)."""
        weight = self.weight + other.weight
        share = (other.weight / np.maximum(weight, 1))[:, None]
        delta = other.mean - self.mean
        squares = self.squares + other.squares + delta * delta * (share * self.weight[:, None])
        return Replicates(weight, self.mean + delta * share, squares)

    @property
    def variance(self) -> Array:
        """Weighted variances, ddof 1, shape (R, F); NaN where a replicate has fewer than two rows."""
        return np.where(self.weight[:, None] > 1, self.squares / np.maximum(self.weight - 1, 1)[:, None], np.nan)


def _sums(rows: Array, positions: int) -> Array:
    """Sums over the rows of each image, (n, F)."""
    return rows if positions == 1 else rows.reshape(-1, positions, rows.shape[1]).sum(axis=1)


def interval(replicates: Array) -> Array | None:
    """Percentile interval of replicates (R, ...), shape (2, ...); None where too few of them are finite."""
    whole = finite(replicates)
    if whole is None:
        return None
    tail = (1 - CONFIDENCE) / 2
    return np.asarray(np.quantile(whole, [tail, 1 - tail], axis=0))


def finite(replicates: Array) -> Array | None:
    """The replicates (R, ...) less those that hold too few images to have a value; None where those are too many."""
    whole = replicates[np.isfinite(replicates).reshape(len(replicates), -1).all(axis=1)]
    return whole if len(whole) >= LEAST_FINITE * len(replicates) else None


def count_interval(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Percentile interval of whole numbers (R,): two of the numbers themselves."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(counts, [tail, 1 - tail], method="inverted_cdf")
    return int(low), int(high)
