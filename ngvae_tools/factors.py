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
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from ngvae_tools.record import FactorKind

Array = npt.NDArray[np.float64]

MAX_CATEGORIES = 20
"""Whole numbers with more distinct values than this are detected as continuous."""

KINDS: tuple[FactorKind, ...] = get_args(FactorKind)

MOST_CLASSES, MOST_CLASS_BYTES = 1_000, 2**16
"""Classes of a factor whose names are kept at most, and bytes of UTF-8 that all these names take at most."""

ClassNames = tuple[str, ...] | None
"""What the classes of a factor are called, code i being name i; None for numbers, empty for texts without names."""

_CIRCULAR_WORDS = {"angle", "azimuth", "heading", "hue", "orientation", "phase", "rotation", "yaw"}
_PERIODS = (1.0, 2 * np.pi, 360.0)


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of N images; NaN where an image lacks a value.

    Attributes:
        names: F names, in the order of the columns.
        values: float64 (N, F); text as codes of its classes.
        kinds: The kind of each factor.
        declared: Whether each kind was declared; else it was detected.
        classes: The names of each factor's classes.
        counted_as: The kind of each for the intrinsic dimension, where that is another: a position on a grid
            whose values are its classes is categorical in the metrics and continuous here. Empty: as `kinds`.
    """

    names: tuple[str, ...]
    values: Array
    kinds: tuple[FactorKind, ...]
    declared: tuple[bool, ...]
    classes: tuple[ClassNames, ...]
    counted_as: tuple[FactorKind, ...] = ()

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        values: Array,
        *,
        kinds: Sequence[FactorKind | None] = (),
        text: Sequence[bool] = (),
        classes: Sequence[ClassNames] = (),
        counted_as: Sequence[FactorKind] = (),
    ) -> Factors:
        """Factors with the kinds that were declared, the others detected.

        Args:
            names: F names.
            values: float64 (N, F).
            kinds: The declared kind of each column, None for those to detect; empty: detect all.
            text: Whether each column holds codes of texts or truth values; empty: none does.
            classes: The names of each column's classes; empty: all columns hold numbers.
            counted_as: See the class.
        """
        declared = tuple(kinds) or (None,) * len(names)
        texts = tuple(text) or (False,) * len(names)
        found = tuple(
            kind or ("categorical" if texts[k] else detect_kind(names[k], values[:, k]))
            for k, kind in enumerate(declared)
        )
        said = tuple(kind is not None for kind in declared)
        return cls(tuple(names), values, found, said, tuple(classes) or (None,) * len(names), tuple(counted_as))

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Factors:
        """The factors of some of the images."""
        return replace(self, values=self.values[rows])

    def columns(self, chosen: Sequence[int]) -> Factors:
        """Some of the factors, by their place."""
        return Factors(
            tuple(self.names[k] for k in chosen),
            self.values[:, chosen],
            tuple(self.kinds[k] for k in chosen),
            tuple(self.declared[k] for k in chosen),
            tuple(self.classes[k] for k in chosen),
            tuple(self.counted_as[k] for k in chosen) if self.counted_as else (),
        )

    def intrinsic_interval(self) -> tuple[int, int]:
        """The fewest and the most dimensions that these factors are; see the function of that name."""
        sizes = [len(np.unique(column[np.isfinite(column)])) for column in self.values.T]
        return intrinsic_interval(self.counted_as or self.kinds, sizes)


def kept_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of all classes of a factor, or none of them where they are more than are kept, or no text."""
    if len(names) > MOST_CLASSES:
        return ()
    try:
        size = sum(len(name.encode("utf-8", "surrogateescape")) for name in names)
    except UnicodeEncodeError:
        return ()
    return tuple(names) if size <= MOST_CLASS_BYTES else ()


def are_codes(values: Array, count: int) -> bool:
    """Whether values (N,) are codes of `count` classes, or NaN."""
    known = values[~np.isnan(values)]
    return bool(((known >= 0) & (known < count) & (known == np.floor(known))).all())


def names_left_out(name: str) -> str:
    """The sentence that says why a factor of text has codes alone."""
    return (
        f"The classes of {name} are numbered, their names left out: names are kept of up to {MOST_CLASSES:,} classes, "
        f"{MOST_CLASS_BYTES:,} bytes together."
    )


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
