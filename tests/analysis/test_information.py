"""Information against closed forms, one-dimensional integrals and exact mixtures of the sample."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from ngvae_tools.analysis.information import information
from ngvae_tools.analysis.sample import Sample
from ngvae_tools.laws import INFORMATIVE, UNINFORMATIVE
from ngvae_tools.posteriors import (
    DeterministicPosterior,
    GaussianPosterior,
    NormalGammaMixturePosterior,
    NormalGammaPosterior,
)

GAUSSIAN, PAPER = GaussianPosterior(), NormalGammaPosterior()
LAW = stats.t(2 * UNINFORMATIVE.alpha, scale=UNINFORMATIVE.scale)


def mixture(scale, dim=1):
    return NormalGammaMixturePosterior(INFORMATIVE.alpha, (INFORMATIVE.alpha * scale**2,) * dim)


def measure(mu, second, family=GAUSSIAN, positions=1):
    """Information of columns of mu, all with the same second head or one of their shape."""
    mu = np.asarray(mu, np.float32)
    mu = mu[:, None] if mu.ndim == 1 else mu
    second = np.asarray(second, np.float32)
    second = np.broadcast_to(second[:, None] if second.ndim == 1 else second, mu.shape)
    rows = np.arange(len(mu))
    return information(Sample(rows, rows.astype(np.uint64), mu, second), family, positions)


def normal_quantiles(n):
    """A sample of the normal law without the luck of a draw."""
    return stats.norm.ppf((np.arange(n) + 0.5) / n)


def exact(mu, second, pdf, step, reach):
    """Information of the mixture of these very rows, by a dense grid: no groups, no convolution, no correction."""
    grid = np.arange(mu.min() - reach, mu.max() + reach, step)
    total, entropies = np.zeros(len(grid)), 0.0
    for centre, value in zip(mu, second, strict=True):
        density = pdf(grid - centre, value)
        total += density
        entropies -= (density * np.log(np.maximum(density, 1e-300))).sum() * step
    total /= len(mu)
    return -(total * np.log(np.maximum(total, 1e-300))).sum() * step - entropies / len(mu)


SNR = (0.01, 0.1, 0.5, 1, 3, 10, 100, 1e3)


@pytest.mark.parametrize("n", [5000, 20_000])
def test_gaussian_channels_have_their_capacity(n):
    rng = np.random.default_rng(n)
    found = measure(rng.normal(size=(n, len(SNR))) * np.sqrt(SNR), 0.0)
    error = np.abs(found.nats - 0.5 * np.log1p(SNR))
    assert (error < 0.02).all()
    assert (error < 3.5 * found.error).all()
    assert not found.limited.any()


def test_a_full_sample_resolves_narrow_posteriors():
    found = measure(np.random.default_rng(1).normal(size=65_536), -math.log(1e6))
    assert found.nats[0] == pytest.approx(0.5 * math.log1p(1e6), abs=0.02)
    assert not found.limited[0]


@pytest.mark.parametrize("points", [2, 3, 15])
def test_separated_points_give_the_entropy_of_their_law(points):
    mu = np.tile(np.arange(points), 6000 // points)
    found = measure(10.0 * mu, 0.0)
    # Miller and Madow: the entropy of m counted classes falls short by (m - 1) / 2M, which the estimate adds.
    assert found.nats[0] == pytest.approx(math.log(points) + (points - 1) / (2 * len(mu)), abs=1e-4)
    unequal = np.repeat(np.arange(points), 100 * np.arange(1, points + 1))
    shares = np.arange(1, points + 1) / np.arange(1, points + 1).sum()
    found = measure(40.0 * unequal, 0.0)
    expected = stats.entropy(shares) + (points - 1) / (2 * len(unequal))
    assert found.nats[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("distance", [0.5, 2.0, 5.0])
def test_two_points_that_overlap(distance):
    def density(z):
        return 0.5 * (stats.norm.pdf(z) + stats.norm.pdf(z, distance))

    entropy = integrate.quad(lambda z: -density(z) * math.log(density(z)), -9, 9 + distance)[0]
    found = measure(distance * (np.arange(5000) % 2), 0.0)
    assert found.nats[0] == pytest.approx(entropy - stats.norm.entropy(), abs=1e-3)


@pytest.mark.parametrize("ratio", [10, 100])
def test_a_uniform_law_with_narrow_posteriors(ratio):
    mu = ratio * (np.arange(20_000) + 0.5) / 20_000
    density = lambda z: (stats.norm.cdf(z) - stats.norm.cdf(z - ratio)) / ratio  # noqa: E731
    points = np.linspace(-9, ratio + 9, 200_001)
    values = density(points)
    logs = np.log(np.maximum(values, 1e-300))
    expected = -integrate.trapezoid(values * logs, points) - stats.norm.entropy()
    assert measure(mu, 0.0).nats[0] == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("p", [0.0, 0.386, 0.6, 1.0])
def test_student_t_channels_agree_with_quadrature(p):
    alpha, beta = (float(v) for v in PAPER.parameters(np.array(p)))
    law = stats.t(2 * alpha, scale=math.sqrt(beta / alpha))
    grid = np.linspace(-60, 60, 2**17)
    step = grid[1] - grid[0]
    density = np.convolve(stats.norm.pdf(grid), law.pdf(grid[np.abs(grid) < 12]), "same") * step
    expected = -(density * np.log(np.maximum(density, 1e-300))).sum() * step - law.entropy()
    found = measure(normal_quantiles(20_000), p, PAPER)
    assert found.nats[0] == pytest.approx(expected, abs=0.003)


def test_mu_of_variance_100_at_the_uninformative_law():
    # SCIENCE.md section 2: p says 1, the channel carries half a log of 1 + 100 / 0.9.
    noise, nodes = np.linspace(-12, 12, 601), np.linspace(-60, 60, 1201)
    values = integrate.simpson(LAW.pdf(noise) * stats.norm.pdf(nodes[:, None] - noise, scale=10), x=noise)
    expected = -integrate.simpson(values * np.log(values), x=nodes) - LAW.entropy()
    assert expected == pytest.approx(0.5 * math.log1p(100 / UNINFORMATIVE.variance), abs=1e-3)
    mu = np.random.default_rng(4).normal(scale=10, size=(20_000, 3))
    for family in (PAPER, mixture(0.256, 3)):
        found = measure(mu, 1.0, family)
        assert (np.abs(found.nats - expected) < 0.02).all()
        assert (np.abs(found.nats - expected) < 3.5 * found.error).all()


def heads(n):
    rng = np.random.default_rng(5)
    return {
        "equal": np.full(n, 0.3),
        "few wide": (rng.random(n) < 0.1).astype(float),
        "spread": rng.beta(0.3, 0.3, n),
        "mostly narrow": rng.beta(0.2, 5, n),
        "rarely wide": np.full(n, 0.0075),
    }


@pytest.mark.parametrize("scale", [0.256, 0.05, 0.02])
@pytest.mark.parametrize("kind", heads(1))
def test_the_mixture_agrees_with_the_exact_mixture_of_its_rows(scale, kind):
    # Each mu many times: the sample then is the law, and the correction for its size is small.
    n, times = 60, 200
    p = heads(n)[kind].astype(np.float32).astype(float)
    mu = np.random.default_rng(6).normal(size=n).astype(np.float32).astype(float)

    def pdf(t, p):
        return (1 - p) * stats.t.pdf(t, 2 * INFORMATIVE.alpha, scale=scale) + p * LAW.pdf(t)

    found = measure(np.tile(mu, times), np.tile(p, times), mixture(scale))
    expected = exact(mu, p, pdf, scale / 4, 8)
    assert found.nats[0] == pytest.approx(expected, abs=0.01)
    assert not found.limited[0]


def test_the_mixture_agrees_with_monte_carlo():
    rng, n, scale = np.random.default_rng(7), 2000, 0.2
    mu, p = rng.normal(size=n).astype(np.float32).astype(float), rng.beta(0.5, 0.5, n).astype(np.float32).astype(float)
    chosen = rng.integers(n, size=4000)
    narrow = rng.random(4000) > p[chosen]
    t = np.where(narrow, scale * rng.standard_t(2 * INFORMATIVE.alpha, 4000), LAW.rvs(4000, random_state=rng))
    z = mu[chosen] + t

    def density(t, p):
        one, other = (
            stats.t(2 * a, scale=s) for a, s in ((INFORMATIVE.alpha, scale), (UNINFORMATIVE.alpha, LAW.kwds["scale"]))
        )
        return (1 - p) * one.pdf(t) + p * other.pdf(t)

    whole = np.concatenate([density(part[:, None] - mu, p).mean(axis=1) for part in np.split(z, 20)])
    gains = np.log(density(t, p[chosen]) / whole)
    found = measure(mu, p, mixture(scale))
    assert abs(found.nats[0] - gains.mean()) < 4 * math.hypot(gains.std() / math.sqrt(4000), 0.002)


@pytest.mark.parametrize("deviation", [0.1, 1.0, 2.0])
def test_log_variances_that_differ_between_images(deviation):
    rng, n, times = np.random.default_rng(8), 60, 100
    mu, logvar = rng.normal(size=n), rng.normal(-3, deviation, n)
    mu, logvar = (values.astype(np.float32).astype(float) for values in (mu, logvar))
    pdf = lambda t, value: stats.norm.pdf(t, scale=math.exp(value / 2))  # noqa: E731
    narrow, wide = math.exp(logvar.min() / 2), math.exp(logvar.max() / 2)
    expected = exact(mu, logvar, pdf, narrow / 4, 10 * wide)
    found = measure(np.tile(mu, times), np.tile(logvar, times))
    # Thirty-two groups of log variances stand for sixty.
    assert found.nats[0] == pytest.approx(expected, abs=0.02)


@settings(deadline=None, max_examples=30)
@given(st.floats(-20, 20), st.floats(-4, 4), st.booleans(), st.integers(0, 100))
def test_rescaling_and_shifting_change_nothing(log_scale, shift, mirrored, seed):
    rng = np.random.default_rng(seed)
    mu, logvar = rng.normal(size=500), rng.normal(-2, 0.3, size=500)
    scale = math.exp(log_scale)
    there = measure((-1 if mirrored else 1) * scale * (mu + shift), logvar + 2 * log_scale)
    here = measure(mu, logvar)
    # The grid falls elsewhere, and float32 rounds mu.
    assert there.nats[0] == pytest.approx(here.nats[0], abs=2e-3)
    assert there.error[0] == pytest.approx(here.error[0], rel=0.02)


@pytest.mark.parametrize(
    ("family", "second"),
    [(GAUSSIAN, -0.02), (PAPER, 1.0), (PAPER, 0.386), (mixture(0.852, 2), 0.652), (mixture(0.02, 2), 0.8)],
)
def test_a_collapsed_dimension_carries_nothing(family, second):
    rng = np.random.default_rng(9)
    mu = np.stack([np.full(5000, 0.3), rng.normal(scale=1e-3, size=5000)], axis=1)
    found = measure(mu, second, family)
    assert (found.nats >= 0).all()
    assert (found.nats < 0.002).all()
    assert (found.error < 0.002).all()


def test_a_duplicated_dimension_carries_the_same():
    mu = np.random.default_rng(10).normal(size=(3000, 1))
    found = measure(np.concatenate([mu, mu, 2 * mu], axis=1), np.tile([-2.0, -2.0, -2 + 2 * math.log(2)], (3000, 1)))
    assert found.nats[0] == found.nats[1] == pytest.approx(found.nats[2], abs=1e-4)


def test_information_is_the_mean_of_the_gains():
    found = measure(np.random.default_rng(11).normal(size=(3000, 2)), -3.0)
    np.testing.assert_array_equal(found.nats, found.gain.mean(axis=0))


@pytest.mark.parametrize(("positions", "snr"), [(1, 1.0), (1, 30.0), (1, 1000.0), (8, 10.0)])
def test_the_standard_error_is_that_of_repeated_samples(positions, snr):
    rng, n, repeats = np.random.default_rng(12), 1600, 150
    # Rows of one image share most of their mu.
    common = np.repeat(rng.normal(size=(n // positions, repeats)), positions, axis=0)
    own = rng.normal(size=(n, repeats))
    share = 0.9 if positions > 1 else 0.0
    mu = math.sqrt(snr) * (math.sqrt(share) * common + math.sqrt(1 - share) * own)
    found = measure(mu, 0.0, positions=positions)
    spread = found.nats.std(ddof=1)
    # The standard deviation of 150 normal numbers is known to 6 %.
    assert 0.75 < found.error.mean() / spread < 1.25
    if positions > 1:
        assert found.error.mean() > 1.5 * measure(mu, 0.0).error.mean()


@pytest.mark.parametrize("n", [300, 1000])
def test_what_the_sample_does_not_resolve_is_a_lower_bound(n):
    for snr in (1e5, 1e6, 1e8):
        found = measure(np.random.default_rng(13).normal(size=(n, 5)) * math.sqrt(snr), 0.0)
        assert found.limited.all()
        assert (found.nats < 0.5 * math.log1p(snr)).all()
        assert (found.nats > 0.8 * math.log(n)).all()


def test_posteriors_narrower_than_the_grid_are_limited():
    logvar = np.tile([0.0, -60.0], 3000)
    found = measure(np.random.default_rng(14).normal(size=6000), logvar)
    assert found.limited[0]
    assert np.isfinite([*found.nats, *found.error]).all()


def test_fewer_than_two_images_have_no_information():
    rows = np.random.default_rng(15).normal(size=(16, 2))
    assert measure(rows[:1], 0.0) is None
    assert measure(rows, 0.0, positions=16) is None
    assert measure(rows, 0.0, positions=8) is not None
    row = np.arange(16)
    codes = Sample(row, row.astype(np.uint64), rows.astype(np.float32), None)
    assert information(codes, DeterministicPosterior()) is None


def test_two_rows():
    found = measure([0.0, 100.0], 0.0)
    assert found.limited[0]
    # Two classes seen once each: log 2, and (2 - 1) / (2 x 2) by Miller and Madow.
    assert found.nats[0] == pytest.approx(math.log(2) + 0.25, abs=1e-3)
    assert found.error[0] > 0.05


@pytest.mark.parametrize("second", [-2000.0, -800.0, -745.0, -200.0, 0.0, 50.0, 88.0])
@pytest.mark.parametrize("kind", ["identical", "spread", "one outlier", "other heads"])
def test_extreme_heads_give_numbers_without_warnings(second, kind):
    rng = np.random.default_rng(16)
    mu = np.full((200, 1), 0.7) if kind == "identical" else rng.normal(size=(200, 1))
    logvar = np.full((200, 1), second)
    if kind == "one outlier":
        mu[7] = 1e30
    if kind == "other heads":
        logvar[100:] = -4.0
    found = measure(mu, logvar)
    assert np.isfinite(found.nats).all()
    assert np.isfinite(found.error).all()
    assert np.isfinite(found.gain).all()
    if kind == "identical":
        assert found.nats[0] < 1e-6
    if kind == "spread" and second <= -200:
        assert found.limited[0]
        assert found.nats[0] > 0.9 * math.log(200)


def test_one_image_with_a_wide_posterior_does_not_hide_the_others():
    mu = np.random.default_rng(17).normal(size=2000)
    logvar = np.full(2000, -4.0)
    clean = measure(mu, logvar)
    logvar[5] = 8.0
    found = measure(mu, logvar)
    # Its group, one of 32, is blurred: an image in 2,000 may cost 1/32 of the information.
    assert found.nats[0] > clean.nats[0] * (1 - 1 / 32) - 0.05


def test_equal_input_gives_equal_bits():
    mu, second = np.random.default_rng(18).normal(size=(4000, 2)), np.random.default_rng(19).uniform(size=(4000, 2))
    one, other = (measure(mu, second, mixture(0.1, 2)) for _ in range(2))
    for name, (a, b) in itertools.product(("nats", "error", "gain"), [(one, other)]):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


@pytest.mark.parametrize("outlier", [1e3, 1e6, -1e9])
def test_one_outlier_does_not_make_the_grid_coarse(outlier):
    mu = np.random.default_rng(0).normal(size=(5000, 1))
    logvar = np.full((5000, 1), 2 * np.log(0.135))
    clean = measure(mu, logvar)
    mu[3] = outlier
    found = measure(mu, logvar)
    assert found.nats[0] == pytest.approx(clean.nats[0], abs=0.01)
    assert not found.limited[0]
