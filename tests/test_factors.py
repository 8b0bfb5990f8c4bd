"""Kinds of factors."""

import numpy as np
import pytest

from ngvae_tools.factors import Factors, detect_kind, intrinsic_interval


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("shape", [0, 1, 2, np.nan], "categorical"),
        ("count", range(20), "categorical"),
        ("count", range(21), "continuous"),
        ("size", [0.5, 0.6], "continuous"),
        ("x", [0, 1 / 3, 2 / 3], "continuous"),
        ("hue", [0, 1 / 3, 2 / 3], "circular"),
        ("Floor_Hue", np.arange(10) / 10, "circular"),
        ("orientation", np.linspace(0, 2 * np.pi, 40), "circular"),
        ("orientation", np.linspace(0, 2 * np.pi, 40, dtype=np.float32), "circular"),
        ("angle 2", range(0, 360, 10), "circular"),
        # Half a turn, a range about zero, two values, another word.
        ("hue", [0, 0.1, 0.2, 0.3, 0.4, 0.5], "continuous"),
        ("orientation", np.linspace(-30, 30, 15), "continuous"),
        ("hue", [0, 0.5], "continuous"),
        ("triangle", np.arange(10) / 10, "continuous"),
        ("hue", [], "categorical"),
    ],
)
def test_detected_kinds(name, values, kind):
    assert detect_kind(name, np.array(values, float)) == kind


def test_what_is_declared_is_not_detected():
    values = np.tile([[0.0, 0.5, 1.0]], (4, 1))
    factors = Factors.of(["a", "b", "c"], values, kinds=["continuous", None, None], text=[False, False, True])
    assert factors.kinds == ("continuous", "continuous", "categorical")
    assert factors.declared == (True, False, False)
    some = factors.take(np.array([0, 2]))
    assert (some.values.shape, some.kinds) == ((2, 3), factors.kinds)


@pytest.mark.parametrize(
    ("kinds", "sizes", "interval"),
    [
        ([], [], (0, 0)),
        (["continuous"], [900], (1, 1)),
        (["continuous"], [2], (1, 1)),
        (["circular"], [900], (2, 2)),
        (["circular"], [3], (2, 2)),
        (["circular"], [2], (1, 1)),
        (["categorical"], [2], (1, 1)),
        (["categorical"], [5], (1, 4)),
        # What never changes needs nothing.
        (["continuous", "circular", "categorical", "categorical"], [1, 1, 1, 0], (0, 0)),
        # The paper's sprites: 6 to 7, drawn or on the grid.
        (["circular", "categorical", "continuous", "continuous", "continuous"], [900, 3, 900, 900, 900], (6, 7)),
        (["circular", "categorical", "continuous", "continuous", "continuous"], [3, 3, 12, 12, 4], (6, 7)),
    ],
)
def test_the_intrinsic_dimension(kinds, sizes, interval):
    assert intrinsic_interval(kinds, sizes) == interval


def test_every_factor_has_a_size():
    with pytest.raises(ValueError):
        intrinsic_interval(["continuous"], [])


def test_the_intrinsic_dimension_of_values():
    values = np.array([[0, 0, 7, np.nan], [1, 0.3, 7, 1], [2, 0.6, 7, 0]], float)
    names = ["shape", "hue", "colour", "x"]
    factors = Factors.of(names, values, kinds=["categorical", "circular", "categorical", "continuous"])
    assert factors.intrinsic_interval() == (4, 5)
    assert factors.take(np.array([0, 1])).intrinsic_interval() == (2, 2)
    counted = Factors.of(names, values, counted_as=["continuous", "circular", "categorical", "continuous"])
    assert counted.intrinsic_interval() == (4, 4)
    assert counted.take(np.arange(3)).intrinsic_interval() == (4, 4)
