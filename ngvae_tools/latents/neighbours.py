"""Rows of a latent file that are nearest to given latents, found exactly.

The distance is Euclidean over all kept columns, each in units of its posterior's mean standard deviation: what the
encoder cannot tell apart is near 0, and a dimension that is known exactly counts more than one that is vague.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OptionError
from ngvae_tools.latents.reader import LatentFile

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

BLOCK_BYTES = 16 * 2**20
"""Memory of the distances that are computed at once."""

BLOCK_ROWS = 65536
"""Rows that are read at once, fewer where there are many columns."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest rows of Q queries, nearest first, n of each: as many as were asked for, or all N.

    Attributes:
        rows: Row numbers, shape (Q, n).
        distances: Distances in standard deviations of the posterior, shape (Q, n).
    """

    rows: Rows
    distances: Array


def weights_of(file: LatentFile) -> Array:
    """1 / standard deviation of the posterior of each column, shape (d,).

    A column without such a number (variance 0, as of a constant code) counts in its own units.
    """
    variance = file.posterior_variance
    known = np.isfinite(variance) & (variance > 0)
    return 1 / np.sqrt(np.where(known, variance, 1.0))


def nearest(file: LatentFile, queries: npt.ArrayLike, count: int = 10) -> Neighbours:
    """The rows nearest to each query, by comparing with all; those of equal distance in the order of their rows.

    Memory is bounded by the block, not by N: a file of any size is read once.

    Args:
        file: N rows of d columns.
        queries: Latents, shape (Q, d).
        count: How many rows of each query.

    Raises:
        OptionError: The queries do not fit the file, or the count is below 1.
        RecordError: The file is damaged.
    """
    wanted = checked_queries(file, queries, count)
    weights = weights_of(file)
    best = [_Best(count) for _ in wanted]
    start = 0
    for block in _blocks(file):
        group = max(BLOCK_BYTES // 8 // max(len(block), 1), 1)
        for first in range(0, len(wanted), group):
            squares = squared_distances(block, wanted[first : first + group], weights)
            for found, row in zip(best[first : first + group], squares, strict=True):
                found.add(row, start)
        start += len(block)
    size = min(count, len(file))
    rows = np.array([found.rows for found in best], np.int64).reshape(len(wanted), size)
    squares = np.array([found.squares for found in best], np.float64).reshape(len(wanted), size)
    return Neighbours(rows, np.sqrt(squares))


def checked_queries(file: LatentFile, queries: npt.ArrayLike, count: int) -> Array:
    """The queries as float64 (Q, d).

    Raises:
        OptionError: They do not fit the file, or the count is below 1.
    """
    wanted = np.asarray(queries, np.float64)
    columns = file.shape[1]
    if wanted.ndim != 2 or wanted.shape[1] != columns or not np.isfinite(wanted).all():
        raise OptionError(
            "the latents to look for cannot be used",
            expected=f"finite numbers of shape (Q, {columns}), a row a query",
            found=f"shape {wanted.shape}" + ("" if np.isfinite(wanted).all() else " with numbers that are not finite"),
            remedy="pass the columns that the latent file has",
        )
    if count < 1:
        raise OptionError(
            "the count cannot be used", expected="a whole number above 0", found=str(count), remedy="pass another"
        )
    return wanted


def squared_distances(values: npt.NDArray[np.floating[Any]], queries: Array, weights: Array) -> Array:
    """Squared distances of n rows (n, d) from Q queries (Q, d), shape (Q, n).

    Differences are squared as they are: the shorter way over scalar products loses the digits of near rows.
    """
    total = np.zeros((len(queries), len(values)))
    difference = np.empty_like(total)
    # Overflow is a distance of infinity, which is as far as it gets.
    with np.errstate(over="ignore"):
        for column, weight in enumerate(weights.tolist()):
            np.subtract.outer(queries[:, column], values[:, column].astype(np.float64), out=difference)
            difference *= weight
            np.square(difference, out=difference)
            total += difference
    return total


def _blocks(file: LatentFile) -> Iterator[npt.NDArray[np.floating[Any]]]:
    size = file.header.chunk_rows
    most = min(BLOCK_ROWS, BLOCK_BYTES // (8 * max(file.shape[1], 1)))
    rows = max(most // size, 1) * size
    for start in range(0, len(file), rows):
        yield file[start : start + rows]


class _Best:
    """The nearest rows of one query among those seen, in order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.rows: Rows = np.empty(0, np.int64)
        self.squares: Array = np.empty(0)

    def add(self, squares: Array, start: int) -> None:
        """Take the squared distances (n,) of the rows from `start` on."""
        # Of equal distances, those seen before have the smaller row.
        full = len(self.rows) == self._count
        near = np.flatnonzero(squares < self.squares[-1]) if full else np.arange(len(squares))
        if len(near) > self._count:
            among = squares[near]
            near = near[among <= np.partition(among, self._count - 1)[self._count - 1]]
        if len(near):
            together = np.concatenate([self.squares, squares[near]])
            order = np.argsort(together, kind="stable")[: self._count]
            self.squares = together[order]
            self.rows = np.concatenate([self.rows, near + start])[order]
