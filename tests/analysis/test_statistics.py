"""Statistics of parts merge to those of the whole."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.posteriors import DeterministicPosterior, Posterior
from ngvae_tools.record import P_BINS


def posterior_of(n, dim, seed):
    rng = np.random.default_rng(seed)
    return Posterior(
        rng.normal(size=(n, dim)),
        rng.gamma(2.0, size=(n, dim)),
        rng.normal(size=(n, dim)),
        rng.gamma(1.0, size=(n, dim)),
    )


def part(posterior, p, start, stop):
    names = ("mean", "variance", "entropy", "rate")
    rows = Posterior(*(getattr(posterior, name)[start:stop] for name in names))
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
    merged, *others = (part(posterior, p, start, stop) for start, stop in pairwise(bounds))
    for other in others:
        merged = merged.merge(other)
    sources = {"variance": posterior.variance, "entropy": posterior.entropy, "rate": posterior.rate, "p": p}
    for name, values in {"mu": posterior.mean, **sources}.items():
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
    if p is None:
        assert merged.p_histogram is None
        return
    for k in range(dim):
        np.testing.assert_array_equal(merged.p_histogram[k], np.histogram(p[:, k], P_BINS, (0, 1))[0])


def test_no_image_bounds_nothing():
    of_none = LatentStatistics.of(posterior_of(0, 2, 0), np.zeros((0, 2)))
    assert (of_none.mu.count, of_none.low.tolist(), of_none.high.tolist()) == (0, [np.inf] * 2, [-np.inf] * 2)
    assert of_none.p_histogram.sum() == 0


def test_the_ends_of_p_have_bins():
    p = np.array([[0.0], [1.0], [0.049], [0.051], [0.999]])
    histogram = LatentStatistics.of(posterior_of(5, 1, 0), p).p_histogram[0]
    assert histogram.tolist() == [2, 1, *[0] * 17, 2]
    assert len(histogram) == P_BINS


def test_deterministic_codes_have_moments_of_mu_alone():
    rows = np.random.default_rng(0).normal(size=(9, 2))
    found = LatentStatistics.of(DeterministicPosterior().posterior(rows, None), None)
    found = found.merge(found)
    assert (found.variance, found.entropy, found.rate, found.p, found.p_histogram) == (None,) * 5
    assert found.mu.count == 18
