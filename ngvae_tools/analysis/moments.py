"""Mean and covariance of a stream, over fixed blocks, so that the result depends on nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

BLOCK = 1024
"""Consecutive indices of one block; blocks are summed alone and merged in index order, for equal bits."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and sum of products of deviations of the rows seen so far, in float64.

    Attributes:
        count: Number of rows.
        mean: Mean of the rows, shape (K,).
        comoment: Sum over rows of the outer product of deviations from the mean, shape (K, K); or of their
            squares alone, shape (K,), for `diagonal` moments.
    """

    count: int
    mean: Array
    comoment: Array

    @classmethod
    def empty(cls, dim: int, *, diagonal: bool = False) -> Moments:
        """Moments of no rows."""
        return cls(0, np.zeros(dim), np.zeros(dim if diagonal else (dim, dim)))

    @classmethod
    def of(cls, rows: npt.NDArray[np.floating], *, diagonal: bool = False) -> Moments:
        """Moments of one block of rows, shape (n, K)."""
        # One memory layout: numpy and BLAS sum other layouts in another order.
        values = np.ascontiguousarray(rows, dtype=np.float64)
        if len(values) == 0:
            return cls.empty(values.shape[1], diagonal=diagonal)
        mean = values.mean(axis=0)
        deviation = values - mean
        comoment = (deviation * deviation).sum(axis=0) if diagonal else deviation.T @ deviation
        return cls(len(values), mean, comoment)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of rows (Chan, Golub and LeVeque 1979)."""
        if other.count == 0:
            return self
        if self.count == 0:
            return other
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        product = delta * delta if self.comoment.ndim == 1 else np.outer(delta, delta)
        comoment = self.comoment + other.comoment + product * (self.count * other.count / count)
        return Moments(count, mean, comoment)

    def update(self, rows: npt.NDArray[np.floating]) -> Moments:
        """Moments after one more block of rows, shape (n, K)."""
        return self.merge(Moments.of(rows, diagonal=self.comoment.ndim == 1))

    def covariance(self) -> Array:
        """Covariance (K, K), or variances (K,) for diagonal moments; ddof 1.

        Raises:
            ValueError: Fewer than two rows were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two rows, got {self.count}")
        return self.comoment / (self.count - 1)
