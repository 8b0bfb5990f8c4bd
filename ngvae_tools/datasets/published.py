"""Factors of published data sets, which their files name only in part: names, kinds, grids.

In the metrics every grid position is a class, as in disentanglement_lib (Locatello et al. 2019); for the intrinsic
dimension a position on a line counts as continuous.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.factors import Factors
from ngvae_tools.record import FactorKind

_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of a set's factors.

    Attributes:
        names: Names in the order of the columns.
        kinds: Their kinds in the metrics.
        counted_as: Their kinds for the intrinsic dimension.
    """

    names: tuple[str, ...]
    kinds: tuple[FactorKind, ...]
    counted_as: tuple[FactorKind, ...]

    def of(self, values: npt.NDArray[np.float64]) -> Factors:
        """The factors with these values (N, F)."""
        return Factors.of(self.names, values, kinds=self.kinds, counted_as=self.counted_as)


DSPRITES = Layout(
    ("color", "shape", "scale", "orientation", "posX", "posY"),
    ("categorical", "categorical", "categorical", "circular", "categorical", "categorical"),
    ("categorical", "categorical", "continuous", "circular", "continuous", "continuous"),
)
"""Matthey et al. 2017; the colour never changes."""

SHAPES3D = Layout(
    ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation"),
    ("circular", "circular", "circular", "continuous", "categorical", "continuous"),
    ("circular", "circular", "circular", "continuous", "categorical", "continuous"),
)
"""Burgess and Kim 2018."""

CARS3D = Layout(
    ("elevation", "azimuth", "object"),
    ("continuous", "circular", "categorical"),
    ("continuous", "circular", "categorical"),
)
"""Reed et al. 2015: 4 elevations, 24 azimuths around the full turn, 183 cars."""

SMALLNORB = Layout(
    ("category", "elevation", "azimuth", "lighting"),
    ("categorical", "continuous", "circular", "categorical"),
    ("categorical", "continuous", "circular", "categorical"),
)
"""LeCun, Huang and Bottou 2004: 5 categories of 10 toys, 9 elevations, 18 azimuths around the full turn, 6 lights.

Which of the ten toys it is (instance) is no factor: toys of one number in two categories have nothing in common.
"""

MPI3D = Layout(
    (
        "object_color",
        "object_shape",
        "object_size",
        "camera_height",
        "background_color",
        "horizontal_axis",
        "vertical_axis",
    ),
    ("categorical",) * 7,
    ("categorical", "categorical", "continuous", "continuous", "categorical", "continuous", "continuous"),
)
"""Gondal et al. 2019."""

MPI3D_GRIDS = {1_036_800: (6, 6, 2, 3, 3, 40, 40), 460_800: (4, 4, 2, 3, 3, 40, 40)}
"""Values of each factor by the number of images: toy, realistic and real; and the complex objects."""


def mpi3d_grid(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...] | None:
    """How many values each of MPI3D's factors has in images (N, H, H, 3), or (7 sizes, H, H, 3); else None."""
    square = len(shape) > 3 and shape[-1] == 3 and shape[-2] == shape[-3] and dtype == np.uint8
    if not square:
        return None
    if len(shape) == len(MPI3D.names) + 3:
        return shape[:-3]
    return MPI3D_GRIDS.get(shape[0]) if len(shape) == 4 else None


def by_position(layout: Layout, sizes: tuple[int, ...]) -> Factors:
    """Factors of images that go through a whole grid, the last factor fastest: each value is its number."""
    places = np.unravel_index(np.arange(math.prod(sizes)), sizes)
    return layout.of(np.stack(places, axis=1).astype(np.float64))


def is_binary(rows: Callable[[int, int], npt.NDArray[Any]], count: int) -> bool:
    """Whether the first uint8 images hold nothing but 0 and 1, as dSprites' do."""
    first = rows(0, min(count, _LOOKED_AT))
    return first.dtype == np.uint8 and bool(first.max() <= 1)
