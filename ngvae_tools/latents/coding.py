"""How multiples of a step are written as codes: value = offset + scale * code, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError
from ngvae_tools.latents.census import Census
from ngvae_tools.latents.grid import MOST_STEPS, Array, Grid, Integers
from ngvae_tools.latents.packing import pack

Codes = npt.NDArray[Any]

CODE_TYPES = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4", "<f4"))
"""Types of codes; float32 is that of latents that are not quantised."""


@dataclass(frozen=True, slots=True)
class Coding:
    """What codes mean.

    A code is (number - base) << shift, where `number` is the multiple of the step. The shift puts the bits that
    say most into the upper byte, and those below, which are nearly random, into a byte of their own: a Huffman code
    of each byte then comes close to the entropy, although it knows nothing of the other.

    Attributes:
        dtype: One of `CODE_TYPES`, the same for all columns.
        step: Width of a step of each column, shape (d,); 0 for float32.
        base: Number of code 0, shape (d,).
        shift: Bits that codes are shifted by, shape (d,).
    """

    dtype: np.dtype[Any]
    step: Array
    base: Integers
    shift: Integers

    @classmethod
    def lossless(cls, columns: int) -> Coding:
        """The values themselves, as float32."""
        zeros = np.zeros(columns, np.int64)
        return cls(np.dtype("<f4"), zeros.astype(np.float64), zeros, zeros)

    @classmethod
    def of(cls, grid: Grid, census: Census, *, chunk_rows: int, shifted: bool = True) -> Coding:
        """The smallest codes for what was counted.

        Args:
            grid: The grid of the numbers, d dimensions.
            census: All numbers.
            chunk_rows: Rows that are packed together.
            shifted: Whether codes may be shifted.

        Raises:
            OutputError: A dimension has more than 2**32 levels.
        """
        most = int(census.span.max(initial=0))
        if most >= MOST_STEPS:
            raise OutputError(
                "the latents cannot be quantised",
                expected="at most 2**32 levels of a dimension",
                found=f"{most + 1:,}",
                remedy="pass a larger --distortion, or --lossless",
            )
        dtype = next(kind for kind in CODE_TYPES if most <= np.iinfo(kind).max)
        shift, base = np.zeros(len(grid.step), np.int64), census.low.copy()
        if shifted and dtype.itemsize > 1:
            for k in range(len(shift)):
                shift[k], lead = _placed(census, k, dtype.itemsize, chunk_rows)
                base[k] -= lead
        return cls(dtype, grid.step, base, shift)

    @property
    def quantised(self) -> bool:
        """Whether values were rounded."""
        return self.dtype.kind == "u"

    @property
    def scale(self) -> Array:
        """Value of a code less that of the code before it, shape (d,)."""
        return np.ldexp(self.step, -self.shift) if self.quantised else np.ones_like(self.step)

    @property
    def offset(self) -> Array:
        """Value of code 0, shape (d,)."""
        return self.base * self.step

    def encode(self, values: npt.NDArray[np.floating]) -> Codes:
        """Codes of values, both (n, d)."""
        if not self.quantised:
            return values.astype(self.dtype)
        numbers = Grid(self.step).numbers(values)
        return np.asarray((numbers - self.base) << self.shift).astype(self.dtype)

    def decode(self, codes: Codes) -> Array:
        """Values of codes, both (n, d); exactly offset + scale * code."""
        return self.offset + self.scale * codes

    def tiled(self, times: int) -> Coding:
        """The same for `times` groups of d columns each."""
        return Coding(self.dtype, np.tile(self.step, times), np.tile(self.base, times), np.tile(self.shift, times))


def _placed(census: Census, k: int, itemsize: int, chunk_rows: int) -> tuple[int, int]:
    """The shift, and the numbers left free below the smallest, that make a typical chunk smallest.

    Where frequencies are not known, a shift of 3 at most.
    """
    span = int(census.span[k])
    room = 8 * itemsize - span.bit_length()
    counts = census.counts(k)
    if counts is None:
        return min(room, 3), 0
    sample = _sample(counts, max(min(chunk_rows, census.n_rows), 1))
    ways = [(shift, 0) for shift in range(room + 1)]
    lead = _lead(counts)
    if lead and span + lead < 2 ** (8 * itemsize):
        ways.append((0, lead))
    return min(ways, key=lambda way: len(pack(((sample + way[1]) << way[0]).astype(f"<u{itemsize}"))))


def _lead(counts: Integers) -> int:
    """Numbers left free below the smallest so that the 256 that hold most differ in their lowest byte alone.

    Latents with long tails are then narrow numbers, and few wide ones.
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    if len(counts) <= 256:
        return 0
    first = int(np.argmax(ends[256:] - ends[:-256]))
    return -first % 256


def _sample(counts: Integers, rows: int) -> Integers:
    """A chunk whose numbers, less the smallest, are as frequent as in all rows, in an order without runs, (rows,)."""
    ends = np.cumsum(counts)
    places = (np.arange(rows) + 0.5) / rows * (ends[-1] if len(ends) else 0)
    numbers = np.minimum(np.searchsorted(ends, places, side="right"), max(len(ends) - 1, 0))
    # The stream of this old generator never changes, so that the same latents always get the same shift.
    return np.asarray(np.random.RandomState(0).permutation(numbers), dtype=np.int64)
