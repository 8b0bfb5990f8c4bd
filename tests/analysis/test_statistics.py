"""Statistics of parts merge to those of the whole."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.posteriors import Posterior


def posterior_of(n, dim, seed):
    rng = np.random.default_rng(seed)
    return Posterior(rng.normal(size=(n, dim)), rng.gamma(2.0, size=(n, dim)), rng.normal(size=(n, dim)))


def part(posterior, p, start, stop):
    rows = Posterior(*(values[start:stop] for values in (posterior.mean, posterior.variance, posterior.entropy)))
    return LatentStatistics.of(rows, None if p is None else p[start:stop])


@given(
    st.integers(2, 40),
    st.integers(1, 5),
    st.integers(0, 2**32),
    st.lists(st.integers(0, 40), max_size=6),
    st.booleans(),
)
def test_merging_equals_the_statistics_of_all(n, dim, seed, cuts, with_p):
    posterior = posterior_of(n, dim, seed)
    p = np.random.default_rng(seed).uniform(size=(n, dim)) if with_p else None
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    merged = LatentStatistics.empty(dim, with_p=with_p)
    for start, stop in pairwise(bounds):
        merged = merged.merge(part(posterior, p, start, stop))
    sources = {"mu": posterior.mean, "variance": posterior.variance, "entropy": posterior.entropy, "p": p}
    for name, values in sources.items():
        moments = getattr(merged, name)
        if values is None:
            assert moments is None
            continue
        assert moments.count == n
        np.testing.assert_allclose(moments.mean, values.mean(axis=0), rtol=1e-12, atol=1e-13)
        variances = np.diag(moments.covariance()) if name == "mu" else moments.covariance()
        np.testing.assert_allclose(variances, values.var(axis=0, ddof=1), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        merged.mu.covariance(), np.cov(posterior.mean, rowvar=False).reshape(dim, dim), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_array_equal(merged.low, posterior.mean.min(axis=0))
    np.testing.assert_array_equal(merged.high, posterior.mean.max(axis=0))


def test_no_image_bounds_nothing():
    empty = LatentStatistics.empty(2, with_p=False)
    assert empty.low.tolist() == [np.inf, np.inf]
    assert empty.high.tolist() == [-np.inf, -np.inf]
    of_none = LatentStatistics.of(posterior_of(0, 2, 0), None)
    assert (of_none.mu.count, of_none.low.tolist()) == (0, [np.inf, np.inf])


@pytest.mark.parametrize("with_p", [False, True])
def test_empty_statistics_have_p_when_asked(with_p):
    assert (LatentStatistics.empty(3, with_p=with_p).p is not None) == with_p
