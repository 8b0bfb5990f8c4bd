"""Known generative factors of images: one column of values a factor, and what kind of number it is.

Kinds, where nobody declares them:

- `categorical`: text, truth values, and whole numbers with at most `MAX_CATEGORIES` distinct values;
- `circular`: only by name (a word such as hue, orientation or angle), and only where at least three values lie
  in [0, T] for T = 1, 2 pi or 360 and leave no gap over the end larger than a third of T;
- `continuous`: every other number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from ngvae_tools.record import FactorKind

Array = npt.NDArray[np.float64]

MAX_CATEGORIES = 20
"""Whole numbers with more distinct values than this are detected as continuous."""

KINDS: tuple[FactorKind, ...] = get_args(FactorKind)

_CIRCULAR_WORDS = {"angle", "azimuth", "heading", "hue", "orientation", "phase", "rotation", "yaw"}
_PERIODS = (1.0, 2 * np.pi, 360.0)


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of N images; NaN where an image lacks a value.

    Attributes:
        names: F names, in the order of the columns.
        values: float64 (N, F); text as codes in the order of the sorted texts.
        kinds: The kind of each factor.
        declared: Whether each kind was declared; else it was detected.
        counted_as: The kind of each for the intrinsic dimension, where that is another: a position on a grid
            whose values are its classes is categorical in the metrics and continuous here. Empty: as `kinds`.
    """

    names: tuple[str, ...]
    values: Array
    kinds: tuple[FactorKind, ...]
    declared: tuple[bool, ...]
    counted_as: tuple[FactorKind, ...] = ()

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        values: Array,
        *,
        kinds: Sequence[FactorKind | None] = (),
        text: Sequence[bool] = (),
        counted_as: Sequence[FactorKind] = (),
    ) -> Factors:
        """Factors with the kinds that were declared, the others detected.

        Args:
            names: F names.
            values: float64 (N, F).
            kinds: The declared kind of each column, None for those to detect; empty: detect all.
            text: Whether each column holds codes of texts or truth values; empty: none does.
            counted_as: See the class.
        """
        declared = tuple(kinds) or (None,) * len(names)
        texts = tuple(text) or (False,) * len(names)
        found = tuple(
            kind or ("categorical" if texts[k] else detect_kind(names[k], values[:, k]))
            for k, kind in enumerate(declared)
        )
        return cls(tuple(names), values, found, tuple(kind is not None for kind in declared), tuple(counted_as))

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Factors:
        """The factors of some of the images."""
        return Factors(self.names, self.values[rows], self.kinds, self.declared, self.counted_as)

    def intrinsic_interval(self) -> tuple[int, int]:
        """The fewest and the most dimensions that these factors are; see the function of that name."""
        sizes = [len(np.unique(column[np.isfinite(column)])) for column in self.values.T]
        return intrinsic_interval(self.counted_as or self.kinds, sizes)


def intrinsic_interval(kinds: Sequence[FactorKind], sizes: Sequence[int]) -> tuple[int, int]:
    """The fewest and the most latent dimensions that factors need when each has dimensions of its own.

    A continuous factor is 1, a circular one 2 (a plane that holds the circle; 1 where it has only two values), a
    categorical one with m values between 1 (points on a line) and m - 1 (a simplex). One that never changes is 0.

    Args:
        kinds: F kinds.
        sizes: How many distinct values each has.
    """
    fewest = most = 0
    for kind, size in zip(kinds, sizes, strict=True):
        free = max(size - 1, 0)
        fewest += min(free, 2 if kind == "circular" else 1)
        most += min(free, {"continuous": 1, "circular": 2, "categorical": free}[kind])
    return fewest, most


def detect_kind(name: str, values: Array) -> FactorKind:
    """The kind of a column of numbers (N,) that nobody declared; see the module."""
    distinct = np.unique(values[np.isfinite(values)])
    words = set(re.findall(r"[a-z]+", name.lower()))
    if words & _CIRCULAR_WORDS and _goes_round(distinct):
        return "circular"
    whole = bool(np.all(distinct == np.floor(distinct)))
    return "categorical" if whole and len(distinct) <= MAX_CATEGORIES else "continuous"


def _goes_round(distinct: Array) -> bool:
    """Whether sorted distinct values look like a full turn."""
    if len(distinct) < 3 or distinct[0] < 0:
        return False
    # A turn that is stored in single precision may end a little above its period.
    period = next((period for period in _PERIODS if distinct[-1] <= period * (1 + 1e-6)), None)
    return period is not None and bool(distinct[0] + period - distinct[-1] <= period / 3 * (1 + 1e-6))
