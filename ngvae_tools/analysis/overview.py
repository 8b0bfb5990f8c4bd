"""What a picture of N latents needs, gathered in one pass, and the plane in which they vary most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.blas import one_blas_thread
from ngvae_tools.analysis.moments import Moments

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Extreme:
    """The rows of the least and the largest values of one column, of equal ones those that a stable sort puts there.

    Attributes:
        low_rows: Row numbers of the least, ascending by value, shape (n,).
        low_values: Their values.
        high_rows: Row numbers of the largest, ascending by value, shape (n,).
        high_values: Their values.
    """

    low_rows: Rows
    low_values: Array
    high_rows: Rows
    high_values: Array


class Overview:
    """Takes rows (n, d) in order, block by block; memory is bounded by d and the block.

    Args:
        columns: Number d of columns.
        count: Rows at each end of a column.
        sample: Row numbers that quantiles are taken from, ascending.
    """

    def __init__(self, columns: int, *, count: int, sample: Rows) -> None:
        self._count = count
        self._seen = 0
        self.moments = Moments.empty(columns)
        nothing = Extreme(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0))
        self.extremes = [nothing] * columns
        self._wanted = sample
        self._sample = np.empty((len(sample), columns), np.float32)

    def add(self, values: npt.NDArray[np.floating]) -> None:
        """Take the next rows (n, d)."""
        with one_blas_thread():
            self.moments = self.moments.update(values)
        first, last = np.searchsorted(self._wanted, [self._seen, self._seen + len(values)])
        self._sample[first:last] = values[self._wanted[first:last] - self._seen]
        for column in range(len(self.extremes)):
            of_column = values[:, column].astype(np.float64)
            self.extremes[column] = self._merged(self.extremes[column], of_column)
        self._seen += len(values)

    def quantiles(self, column: int, shares: tuple[float, ...]) -> list[float]:
        """Quantiles of a column over the sample, interpolated linearly.

        Raises:
            IndexError: There was no row.
        """
        return [float(value) for value in np.quantile(self._sample[:, column].astype(np.float64), shares)]

    def _merged(self, known: Extreme, values: Array) -> Extreme:
        count = self._count
        full = len(known.low_rows) == count
        # Of equal values the earlier row is the lesser one, so that only a lesser value displaces a least one.
        low = np.flatnonzero(values < known.low_values[-1]) if full else np.arange(len(values))
        high = np.flatnonzero(values >= known.high_values[0]) if full else np.arange(len(values))
        low_values = np.concatenate([known.low_values, values[low]])
        low_order = np.argsort(low_values, kind="stable")[:count]
        high_values = np.concatenate([known.high_values, values[high]])
        high_order = np.argsort(high_values, kind="stable")[-count:]
        return Extreme(
            np.concatenate([known.low_rows, low + self._seen])[low_order],
            low_values[low_order],
            np.concatenate([known.high_rows, high + self._seen])[high_order],
            high_values[high_order],
        )


@dataclass(frozen=True, slots=True)
class Plane:
    """The plane in which rows vary most.

    Attributes:
        centre: Mean of the rows, shape (d,).
        axes: Two orthogonal directions, the largest weight of each above 0, shape (d, 2); the second is 0 where d = 1.
        explained: Share of the variance along each.
    """

    centre: Array
    axes: Array
    explained: tuple[float, float]

    def points(self, values: npt.NDArray[np.floating]) -> Array:
        """Where rows (n, d) lie in it, shape (n, 2)."""
        with one_blas_thread():
            found: Array = (values.astype(np.float64) - self.centre) @ self.axes
        return found


def principal_plane(moments: Moments, weights: Array) -> Plane | None:
    """The plane of most variance of rows in units of their columns (Pearson 1901); None where nothing varies.

    Args:
        moments: Of the rows.
        weights: What a column is multiplied by before, shape (d,); the plane takes rows as they were.
    """
    if moments.count < 2 or not len(weights):
        return None
    with one_blas_thread():
        variances, directions = np.linalg.eigh(moments.covariance() * np.outer(weights, weights))
    total = float(variances.clip(0).sum())
    if not total > 0 or not np.isfinite(total):
        return None
    axes = np.zeros((len(weights), 2))
    shares = [0.0, 0.0]
    for axis in range(min(2, len(weights))):
        direction = directions[:, -1 - axis]
        # An eigenvector's sign is anybody's choice.
        axes[:, axis] = direction * np.sign(direction[np.abs(direction).argmax()]) * weights
        shares[axis] = max(float(variances[-1 - axis]), 0.0) / total
    return Plane(moments.mean, axes, (shares[0], shares[1]))
