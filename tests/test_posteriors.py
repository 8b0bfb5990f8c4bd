"""Posterior moments and entropies against scipy, quadrature and Monte Carlo; Eq. 5 and Eq. 10 at their ends."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from ngvae_tools.errors import ContractError
from ngvae_tools.laws import INFORMATIVE, PRIOR, UNINFORMATIVE, GammaLaw
from ngvae_tools.posteriors import (
    DeterministicPosterior,
    GaussianPosterior,
    NormalGammaMixturePosterior,
    NormalGammaPosterior,
    family_of,
    student_t_density,
    student_t_entropy,
)

PROBABILITY = st.floats(0, 1)


def column(*values):
    return np.array(values, dtype=np.float64)[:, None]


def variance_at(slope, p):
    posterior = NormalGammaPosterior(slope=slope).posterior(column(0.0), column(p))
    return float(posterior.variance[0, 0])


def mixture(scale=INFORMATIVE.scale, prior_nats=1.0):
    return NormalGammaMixturePosterior(
        INFORMATIVE.alpha, (INFORMATIVE.alpha * scale**2,), prior_weight=math.exp(-prior_nats)
    )


def quadrature_entropy(weight, scale):
    """Entropy of the mixture by adaptive quadrature in log t: independent of the module's sinh grid."""

    def density(t, alpha, scale):
        log_norm = math.lgamma(alpha + 0.5) - math.lgamma(alpha) - 0.5 * math.log(2 * math.pi * alpha)
        return math.exp(log_norm - (alpha + 0.5) * math.log1p((t / scale) ** 2 / (2 * alpha))) / scale

    def integrand(x):
        t = math.exp(x)
        narrow = density(t, INFORMATIVE.alpha, scale)
        q = weight * narrow + (1 - weight) * density(t, UNINFORMATIVE.alpha, UNINFORMATIVE.scale)
        return -2 * t * q * math.log(q) if q > 0 else 0.0

    bounds = [math.log(scale) - 30, math.log(scale), 0.0, math.log(20 * max(scale, 1)), 12.0]
    return sum(
        integrate.quad(integrand, low, high, epsabs=1e-8, epsrel=1e-8, limit=400)[0]
        for low, high in itertools.pairwise(sorted(bounds))
    )


def test_the_two_laws_have_section_four_variances():
    assert pytest.approx(0.0906, abs=5e-5) == INFORMATIVE.variance
    assert pytest.approx(0.900, abs=5e-4) == UNINFORMATIVE.variance
    assert pytest.approx(0.499, abs=5e-4) == PRIOR.variance


@pytest.mark.parametrize(
    ("slope", "variance"),
    [(5, 0.872), (10, 0.654), (20, 0.103), (50, 0.0906), (100, 0.0906), (2000, 0.0906)],
)
def test_slope_decides_whether_p_of_zero_reaches_the_informative_law(slope, variance):
    assert variance_at(slope, 0.0) == pytest.approx(variance, abs=6e-4 if variance > 0.1 else 5e-5)


@pytest.mark.parametrize("slope", [50, 100, 2000])
def test_p_of_one_is_the_uninformative_law(slope):
    assert variance_at(slope, 1.0) == pytest.approx(0.900, abs=5e-4)


@given(PROBABILITY, PROBABILITY, st.floats(1, 200))
def test_variance_never_falls_with_p(a, b, slope):
    low, high = sorted((a, b))
    # The slack covers rounding where Eq. 5 is flat.
    assert variance_at(slope, low) <= variance_at(slope, high) * (1 + 1e-12)


@settings(max_examples=25)
# At a scale of 0.808 both laws have the variance 0.900.
@given(PROBABILITY, PROBABILITY, st.floats(1e-3, 0.8))
def test_variance_of_the_mixture_never_falls_with_p(a, b, scale):
    variance = mixture(scale).posterior(column(0, 0), column(*sorted((a, b)))).variance[:, 0]
    assert variance[0] <= variance[1] * (1 + 1e-12)


