"""Kinds of factors."""

import numpy as np
import pytest

from ngvae_tools.factors import Factors, detect_kind


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
