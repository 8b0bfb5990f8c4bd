"""Sets of generated images whose factors are known: their ranges, and how values are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets import shapes2d, shapes3d, sprites
from ngvae_tools.datasets.sprite_factors import (
    FACTOR_KINDS,
    FACTOR_NAMES,
    HIGH,
    LOW,
    MAX_SPRITES,
    SHAPES,
    FactorMode,
    sample_factors,
)
from ngvae_tools.errors import OptionError
from ngvae_tools.record import FactorKind

SetName: TypeAlias = Literal["paper", "dsprites-like", "3dshapes-like", "3dshapes-shifted"]

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class FactorRange:
    """What one factor may be.

    Attributes:
        name: Its name.
        kind: Continuous: from `low` to `high`. Circular: from `low`, and `high` is `low` again. Categorical: the
            whole numbers from `low` to `high`.
        low: The least value.
        high: The greatest value.
    """

    name: str
    kind: FactorKind
    low: float
    high: float

    def values(self, uniform: npt.NDArray[np.float64], count: int | None) -> npt.NDArray[np.float64]:
        """Turn uniform numbers in [0, 1) into values, on a grid of `count` values if given."""
        if self.kind == "categorical":
            return self.low + np.floor(uniform * (count or self.high - self.low + 1))
        if count is not None:
            place = np.floor(uniform * count)
            last = count if self.kind == "circular" else count - 1
            # A single value stands in the middle of the range.
            uniform = place / last if last else np.full_like(place, 0.5)
        return self.low + (self.high - self.low) * uniform

    def check_count(self, count: int) -> None:
        """Refuse a grid that cannot be with an `OptionError`."""
        most = int(self.high - self.low) + 1 if self.kind == "categorical" else None
        if count < 1 or (most is not None and count > most):
            limit = "at least 1 value" if most is None else f"1 to {most} values"
            raise _refusal(f"the grid of {self.name} cannot be used", limit, count)

    def check_value(self, value: float) -> None:
        """Refuse a value that the factor cannot have with an `OptionError`."""
        beyond = not self.low <= value <= self.high or (self.kind == "circular" and value == self.high)
        if beyond or (self.kind == "categorical" and value != np.floor(value)):
            end = f"below {self.high:g}" if self.kind == "circular" else f"to {self.high:g}"
            whole = "a whole number " if self.kind == "categorical" else ""
            raise _refusal(f"{self.name} cannot be fixed there", f"{whole}from {self.low:g} {end}", value)


@dataclass(frozen=True, slots=True)
class FactorSet:
    """A set of generated images.

    Attributes:
        name: How it is asked for.
        factors: Its F factors, in the order of the labels.
        render: Factors (N, F) and a size give images uint8 (N, size, size, C); it decides no image by another.
        version: Raised whenever the same arguments give other images.
        stream: Keeps the draws of one set apart from those of another at the same seed; None: the paper's own.
    """

    name: SetName
    factors: tuple[FactorRange, ...]
    render: Callable[[npt.NDArray[np.float64], int], npt.NDArray[np.uint8]]
    version: int
    stream: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the factors."""
        return tuple(factor.name for factor in self.factors)

    @property
    def kinds(self) -> tuple[FactorKind, ...]:
        """Of the factors."""
        return tuple(factor.kind for factor in self.factors)

    def sample(
        self,
        n: int,
        seed: int,
        *,
        factors: FactorMode = "continuous",
        grid: Mapping[str, int] | None = None,
        fixed: Mapping[str, float] | None = None,
    ) -> npt.NDArray[np.float64]:
        """Factors of `n` images, (n, F); the first rows do not depend on `n`, nor a factor on the others.

        Args:
            n: How many, from 1 to 10,000,000.
            seed: Not negative.
            factors: "continuous": uniform over their ranges. "grid": the paper's set only, see `sample_factors`.
            grid: Continuous mode only: draw these factors from so many evenly spaced values instead.
            fixed: Continuous mode only: these factors have one value in all images.

        Raises:
            OptionError: A value is out of range or names an unknown factor, or two options contradict each other.
        """
        grid, fixed = dict(grid or {}), dict(fixed or {})
        self._check(grid, fixed, factors)
        if self.stream is None:
            values = sample_factors(n, seed, factors=factors, grid=grid)
        else:
            if not 1 <= n <= MAX_SPRITES:
                raise _refusal("the number of images cannot be used", f"1 to {MAX_SPRITES:,}", n)
            if seed < 0:
                raise _refusal("the seed cannot be used", "a number that is not negative", seed)
            # Every block draws its whole table, whether all of it is asked for or not.
            blocks = [
                np.random.default_rng([seed, block, self.stream]).random((_BLOCK, len(self.factors)))
                for block in range(-(-n // _BLOCK))
            ]
            uniform = np.concatenate(blocks)[:n]
            columns = [f.values(uniform[:, k], grid.get(f.name)) for k, f in enumerate(self.factors)]
            values = np.stack(columns, axis=1)
        for name, value in fixed.items():
            values[:, self.names.index(name)] = value
        return values

    def _check(self, grid: Mapping[str, int], fixed: Mapping[str, float], factors: FactorMode) -> None:
        known = {factor.name: factor for factor in self.factors}
        for name in (*grid, *fixed):
            if name not in known:
                raise _refusal(f"unknown factor of {self.name}", "one of " + ", ".join(known), repr(name))
        if both := sorted(set(grid) & set(fixed)):
            raise _refusal("a factor is fixed and on a grid", "one of the two", ", ".join(both))
        if factors == "grid" and fixed:
            raise _refusal("factors cannot be fixed on the full grid", "none with --factors grid", ", ".join(fixed))
        if factors == "grid" and self.stream is not None:
            raise _refusal(f"{self.name} has no full grid", "--grid NAME=COUNT for single factors", "--factors grid")
        for name, count in grid.items():
            known[name].check_count(count)
        for name, value in fixed.items():
            known[name].check_value(value)


def _refusal(problem: str, expected: str, found: object) -> OptionError:
    return OptionError(problem, expected=expected, found=str(found), remedy="correct the value")


_HUE = (0.0, 1.0)
_PAPER_RANGES = {"colour": _HUE, "shape": (0.0, SHAPES - 1.0)} | {name: (LOW[name], HIGH[name]) for name in LOW}
_ROOM = (
    FactorRange("floor_hue", "circular", *_HUE),
    FactorRange("wall_hue", "circular", *_HUE),
    FactorRange("object_hue", "circular", *_HUE),
    FactorRange("scale", "continuous", 0.3, 0.6),
    FactorRange("shape", "categorical", 0, 3),
    FactorRange("orientation", "continuous", -shapes3d.MAX_ANGLE, shapes3d.MAX_ANGLE),
)

FACTOR_SETS: dict[SetName, FactorSet] = {
    each.name: each
    for each in (
        FactorSet(
            "paper",
            tuple(
                FactorRange(name, kind, *_PAPER_RANGES[name])
                for name, kind in zip(FACTOR_NAMES, FACTOR_KINDS, strict=True)
            ),
            sprites.render,
            sprites.GENERATOR_VERSION,
            None,
        ),
        FactorSet(
            "dsprites-like",
            (
                FactorRange("shape", "categorical", 0, 2),
                FactorRange("scale", "continuous", 0.5, 1),
                FactorRange("orientation", "circular", 0, 2 * np.pi),
                FactorRange("x", "continuous", -0.33, 0.33),
                FactorRange("y", "continuous", -0.33, 0.33),
            ),
            shapes2d.render,
            1,
            1,
        ),
        FactorSet("3dshapes-like", _ROOM, shapes3d.render, 1, 2),
        FactorSet("3dshapes-shifted", (*_ROOM, FactorRange("x", "continuous", -0.3, 0.3)), shapes3d.render, 1, 3),
    )
}
"""The paper's five factors, 5 like dSprites, 6 like 3dshapes, and a seventh that shifts the object."""


def find_set(name: str) -> FactorSet:
    """The set of that name; `OptionError` if there is none."""
    for each in FACTOR_SETS.values():
        if each.name == name:
            return each
    raise _refusal("unknown set of images", "one of " + ", ".join(FACTOR_SETS), repr(name))