@pytest.mark.parametrize(("slope", "p", "kl"), [(20, 0.216, 0.013), (50, 0.386, 0.013), (100, 0.443, 0.013)])
def test_interior_minimum_lies_where_eq_5_crosses_the_prior(slope, p, kl):
    family = NormalGammaPosterior(slope=slope)
    found, least = family.interior_minimum()
    assert (found, least) == (pytest.approx(p, abs=6e-4), pytest.approx(kl, abs=6e-4))
    assert variance_at(slope, found) == pytest.approx(0.524, abs=6e-4)

    def kl_at(value):
        alpha, beta = (float(v[0]) for v in family.parameters(np.array([value])))
        q, prior = (stats.gamma(a, scale=1 / b) for a, b in ((alpha, beta), (PRIOR.alpha, PRIOR.beta)))
        return q.expect(lambda lam: q.logpdf(lam) - prior.logpdf(lam), lb=1e-8, ub=q.isf(1e-14))

    exact = optimize.minimize_scalar(kl_at, bounds=(0.05, 0.49), method="bounded", options={"xatol": 1e-7})
    assert found == pytest.approx(exact.x, abs=1e-4)
    assert least == pytest.approx(exact.fun, abs=1e-6)


def test_gaussian_moments_and_entropy_agree_with_scipy():
    logvar = column(-9, -2, 0, 3)
    posterior = GaussianPosterior().posterior(column(1, 2, 3, 4), logvar)
    law = stats.norm(scale=np.exp(logvar / 2))
    np.testing.assert_allclose(posterior.variance, law.var(), rtol=1e-13)
    np.testing.assert_allclose(posterior.entropy, law.entropy(), rtol=1e-12)
    np.testing.assert_array_equal(posterior.mean, column(1, 2, 3, 4))


def test_normal_gamma_moments_and_entropy_agree_with_scipy():
    family = NormalGammaPosterior(slope=20)
    p = column(0, 0.1, 0.216, 0.4, 0.5, 0.9, 1)
    posterior = family.posterior(np.zeros_like(p), p)
    alpha, beta = family.parameters(p)
    law = stats.t(2 * alpha, scale=np.sqrt(beta / alpha))
    np.testing.assert_allclose(posterior.variance, law.var(), rtol=1e-12)
    np.testing.assert_allclose(posterior.entropy, law.entropy(), rtol=0, atol=1e-9)


def test_normal_gamma_moments_agree_with_monte_carlo():
    family = NormalGammaPosterior(slope=20)
    alpha, beta = (float(v[0]) for v in family.parameters(np.array([0.3])))
    rng = np.random.default_rng(0)
    z = 0.7 + rng.standard_normal(400_000) / np.sqrt(rng.gamma(alpha, 1 / beta, 400_000))
    posterior = family.posterior(column(0.7), column(0.3))
    squares = (z - 0.7) ** 2
    assert abs(z.mean() - posterior.mean[0, 0]) < 4.5 * z.std() / math.sqrt(len(z))
    assert abs(squares.mean() - posterior.variance[0, 0]) < 4.5 * squares.std() / math.sqrt(len(z))
    logs = -stats.t.logpdf(z, 2 * alpha, loc=0.7, scale=math.sqrt(beta / alpha))
    assert abs(logs.mean() - posterior.entropy[0, 0]) < 4.5 * logs.std() / math.sqrt(len(z))


@given(st.floats(0.6, 1000), st.floats(1e-4, 100), st.floats(-50, 50))
def test_student_t_density_and_entropy_agree_with_scipy(alpha, scale, t):
    law = stats.t(2 * alpha, scale=scale)
    assert student_t_density(np.array(t), alpha, scale) == pytest.approx(law.pdf(t), rel=1e-9, abs=1e-290)
    assert student_t_entropy(np.array(alpha), np.array(scale)) == pytest.approx(law.entropy(), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.02, INFORMATIVE.scale, 0.852, 3.0])
