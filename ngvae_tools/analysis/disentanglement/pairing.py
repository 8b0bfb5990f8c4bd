"""Drawing images that share a factor's class from a finite table, which need not be a grid of factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Groups:
    """The images of one factor in the order of its classes; images alone in their class are left out.

    Attributes:
        order: Their rows, those of a class side by side, (m,).
        start: Where in `order` the class of each begins, (m,).
        size: How many images the class of each has, at least 2, (m,).
    """

    order: Integers
    start: Integers
    size: Integers

    @classmethod
    def of(cls, code: Integers) -> Groups:
        """Groups of a column of classes (n,)."""
        order = np.argsort(code, kind="stable")
        counts = np.bincount(code)
        starts, sizes = np.repeat(np.cumsum(counts) - counts, counts), np.repeat(counts, counts)
        paired = sizes > 1
        shift = np.cumsum(~paired)
        return cls(order[paired], (starts - shift)[paired], sizes[paired])

    def pairs(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Integers, Integers]:
        """Rows of images and, for each, of another image of its class."""
        place = rng.integers(len(self.order), size=shape)
        start, size = self.start[place], self.size[place]
        other = start + (place - start + 1 + rng.integers(size - 1)) % size
        return self.order[place], self.order[other]

    def batches(self, count: int, batch: int, rng: np.random.Generator) -> Integers:
        """Rows (count, batch): for each batch the class of an image drawn at random, then images of that class."""
        place = rng.integers(len(self.order), size=(count, 1))
        rows: Integers = self.order[self.start[place] + rng.integers(self.size[place], size=(count, batch))]
        return rows
