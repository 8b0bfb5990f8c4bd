"""A bounded sample of the rows of a stream, the same for any order, batch size or number of parts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]

LARGEST = 65536
"""Rows of a sample at most: the standard error of a mean is then below 0.004 of the deviation of one row."""

VALUES = 2**24
"""Values of one head that a sample holds at most: 64 MiB."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows drawn without replacement, every row of the stream with the same chance; in order of `row`.

    Attributes:
        row: Which rows of the stream, int64, shape (M,).
        priority: Random number of each row; the M rows with the least are the sample, so the least m of them are a
            smaller sample. uint64, shape (M,).
        mu: Posterior means, shape (M, K).
        second: The second head, shape (M, K); None without one.
    """

    row: npt.NDArray[np.int64]
    priority: npt.NDArray[np.uint64]
    mu: Rows
    second: Rows | None

    def __len__(self) -> int:
        return len(self.row)

    def smallest(self, size: int) -> npt.NDArray[np.intp]:
        """Places of a sample of at most `size` rows within this one, in order of `row`."""
        return np.sort(np.argsort(self.priority, kind="stable")[:size])


def sample_size(latent_dim: int) -> int:
    """Rows that a sample of K dimensions holds."""
    return max(1, min(LARGEST, VALUES // latent_dim))


class Sampler:
    """Keeps the rows with the least random priorities, which depend on nothing but the row's number and the seed.

    Args:
        size: Rows to keep at most.
        seed: Another seed draws another sample.
        rows: Rows of the whole stream at most, where that is known. Each part of the stream then keeps only what has
            a chance, and if rows turn out to be missing the sample shrinks as the stream does.
    """

    def __init__(self, size: int, seed: int = 0, rows: int | None = None) -> None:
        self.size = size
        self._seed = seed
        self._kept: list[Sample] = []
        self._held = 0
        # So many standard deviations above the expected share that no row of the sample is lost.
        share = 1.0 if not rows else min((size + 8 * math.sqrt(size)) / rows, 1.0)
        self._limit = np.uint64(min(int(share * 2**64), 2**64 - 1))

    def add(self, row: npt.NDArray[np.int64], mu: Rows, second: Rows | None) -> None:
        """Offer rows: their numbers (n,), unique in the stream, and their heads (n, K)."""
        priority = _priorities(row, self._seed)
        place = np.flatnonzero(priority <= self._limit)
        if len(place) == 0:
            return
        self._kept.append(_taken(Sample(row, priority, mu, second), place))
        self._held += len(place)
        # Compacting at twice the size keeps both the memory and the copying bounded.
        if self._held >= 2 * self.size:
            self._compact()

    def join(self, other: Sample) -> None:
        """Offer what another sampler of the same seed and size kept."""
        self.add(other.row, other.mu, other.second)

    def kept(self) -> Sample | None:
        """What is kept so far, for `join`; None if there is nothing."""
        if not self._kept:
            return None
        self._compact()
        return self._kept[0]

    def sample(self) -> Sample:
        """The sample of all rows offered so far.

        Raises:
            ValueError: No row was offered.
        """
        self._compact()
        sample = self._kept[0]
        return _taken(sample, np.argsort(sample.row, kind="stable"))

    def _compact(self) -> None:
        if not self._kept:
            raise ValueError("no row was offered to the sampler")
        seconds = [part.second for part in self._kept if part.second is not None]
        whole = Sample(
            np.concatenate([part.row for part in self._kept]),
            np.concatenate([part.priority for part in self._kept]),
            np.concatenate([part.mu for part in self._kept]),
            np.concatenate(seconds) if seconds else None,
        )
        if len(whole) > self.size:
            # Equal priorities are decided by the row, never by the order of arrival.
            whole = _taken(whole, np.lexsort((whole.row, whole.priority))[: self.size])
            self._limit = whole.priority.max()
        self._kept, self._held = [whole], len(whole)


def _taken(sample: Sample, place: npt.NDArray[np.intp]) -> Sample:
    second = None if sample.second is None else sample.second[place]
    return Sample(sample.row[place], sample.priority[place], sample.mu[place], second)


def _priorities(row: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A random number for each row: SplitMix64 (Steele, Lea and Flood 2014) of its number."""
    golden, one, two = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    # Two rounds: the counter of the first alone would make seeds shifts of each other.
    value = row.astype(np.uint64) * golden + np.uint64((seed * 0xD1342543DE82EF95 + 1) % 2**64)
    for _ in range(2):
        value = value + golden
        value = (value ^ (value >> np.uint64(30))) * one
        value = (value ^ (value >> np.uint64(27))) * two
        value ^= value >> np.uint64(31)
    return value