def test_entropy_of_the_mixture_agrees_with_quadrature(scale):
    p = np.array([0, 1e-4, 1e-3, 0.0123, 0.1, 0.35, 0.5, 0.652, 0.9, 0.987, 0.999, 0.9999, 1])
    entropy = mixture(scale).posterior(np.zeros((len(p), 1)), p[:, None]).entropy[:, 0]
    exact = [quadrature_entropy(1 - value, scale) for value in p]
    np.testing.assert_allclose(entropy, exact, rtol=0, atol=1e-4)


def test_moments_and_entropy_of_the_mixture_agree_with_monte_carlo():
    p, n = 0.35, 400_000
    rng = np.random.default_rng(1)
    informative = rng.random(n) < 1 - p
    gamma = [rng.gamma(law.alpha, 1 / law.beta, n) for law in (INFORMATIVE, UNINFORMATIVE)]
    z = -0.4 + rng.standard_normal(n) / np.sqrt(np.where(informative, *gamma))
    posterior = mixture().posterior(column(-0.4), column(p))
    squares = (z + 0.4) ** 2
    density = (1 - p) * stats.t.pdf(z + 0.4, 7.3, scale=INFORMATIVE.scale) + p * stats.t.pdf(
        z + 0.4, 1804, scale=UNINFORMATIVE.scale
    )
    logs = -np.log(density)
    for sample, value in (
        (z, posterior.mean),
        (squares, posterior.variance),
        (logs, posterior.entropy),
    ):
        assert abs(sample.mean() - value[0, 0]) < 4.5 * sample.std() / math.sqrt(n)


def test_each_dimension_of_the_mixture_has_its_own_scale():
    family = NormalGammaMixturePosterior(INFORMATIVE.alpha, (0.1, 0.24, 1.5))
    p = np.array([[0.2, 0.5, 0.0], [1.0, 0.0, 0.7]])
    together = family.posterior(np.zeros((2, 3)), p)
    for k, beta in enumerate(family.informative_beta):
        alone = NormalGammaMixturePosterior(INFORMATIVE.alpha, (beta,)).posterior(np.zeros((2, 1)), p[:, [k]])
        np.testing.assert_array_equal(together.variance[:, k], alone.variance[:, 0])
        np.testing.assert_array_equal(together.entropy[:, k], alone.entropy[:, 0])


def test_deterministic_codes_are_nothing_but_their_means():
    family = family_of("deterministic", 3, {})
    assert family == DeterministicPosterior()
    assert (family.second_head, family.rest_p, family.rate_floor, family.type_tolerance) == (None, None, None, 0.0)
    posterior = family.posterior(column(1.0, 2.0), None)
    np.testing.assert_array_equal(posterior.mean, column(1.0, 2.0))
    assert (posterior.variance, posterior.entropy, posterior.rate) == (None, None, None)
    with pytest.raises(TypeError, match="no density"):
        family.density(np.zeros(1), 0.0, 0)


@given(st.floats(-20, 20), st.floats(-20, 10))
def test_the_rate_of_a_normal_law_is_its_kl_to_the_prior(mu, logvar):
    rate = GaussianPosterior().posterior(column(mu), column(logvar)).rate[0, 0]
    scale = math.exp(logvar / 2)
    # E_q log q - E_q log p: both by their closed forms in scipy.
    cross = 0.5 * (math.log(2 * math.pi) + mu**2 + scale**2)
    assert rate == pytest.approx(cross - stats.norm(scale=scale).entropy(), rel=1e-9, abs=1e-9)
    assert rate >= -1e-12
    assert GaussianPosterior().rate_floor == 0


@pytest.mark.parametrize("p", [0.0, 0.3, 0.386, 0.45, 0.6, 1.0])
def test_the_rate_of_the_paper_is_the_kl_of_z_and_lambda_by_monte_carlo(p):
    family, mu, n = NormalGammaPosterior(), 1.3, 200_000
    alpha, beta = (float(v[0]) for v in family.parameters(np.array([p])))
    rng = np.random.default_rng(2)
    precision = rng.gamma(alpha, 1 / beta, n)
    z = mu + rng.standard_normal(n) / np.sqrt(precision)
    logs = (
        stats.norm.logpdf(z, mu, precision**-0.5)
        + stats.gamma.logpdf(precision, alpha, scale=1 / beta)
        - stats.norm.logpdf(z, 0, precision**-0.5)
        - stats.gamma.logpdf(precision, PRIOR.alpha, scale=1 / PRIOR.beta)
    )
    rate = family.posterior(column(mu), column(p)).rate[0, 0]
    assert abs(logs.mean() - rate) < 4.5 * logs.std() / math.sqrt(n)


