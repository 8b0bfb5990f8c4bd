"""Values of the five factors of the paper's sprites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from ngvae_tools.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ngvae_tools.record import FactorKind

FactorMode: TypeAlias = Literal["continuous", "grid"]
FACTOR_NAMES = ("colour", "shape", "x", "y", "depth")
"""Hue in [0, 1), circular; 0 square, 1 circle, 2 triangle; centre in half-widths of the image; distance."""

FACTOR_KINDS: tuple[FactorKind, ...] = ("circular", "categorical", "continuous", "continuous", "continuous")

LOW = {"x": -0.6, "y": -0.6, "depth": 1.0}
HIGH = {"x": 0.6, "y": 0.6, "depth": 2.2}
SHAPES = 3
_BLOCK = 1024
_GRID = (
    np.arange(3) / 3,
    np.arange(SHAPES, dtype=np.float64),
    np.linspace(-0.55, 0.55, 12),
    np.linspace(-0.55, 0.55, 12),
    np.linspace(1.0, 2.0, 4),
)
GRID_SIZE = int(np.prod([len(values) for values in _GRID]))
"""Combinations of the full grid: 5,184."""


MAX_SPRITES = 10_000_000
"""The factors of so many take 400 MB; they are drawn at once."""


def sample_factors(
    n: int,
    seed: int,
    *,
    factors: FactorMode = "continuous",
    grid: Mapping[str, int] | None = None,
) -> npt.NDArray[np.float64]:
    """Factors of `n` sprites, (n, 5) in the order of `FACTOR_NAMES`; the first rows do not depend on `n`.

    "continuous": hue uniform in [0, 1), shape uniform in {0, 1, 2}, x and y uniform in [-0.6, 0.6], depth
    uniform in [1, 2.2]. "grid": 3 hues, 3 shapes, 12 x and 12 y in [-0.55, 0.55], 4 depths in [1, 2], every
    combination once in an order drawn from the seed, then again in another order.

    Args:
        n: How many, from 1 to `MAX_SPRITES`.
        seed: Not negative.
        factors: The mode.
        grid: Continuous mode only: draw these factors from so many evenly spaced values instead. The others
            keep the values that they have without it.

    Raises:
        OptionError: A value is out of range, or `grid` names an unknown factor or is given in grid mode.
    """
    grid = dict(grid or {})
    _check(n, seed, factors, grid)
    if factors == "grid":
        rounds = range(-(-n // GRID_SIZE))
        order = np.concatenate([_generator(seed, k).permutation(GRID_SIZE) for k in rounds])[:n]
        places = np.unravel_index(order, [len(values) for values in _GRID])
        return np.stack([values[place] for values, place in zip(_GRID, places, strict=True)], axis=1)
    # Every block draws its whole table, whether all of it is asked for or not.
    blocks = range(-(-n // _BLOCK))
    uniform = np.concatenate([_generator(seed, k).random((_BLOCK, len(FACTOR_NAMES))) for k in blocks])[:n]
    columns = [_values(name, uniform[:, k], grid.get(name)) for k, name in enumerate(FACTOR_NAMES)]
    return np.stack(columns, axis=1)


def _generator(seed: int, block: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, block]))


def _values(name: str, uniform: npt.NDArray[np.float64], count: int | None) -> npt.NDArray[np.float64]:
    """Turn uniform numbers in [0, 1) into values of a factor, on a grid of `count` values if given."""
    if name == "shape":
        return np.floor(uniform * (count or SHAPES))
    if count is not None:
        place = np.floor(uniform * count)
        if name == "colour":
            return place / count
        # A single value stands in the middle of the range.
        uniform = place / (count - 1) if count > 1 else np.full_like(place, 0.5)
    if name == "colour":
        return uniform
    return LOW[name] + (HIGH[name] - LOW[name]) * uniform


def _check(n: int, seed: int, factors: str, grid: Mapping[str, int]) -> None:
    if not 1 <= n <= MAX_SPRITES:
        raise _refusal("the number of sprites cannot be used", f"1 to {MAX_SPRITES:,}", n)
    if seed < 0:
        raise _refusal("the seed cannot be used", "a number that is not negative", seed)
    if factors not in get_args(FactorMode):
        raise _refusal("unknown mode of factors", "continuous or grid", repr(factors))
    if factors == "grid" and grid:
        raise _refusal("single factors cannot be put on a grid twice", "no single factor with --factors grid", grid)
    for name, count in grid.items():
        if name not in FACTOR_NAMES:
            raise _refusal("unknown factor", "one of " + ", ".join(FACTOR_NAMES), repr(name))
        if count < 1 or (name == "shape" and count > SHAPES):
            limit = f"1 to {SHAPES} values" if name == "shape" else "at least 1 value"
            raise _refusal(f"the grid of {name} cannot be used", limit, count)


def _refusal(problem: str, expected: str, found: object) -> OptionError:
    return OptionError(problem, expected=expected, found=str(found), remedy="correct the value")
