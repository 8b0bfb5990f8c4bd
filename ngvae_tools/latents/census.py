"""How often each multiple of the step occurs: the entropy of what is stored, and what types hold it."""

from __future__ import annotations

import numpy as np

from ngvae_tools.latents.grid import Array, Integers

MOST_COUNTERS = 2**23
"""Counters of all dimensions together; beyond them frequencies are not kept, ranges are."""

_ROUND = 256


class Census:
    """Counts whole numbers column by column.

    Args:
        columns: Number d of columns.
    """

    def __init__(self, columns: int) -> None:
        self.n_rows = 0
        self._low = np.zeros(columns, np.int64)
        self._high = np.full(columns, -1, np.int64)
        self._starts = [0] * columns
        self._counts: list[Integers] | None = [np.zeros(0, np.int64) for _ in range(columns)]

    def add(self, numbers: Integers) -> None:
        """Count rows, shape (n, d)."""
        if not len(numbers):
            return
        low, high = numbers.min(axis=0), numbers.max(axis=0)
        if self.n_rows:
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
        self._low, self._high = low, high
        self.n_rows += len(numbers)
        if self._counts is not None and int((high - low + 1 + 2 * _ROUND).sum()) > MOST_COUNTERS:
            self._counts = None
        if self._counts is None:
            return
        for k, column in enumerate(numbers.T):
            self._make_room(k, int(low[k]), int(high[k]))
            self._counts[k] += np.bincount(column - self._starts[k], minlength=len(self._counts[k]))

    @property
    def low(self) -> Integers:
        """Smallest number of each column, (d,); 0 without rows."""
        return self._low

    @property
    def span(self) -> Integers:
        """Largest less smallest number of each column, (d,); 0 without rows."""
        return np.asarray(np.maximum(self._high - self._low, 0))

    def counts(self, k: int) -> Integers | None:
        """How often each number from the smallest to the largest of column k occurs; None: it was not kept."""
        if self._counts is None:
            return None
        first = int(self._low[k]) - self._starts[k]
        return self._counts[k][first : first + int(self.span[k]) + 1]

    def entropy(self) -> Array | None:
        """Shannon entropy of each column in bits, (d,); None: there were too many different numbers to count."""
        if self._counts is None:
            return None
        return np.array([entropy_of(counts) for counts in self._counts])

    def _make_room(self, k: int, low: int, high: int) -> None:
        assert self._counts is not None
        held, start = self._counts[k], self._starts[k]
        if len(held) and start <= low and high < start + len(held):
            return
        first = low // _ROUND * _ROUND if not len(held) else min(start, low // _ROUND * _ROUND)
        last = max(start + len(held) if len(held) else first, (high // _ROUND + 1) * _ROUND)
        grown = np.zeros(last - first, np.int64)
        grown[start - first : start - first + len(held)] = held
        self._counts[k], self._starts[k] = grown, first


def entropy_of(counts: Array | Integers) -> float:
    """Shannon entropy in bits of what occurs so often; 0 without anything."""
    some = np.asarray(counts, dtype=np.float64)
    some = some[some > 0]
    share = some / some.sum() if len(some) else some
    return max(float(-(share * np.log2(share)).sum()), 0.0)