def test_rate_floors():
    assert NormalGammaPosterior().rate_floor == pytest.approx(3.56, abs=0.005)
    at_one = NormalGammaPosterior(slope=2000).posterior(column(0.0), column(1.0)).rate[0, 0]
    assert NormalGammaPosterior(slope=2000).rate_floor == pytest.approx(at_one, abs=1e-9)
    p = np.linspace(0, 1, 20_001)[:, None]
    for scale in (1e-3, 0.1, 0.256, 0.852, 2.0):
        for nats in (0.3, 1.0, 3.0):
            family = mixture(scale, nats)
            rate = family.posterior(np.zeros_like(p), p).rate
            assert family.rate_floor.shape == (1,)
            assert rate.min() == pytest.approx(family.rate_floor[0], abs=1e-6)
            assert rate.min() >= family.rate_floor[0] - 1e-12


@given(st.floats(-10, 10), st.floats(-30, 30), st.floats(-4, 1), st.floats(0.05, 4))
@settings(deadline=None, max_examples=60)
def test_the_rate_of_the_mixture_is_the_objective_of_its_training(mu, raw, log_scale, nats):
    torch = pytest.importorskip("torch")
    from ngvae_tools.training.objectives import MixtureObjective

    objective = MixtureObjective(1, nats).double()
    with torch.no_grad():
        objective.log_scale.fill_(log_scale)
        trained = float(
            objective.rate(torch.tensor([[mu]], dtype=torch.float64), torch.tensor([[raw]], dtype=torch.float64))
        )
    p = 1 / (1 + math.exp(-raw))
    family = family_of("normal-gamma-mixture", 1, objective.hyperparameters())
    assert float(family.posterior(column(mu), column(p)).rate[0, 0]) == pytest.approx(trained, rel=1e-9, abs=1e-9)


@given(st.floats(-10, 10), st.floats(-30, 30), st.sampled_from([20.0, 50.0, 100.0]))
@settings(deadline=None, max_examples=30)
def test_the_rates_of_the_other_families_are_those_of_their_training(mu, raw, slope):
    torch = pytest.importorskip("torch")
    from ngvae_tools.training.objectives import GaussianObjective, PaperObjective

    heads = torch.tensor([[mu]], dtype=torch.float64), torch.tensor([[raw]], dtype=torch.float64)
    p = 1 / (1 + math.exp(-raw))
    paper = NormalGammaPosterior(slope=slope).posterior(column(mu), column(p)).rate[0, 0]
    assert paper == pytest.approx(float(PaperObjective(slope).rate(*heads)), rel=1e-8, abs=1e-8)
    gaussian = GaussianPosterior().posterior(column(mu), column(raw)).rate[0, 0]
    assert gaussian == pytest.approx(float(GaussianObjective().rate(*heads)), rel=1e-12, abs=1e-12)


def densities():
    two = NormalGammaMixturePosterior(INFORMATIVE.alpha, (INFORMATIVE.alpha * 0.3**2, INFORMATIVE.alpha * 0.05**2))
    yield from ((GaussianPosterior(), value) for value in (-6.0, 0.0, 3.0))
    yield from ((NormalGammaPosterior(), value) for value in (0.0, 0.386, 0.55, 1.0))
    yield from ((two, value) for value in (0.0, 0.01, 0.4, 0.9, 1.0))


