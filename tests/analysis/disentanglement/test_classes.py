"""Classes of factors."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.disentanglement.classes import classes_of, quantile_bins
from ngvae_tools.factors import Factors


def cut(*columns, bins=20, max_classes=100, kinds=()):
    names = [f"f{k}" for k in range(len(columns))]
    return classes_of(Factors.of(names, np.stack(columns, axis=1), kinds=kinds), bins=bins, max_classes=max_classes)


def test_distinct_values_fall_into_bins_of_equal_count():
    values = np.random.default_rng(0).permutation(100) / 7
    found = quantile_bins(values, 20)
    np.testing.assert_array_equal(np.bincount(found), 5)
    np.testing.assert_array_equal(found[np.argsort(values)], np.repeat(np.arange(20), 5))


def test_forty_repeated_values_fall_into_twenty_pairs():
    values = np.repeat(np.linspace(0, 2 * np.pi, 40), 3)
    np.testing.assert_array_equal(quantile_bins(values, 20), np.repeat(np.arange(20), 6))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=200), st.integers(2, 25))
def test_bins_keep_order_share_ties_and_have_no_gaps(values, bins):
    values = np.array(values, float)
    found = quantile_bins(values, bins)
    ranked = found[np.argsort(values, kind="stable")]
    assert set(np.diff(ranked)) <= {0, 1}
    assert ranked[0] == 0
    assert ranked[-1] < bins
    assert all(len(set(found[values == value])) == 1 for value in values)
    # A bin with more than its share is closed by a value that repeats: without that value it has less.
    for number in range(ranked[-1] + 1):
        inside = values[found == number]
        assert np.sum(inside < inside.max()) <= -(-len(values) // bins)


def test_few_values_are_classes_whatever_their_kind():
    values = np.tile([0.1, 0.7, -2.0], 50)
    for kind in ("categorical", "continuous", "circular"):
        found = cut(values, kinds=[kind])
        np.testing.assert_array_equal(found.codes[:, 0], np.tile([1, 2, 0], 50))
        assert (found.factors[0].kind, found.factors[0].declared) == (kind, True)


def test_many_values_are_cut_unless_they_are_categories():
    values = np.arange(90.0)
    found = cut(values, values, values, kinds=["categorical", "continuous", "circular"])
    assert [factor.n_classes for factor in found.factors] == [90, 20, 20]
    assert [factor.n_values for factor in found.factors] == [90, 90, 90]


def test_what_cannot_be_used_is_named():
    mostly = np.where(np.arange(2000) < 30, np.arange(2000), 5000.0)
    found = cut(
        np.full(2000, 3.0),
        np.arange(2000.0),
        mostly,
        np.arange(2000) % 2,
        kinds=[None, "categorical", "continuous", None],
    )
    assert [factor.name for factor in found.factors] == ["f3"]
    assert "f0 is left out: it is the same in every image" in found.notes[0]
    assert "f1 is left out: it has 2,000 classes" in found.notes[1]
    assert "f2 is left out: nearly all" in found.notes[2]
    assert found.codes.shape == (2000, 1)
