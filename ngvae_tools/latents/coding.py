"""How multiples of a step are written as codes: value = offset + scale * code, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError
from ngvae_tools.latents.census import Census, entropy_of
from ngvae_tools.latents.grid import MOST_STEPS, Array, Grid, Integers

Codes = npt.NDArray[Any]

CODE_TYPES = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4", "<f4"))
"""Types of codes; float32 is that of latents that are not quantised."""

_TABLE_BITS, _SYMBOL_BITS = 100.0, 2.5
"""What a Huffman table takes in a deflate block: for itself, and for each symbol in use."""


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
        shift = np.zeros(len(grid.step), np.int64)
        if shifted and dtype.itemsize > 1:
            shift[:] = [_shift(census, k, dtype.itemsize, chunk_rows) for k in range(len(shift))]
        return cls(dtype, grid.step, census.low.copy(), shift)

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

    def columns(self, chosen: Any) -> Coding:
        """The same for some of the columns."""
        return Coding(self.dtype, self.step[chosen], self.base[chosen], self.shift[chosen])


def _shift(census: Census, k: int, itemsize: int, chunk_rows: int) -> int:
    """The shift of the smallest cost; where frequencies are not known, so that the upper byte has 5 bits."""
    bits = int(census.span[k]).bit_length()
    room = 8 * itemsize - bits
    counts = census.counts(k)
    if counts is None:
        return min(room, 3)
    costs = [_cost(counts, shift, itemsize, census.n_rows, chunk_rows) for shift in range(room + 1)]
    return int(np.argmin(costs))


def _cost(counts: Integers, shift: int, itemsize: int, n_rows: int, chunk_rows: int) -> float:
    """Bits that a Huffman code of each byte of the shifted codes takes, its tables included."""
    codes = np.arange(len(counts)) << shift
    chunks = max(n_rows / chunk_rows, 1)
    total = 0.0
    for byte in range(itemsize):
        plane = np.bincount(codes >> 8 * byte & 255, weights=counts, minlength=256)
        share = plane / max(n_rows, 1)
        used = float((1 - (1 - share) ** min(chunk_rows, n_rows)).sum())
        if used > 1:
            total += n_rows * entropy_of(plane) + chunks * (_TABLE_BITS + _SYMBOL_BITS * used)
        else:
            total += chunks * _TABLE_BITS
    return total
