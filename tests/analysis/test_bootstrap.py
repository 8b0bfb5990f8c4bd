"""Poisson weights of images, replicates against a direct computation, and what their intervals cover."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ngvae_tools.analysis.bootstrap import Replicates, Weights, count_interval, interval
from ngvae_tools.analysis.moments import BLOCK


def direct(weights, rows, positions):
    """Weighted mean and variance of every replicate, from the rows written out as often as they are drawn."""
    means, variances = [], []
    for column in weights.T.astype(int):
        drawn = np.repeat(rows.reshape(len(column), positions, -1), column, axis=0).reshape(-1, rows.shape[1])
        means.append(drawn.mean(axis=0) if len(drawn) else np.full(rows.shape[1], np.nan))
        variances.append(drawn.var(axis=0, ddof=1) if len(drawn) > 1 else np.full(rows.shape[1], np.nan))
    return np.array(means), np.array(variances)


def test_weights_follow_the_poisson_law_of_mean_one():
    weights = Weights(200).of(np.arange(10 * BLOCK))
    n = weights.size
    assert abs(weights.mean() - 1) < 4.5 / np.sqrt(n)
    # The fourth central moment of Poisson(1) is 4.
    assert abs(weights.var() - 1) < 4.5 * np.sqrt(3 / n)
    seen = np.bincount(weights.astype(int).ravel(), minlength=7)
    chances = stats.poisson(1).pmf(np.arange(6))
    chances = np.append(chances, 1 - chances.sum())
    expected = n * chances
    statistic = ((np.append(seen[:6], seen[6:].sum()) - expected) ** 2 / expected).sum()
    assert statistic < stats.chi2(6).ppf(1 - 1e-4)


def test_the_table_of_weights_is_exact_to_sixteen_bits():
    chances = np.bincount(Weights(1)._table) / 2**16
    np.testing.assert_allclose(chances, stats.poisson(1).pmf(np.arange(len(chances))), rtol=0, atol=2**-16)
    assert chances @ np.arange(len(chances)) == pytest.approx(1, abs=1e-4)


def test_images_and_replicates_are_independent():
    weights = Weights(100).of(np.arange(2 * BLOCK))
    for rows in (weights.T, weights[BLOCK - 50 : BLOCK + 50]):
        pairs = np.corrcoef(rows)[np.triu_indices(100, 1)]
        assert np.abs(pairs).max() < 6 / np.sqrt(rows.shape[1])
    other = Weights(100, seed=1).of(np.arange(2 * BLOCK))
    assert abs(np.corrcoef(weights.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(weights.size)


@given(st.sets(st.integers(0, 5 * BLOCK), max_size=40), st.integers(1, 7), st.integers(0, 2**32))
def test_a_weight_depends_on_its_image_alone(images, replicates, seed):
    index = np.array(sorted(images), dtype=np.int64)
    weights = Weights(replicates, seed).of(index)
    assert weights.shape == (len(index), replicates)
    for row, image in zip(weights, index, strict=True):
        np.testing.assert_array_equal(row, Weights(replicates, seed).of(np.array([image]))[0])


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32), st.data())
def test_replicates_of_merged_blocks_equal_a_direct_computation(n, positions, columns, seed, data):
    rng = np.random.default_rng(seed)
    offset, scale = data.draw(st.sampled_from([(0.0, 1.0), (1e4, 1.0), (-3.0, 1e-6)]))
    rows = offset + scale * rng.normal(size=(n * positions, columns))
    weights = rng.poisson(1.0, size=(n, 5)).astype(float)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, n), max_size=4))), n]
    merged = None
    for start, stop in itertools.pairwise(cuts):
        if start == stop:
            continue
        block = Replicates.of(weights[start:stop], rows[start * positions : stop * positions])
        merged = block if merged is None else merged.merge(block)
    means, variances = direct(weights, rows, positions)
    np.testing.assert_array_equal(merged.weight, weights.sum(axis=0) * positions)
    drawn = merged.weight > 0
    rounding = 1e-12 * abs(offset)
    np.testing.assert_allclose(merged.mean[drawn], means[drawn], rtol=1e-9, atol=rounding + 1e-12 * scale)
    np.testing.assert_allclose(merged.variance, variances, rtol=1e-7, atol=1e-9 * scale**2 + rounding * scale)


def test_positions_of_an_image_are_drawn_together():
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(40 * 6, 2)), Weights(50).of(np.arange(40))
    together = Replicates.of(weights, rows)
    apart = Replicates.of(np.repeat(weights, 6, axis=0), rows)
    np.testing.assert_allclose(together.mean, apart.mean, rtol=0, atol=1e-14)
    np.testing.assert_allclose(together.variance, apart.variance, rtol=1e-12)


def coverage(law, value, of, n=400, runs=400):
    """How often the intervals of data sets of n rows hold the value."""
    rng = np.random.default_rng(2)
    hits = 0
    for run in range(runs):
        rows = law(rng, n)[:, None]
        low, high = interval(of(Replicates.of(Weights(200, run).of(np.arange(n)), rows)))
        hits += low[0] <= value <= high[0]
    return hits / runs


@pytest.mark.parametrize(
    ("law", "mean", "variance"),
    [(lambda rng, n: rng.normal(3, 2, n), 3, 4), (lambda rng, n: rng.uniform(0, 1, n), 0.5, 1 / 12)],
)
def test_intervals_cover_the_mean_and_the_variance(law, mean, variance):
    # Percentile intervals of 200 replicates are a little narrow: 94 % at these sizes; 400 runs, 4 standard errors.
    for value, of in ((mean, lambda r: r.mean), (variance, lambda r: r.variance)):
        assert coverage(law, value, of) == pytest.approx(0.94, abs=4 * np.sqrt(0.94 * 0.06 / 400))


def test_intervals_of_clustered_rows_allow_for_the_clusters():
    rng = np.random.default_rng(3)
    # Every row of an image repeats it: the mean of 64 x 100 rows is known no better than that of 100.
    images = rng.normal(size=(100, 1))
    low, high = interval(Replicates.of(Weights(2000).of(np.arange(100)), np.repeat(images, 64, axis=0)).mean)
    assert (high - low)[0] == pytest.approx(2 * 1.96 * images.std() / 10, rel=0.1)


def test_an_interval_needs_finite_replicates():
    values = np.arange(200.0).reshape(100, 2)
    low, high = interval(values)
    np.testing.assert_allclose(low, np.quantile(values, 0.025, axis=0))
    np.testing.assert_allclose(high, np.quantile(values, 0.975, axis=0))
    values[:10, 1] = np.nan
    low, high = interval(values)
    np.testing.assert_allclose(low, np.quantile(values[10:], 0.025, axis=0))
    values[10, 0] = np.inf
    assert interval(values) is None


def test_intervals_of_counts_are_counts():
    assert count_interval(np.repeat([5, 6, 7], [4, 92, 4])) == (5, 7)
    assert count_interval(np.repeat([5, 6, 7], [1, 98, 1])) == (6, 6)
    assert count_interval(np.array([3])) == (3, 3)


def test_one_row_has_no_variance_and_none_no_mean():
    weights = np.array([[0.0, 1.0, 2.0]])
    found = Replicates.of(weights, np.array([[4.0]]))
    np.testing.assert_array_equal(found.mean[1:, 0], [4, 4])
    np.testing.assert_array_equal(found.variance[:, 0], [np.nan, np.nan, 0])
    merged = found.merge(Replicates.of(np.array([[1.0, 0.0, 0.0]]), np.array([[8.0]])))
    np.testing.assert_array_equal(merged.mean[:, 0], [8, 4, 4])
    np.testing.assert_array_equal(merged.squares[:, 0], [0, 0, 0])
