"""The sample is the same for any order of arrival and any parts, fair, nested, and bounded in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ngvae_tools.analysis import sample as module
from ngvae_tools.analysis.sample import LARGEST, VALUES, Sampler, sample_size


def drawn(rows, size, seed=0, parts=(), *, second=True):
    """A sample of rows whose heads tell their numbers, offered in the given parts."""
    sampler = Sampler(size, seed)
    for part in parts or (rows,):
        mu = np.stack([part, 2 * part], axis=1).astype(np.float32)
        sampler.add(part, mu, -mu if second else None)
    return sampler.sample()


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**63), st.data())
def test_any_order_and_any_parts_draw_the_same(n, size, seed, data):
    rows = np.arange(n)
    shuffled = np.array(data.draw(st.permutations(range(n))))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=8)))
    one, other = drawn(rows, size, seed), drawn(rows, size, seed, np.split(shuffled, cuts))
    assert len(one) == min(n, size)
    for name in ("row", "priority", "mu", "second"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (np.diff(one.row) > 0).all()
    np.testing.assert_array_equal(one.mu[:, 1], 2 * one.row)
    np.testing.assert_array_equal(one.second, -one.mu)


def test_every_row_has_the_same_chance_and_so_has_every_pair():
    n, size, seeds = 40, 10, 3000
    chosen = np.zeros((seeds, n))
    for seed in range(seeds):
        chosen[seed, drawn(np.arange(n), size, seed).row] = 1
    # Draws without replacement are correlated: (n - 1) / (n - size) makes the sum a chi-square of n - 1.
    expected = seeds * size / n
    statistic = ((chosen.sum(axis=0) - expected) ** 2).sum() / expected * (n - 1) / (n - size)
    assert 1e-4 < stats.chi2(n - 1).cdf(statistic) < 1 - 1e-4
    pairs = (chosen.T @ chosen)[np.triu_indices(n, 1)]
    chance = size * (size - 1) / (n * (n - 1))
    assert abs(pairs.mean() - seeds * chance) < 1e-9
    assert np.abs(pairs - seeds * chance).max() < 5 * np.sqrt(seeds * chance)


def test_neighbouring_rows_and_seeds_are_independent():
    one, other = drawn(np.arange(20_000), 10_000, 0), drawn(np.arange(20_000), 10_000, 1)
    both = len(np.intersect1d(one.row, other.row))
    assert abs(both - 5000) < 5 * np.sqrt(20_000 * 0.25 * 0.25)
    inside = np.zeros(20_000)
    inside[one.row] = 1
    assert abs(np.corrcoef(inside[1:], inside[:-1])[0, 1]) < 5 / np.sqrt(20_000)


def test_smaller_samples_lie_within_larger_ones():
    rows = np.arange(5000)
    whole = drawn(rows, 1000)
    for size in (1, 10, 999):
        np.testing.assert_array_equal(whole.row[whole.smallest(size)], drawn(rows, size).row)
    np.testing.assert_array_equal(whole.smallest(5000), np.arange(1000))


def test_no_more_rows_are_held_than_twice_the_size_and_a_block():
    sampler, most = Sampler(100), 0
    for start in range(0, 50_000, 64):
        rows = np.arange(start, start + 64)
        sampler.add(rows, np.zeros((64, 3), np.float32), None)
        held = sum(len(part.mu) for part in sampler._kept)
        # Parts that are views would hold their blocks.
        assert all(part.mu.base is None or len(part.mu.base) == len(part.mu) for part in sampler._kept)
        most = max(most, held)
    assert most <= 2 * 100 + 64
    assert len(sampler.sample()) == 100
    assert sampler.sample().second is None


def test_samples_of_many_dimensions_are_smaller():
    assert sample_size(15) == sample_size(VALUES // LARGEST) == LARGEST
    assert sample_size(4096) == VALUES // 4096
    assert sample_size(2**30) == 1


def test_nothing_offered_is_no_sample():
    sampler = Sampler(3)
    with pytest.raises(ValueError, match="no row was offered"):
        sampler.sample()
    sampler.add(np.arange(0), np.zeros((0, 2), np.float32), None)
    with pytest.raises(ValueError, match="no row was offered"):
        sampler.sample()


def test_priorities_are_uniform_and_never_equal():
    priority = module._priorities(np.arange(100_000), 3)
    assert len(np.unique(priority)) == 100_000
    assert stats.kstest(priority / 2.0**64, "uniform").pvalue > 1e-4
