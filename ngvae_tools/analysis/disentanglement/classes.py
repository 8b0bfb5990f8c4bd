"""Classes of factors: their values, or equal-count bins of continuous ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.factors import Factors
from ngvae_tools.record import Factor

Integers = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Classes:
    """The factors that can be used.

    Attributes:
        factors: What they are.
        codes: The class of every image, from 0, int64 (n, F).
        notes: Which factors were left out, and why.
    """

    factors: tuple[Factor, ...]
    codes: Integers
    notes: tuple[str, ...]


def classes_of(factors: Factors, *, bins: int, max_classes: int) -> Classes:
    """Cut factors into classes; constant ones and those with more than `max_classes` are left out and named.

    A categorical factor's classes are its values, and so are those of any factor with at most `bins` distinct
    values. Any other is cut at its quantiles into `bins` classes of equal count up to ties: for a circular factor
    these are arcs, of which one begins at the smallest value.
    """
    used: list[Factor] = []
    columns: list[Integers] = []
    notes: list[str] = []
    for k, name in enumerate(factors.names):
        values = factors.values[:, k]
        distinct, place = np.unique(values, return_inverse=True)
        cut = factors.kinds[k] != "categorical" and len(distinct) > bins
        code = quantile_bins(values, bins) if cut else place.astype(np.int64)
        count = int(code.max(initial=-1)) + 1
        if len(distinct) < 2:
            notes.append(f"The factor {name} is left out: it is the same in every image.")
        elif count < 2:
            notes.append(f"The factor {name} is left out: nearly all of its values are the same.")
        elif count > max_classes:
            notes.append(
                f"The factor {name} is left out: it has {count:,} classes, more than {max_classes}; "
                "if it is a number, declare it continuous."
            )
        else:
            names = factors.classes[k]
            classes = tuple(names[int(value)] for value in distinct) if names else ()
            used.append(Factor(name, factors.kinds[k], factors.declared[k], len(distinct), count, classes))
            columns.append(code)
    codes = np.stack(columns, axis=1) if columns else np.empty((len(factors.values), 0), np.int64)
    return Classes(tuple(used), codes, tuple(notes))


def quantile_bins(values: Array, bins: int) -> Integers:
    """Bins of equal count up to ties, (n,), numbered from 0 without gaps; equal values share a bin."""
    ranked = np.sort(values)
    upper = np.unique(ranked[[-(-number * len(ranked) // bins) - 1 for number in range(1, bins)]])
    return np.unique(np.searchsorted(upper, values, side="left"), return_inverse=True)[1].astype(np.int64)
