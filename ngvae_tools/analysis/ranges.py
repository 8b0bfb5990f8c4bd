"""Which rows of new data lie outside the range seen before; streamed, with a bounded list of the worst."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.two_sample import share_outside
from ngvae_tools.record import Interval

Array = npt.NDArray[np.float64]

LISTED = 1000
"""Images outside the range that are listed at most, the farthest ones."""


@dataclass(frozen=True, slots=True)
class OutsideImage:
    """An image with a latent outside the range.

    Attributes:
        identifier: As in the latent file: the row of an HDF5 file, or the relative path with undecodable bytes as
            surrogate escapes.
        dimension: The dimension in which it lies farthest outside.
        value: Its posterior mean there, to half a step of the latent file.
        distance: How far outside, in standard deviations of the reference; None where the reference has none.
    """

    identifier: int | str
    dimension: int
    value: float
    distance: float | None


@dataclass(frozen=True, slots=True)
class Outside:
    """How many images lie outside the range of the reference in any dimension checked.

    Attributes:
        dimensions: Dimensions checked: those that the new data's latent file holds.
        n_images: Images checked.
        n_outside: Images outside in at least one dimension.
        share: n_outside / n_images; None without images.
        interval: Exact binomial 95 % interval of `share`.
        by_chance: The most that the share is by chance alone: 2 / (n + 1) a dimension for n images of the reference.
        per_dimension: Images outside in each of `dimensions`.
        worst: The farthest, at most `LISTED`, farthest first.
        left_out: Images outside that `worst` leaves out.
    """

    dimensions: tuple[int, ...]
    n_images: int
    n_outside: int
    share: float | None
    interval: Interval | None
    by_chance: float
    per_dimension: tuple[int, ...]
    worst: tuple[OutsideImage, ...]
    left_out: int


class RangeCheck:
    """Counts the images outside a range, block by block.

    Args:
        dimensions: Latent dimension of each column.
        low: Smallest value of the reference, shape (d,).
        high: Largest value of the reference, shape (d,).
        scale: Standard deviation of the reference, shape (d,); 0 where it has none.
        slack: What a value may lie outside unnoticed, shape (d,): half a step of the latent file.
        positions: Positions of a spatial latent, each with its own d columns.
    """

    def __init__(
        self,
        dimensions: Sequence[int],
        low: Array,
        high: Array,
        scale: Array,
        slack: Array,
        positions: int = 1,
    ) -> None:
        self._dimensions = tuple(int(k) for k in dimensions)
        # Float32 heads and their float64 record differ by rounding.
        rounding = 1e-6 * np.maximum(np.abs(low), np.abs(high))
        self._low, self._high, self._slack = low, high, slack + rounding
        self._scale, self._positions = scale, positions
        self._images = self._outside = 0
        self._per_dimension = np.zeros(len(self._dimensions), np.int64)
        self._worst: list[tuple[float, int, int, float, int | str]] = []

    def add(self, values: Array, identifiers: npt.NDArray[Any]) -> None:
        """Rows of n images, all columns of a position together, shape (n, P d), and their identifiers (n,)."""
        by_image = values.reshape(-1, self._positions, len(self._dimensions))
        beyond = np.maximum(self._low - by_image, by_image - self._high)
        outside = beyond > self._slack
        first, self._images = self._images, self._images + len(by_image)
        if not outside.any():
            return
        self._per_dimension += np.any(outside, axis=1).sum(axis=0)
        # How far in standard deviations: infinitely far where the reference is constant, -1 for what lies inside.
        scaled = np.divide(beyond, self._scale, out=np.full_like(beyond, np.inf), where=self._scale > 0)
        far = np.where(outside, scaled, -1.0).reshape(len(by_image), -1)
        farthest = far.max(axis=1)
        images = np.flatnonzero(farthest >= 0)
        self._outside += len(images)
        for image in images[np.argsort(-farthest[images], kind="stable")[:LISTED]]:
            place = int(far[image].argmax())
            name = identifiers[image]
            entry = (
                float(farthest[image]),
                -(first + int(image)),  # of equal ones the earlier is kept
                self._dimensions[place % len(self._dimensions)],
                float(by_image[image].flat[place]),
                os.fsdecode(name) if isinstance(name, bytes) else int(name),
            )
            (heapq.heappush if len(self._worst) < LISTED else heapq.heappushpop)(self._worst, entry)

    def outside(self, reference_images: int) -> Outside:
        """What was found, against a reference of so many images."""
        worst = tuple(
            OutsideImage(name, dimension, value, distance if math.isfinite(distance) else None)
            for distance, _, dimension, value, name in sorted(self._worst, reverse=True)
        )
        share = share_outside(self._outside, reference_images, self._images) if self._images else None
        return Outside(
            dimensions=self._dimensions,
            n_images=self._images,
            n_outside=self._outside,
            share=None if share is None else share.value,
            interval=None if share is None else share.interval,
            by_chance=min(1.0, 2 * len(self._dimensions) / (reference_images + 1)),
            per_dimension=tuple(int(n) for n in self._per_dimension),
            worst=worst,
            left_out=self._outside - len(worst),
        )