@pytest.mark.parametrize(("family", "second"), list(densities()))
def test_a_density_has_mass_one_and_the_familys_variance_and_entropy(family, second):
    k = 1
    posterior = family.posterior(np.zeros((1, 2)), np.full((1, 2), second))
    # t = sinh(x) reaches the tails of a Student-t.
    x = np.linspace(-14, 14, 200_001)
    t = np.sinh(x) * math.sqrt(posterior.variance[0, k]) / 20
    density = family.density(t, second, k)
    step = np.gradient(t, x) * (x[1] - x[0])
    assert (density * step).sum() == pytest.approx(1, abs=1e-6)
    assert (density * t * t * step).sum() == pytest.approx(posterior.variance[0, k], rel=1e-4)
    logs = np.log(np.maximum(density, 1e-300))
    assert -(density * logs * step).sum() == pytest.approx(posterior.entropy[0, k], abs=2e-4)


@pytest.mark.parametrize("logvar", [-1400.0, -745.0, -100.0, 50.0, 700.0])
def test_the_density_of_extreme_log_variances_is_finite_at_its_peak(logvar):
    peak = GaussianPosterior().density(np.zeros(1), logvar, 0)[0]
    assert math.log(peak) == pytest.approx(-0.5 * (logvar + math.log(2 * math.pi)), rel=1e-12)


@pytest.mark.parametrize(("nats", "p"), [(1, 0.652), (3, 0.954)])
def test_rest_point_of_the_mixture(nats, p):
    assert mixture(prior_nats=nats).rest_p == pytest.approx(p, abs=5e-4)


def test_rest_points_of_the_other_families():
    assert GaussianPosterior().rest_p is None
    assert NormalGammaPosterior().rest_p == pytest.approx(0.386, abs=1e-3)


def test_families_are_found_by_name():
    assert family_of("gaussian", 3, {}) == GaussianPosterior()
    assert family_of("normal-gamma", 3, {}) == NormalGammaPosterior()
    assert family_of("normal-gamma", 3, {"slope": 20.0}).slope == 20
    assert family_of("normal-gamma-mixture", 2, {}).informative_beta == (0.24, 0.24)
    full = {
        "informative_alpha": 4.0,
        "informative_beta": (0.1, 0.2),
        "uninformative_alpha": 90.0,
        "uninformative_beta": 80.0,
        "prior_weight": 0.2,
    }
    assert family_of("normal-gamma-mixture", 2, full) == NormalGammaMixturePosterior(
        4.0, (0.1, 0.2), GammaLaw(90.0, 80.0), 0.2
    )
    names = ("gaussian", "normal-gamma", "normal-gamma-mixture", "deterministic")
    assert [family_of(n, 1, {}).second_head for n in names] == ["logvar", "p", "p", None]
    assert [family_of(n, 1, {}).type_tolerance for n in names] == [0, 0.05, 0.05, 0]


@pytest.mark.parametrize(
    ("name", "hyperparameters", "named"),
    [
        ("laplace", {}, "laplace"),
        ("normal-gamma", {"slope": 0.0}, "slope"),
        ("normal-gamma", {"slope": math.nan}, "slope"),
        ("normal-gamma", {"informative_alpha": (3.0, 4.0)}, "informative_alpha"),
        ("normal-gamma", {"informative_alpha": 1.0}, "informative_alpha"),
        ("normal-gamma", {"uninformative_alpha": 0.5}, "uninformative_alpha"),
        ("normal-gamma", {"uninformative_beta": math.inf}, "uninformative_beta"),
        ("normal-gamma", {"informative_beta": -1.0}, "informative_beta"),
        ("normal-gamma-mixture", {"informative_beta": (0.1, 0.0)}, "informative_beta"),
        ("normal-gamma-mixture", {"informative_beta": (0.1, 0.1, 0.1)}, "informative_beta"),
        ("normal-gamma-mixture", {"informative_beta": math.nan}, "informative_beta"),
        ("normal-gamma-mixture", {"prior_weight": 1.0}, "prior_weight"),
        ("normal-gamma-mixture", {"prior_weight": 0.0}, "prior_weight"),
    ],
)
def test_hyperparameters_outside_their_range_are_refused(name, hyperparameters, named):
    with pytest.raises(ContractError, match=named):
        family_of(name, 2, hyperparameters)
