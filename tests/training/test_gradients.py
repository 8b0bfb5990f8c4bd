"""Samples have the right law, and the gradients through them the right mean."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats

from ngvae_tools.contract import InputScale
from ngvae_tools.laws import INFORMATIVE, UNINFORMATIVE
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.gradients import StudentT, StudentTMixture, g_rep, pathwise
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder
from ngvae_tools.training.objectives import MixtureObjective, PaperObjective

N = 300_000
ERRORS = 4.5


def generator(seed):
    return torch.Generator().manual_seed(seed)


def full(value, n=N):
    return torch.full((n, 1), value, dtype=torch.float64)


def leaf(value, n=N):
    return full(value, n).requires_grad_()


def mixture_module():
    return StudentTMixture(INFORMATIVE.alpha, UNINFORMATIVE).double()


def mixture_cdf(weight, scale):
    narrow = stats.t(2 * INFORMATIVE.alpha, scale=scale)
    wide = stats.t(2 * UNINFORMATIVE.alpha, scale=UNINFORMATIVE.scale)
    return lambda t: weight * narrow.cdf(t) + (1 - weight) * wide.cdf(t)


def assert_mean(gradients, exact):
    """The mean of single draws' gradients is `exact`, within their standard error."""
    values = gradients.detach().flatten().numpy()
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - exact) < ERRORS * error
    # A bound that any value met would prove nothing.
    assert ERRORS * error < 0.1 * max(abs(exact), 0.05)


# The Student-t table


def relative_tail_error(alpha, low, high):
    t = torch.linspace(low, high, 4001)
    exact = stats.t.sf(t.double().numpy(), 2 * alpha)
    return np.abs(StudentT(alpha).tail(t).double().numpy() / exact - 1).max()


@pytest.mark.parametrize(("alpha", "error"), [(1.2, 7e-6), (INFORMATIVE.alpha, 1e-7), (UNINFORMATIVE.alpha, 1e-7)])
def test_tail_agrees_with_scipy_everywhere(alpha, error):
    t = torch.cat([torch.linspace(0, 100, 40_001), torch.logspace(2, 6, 200)])
    exact = stats.t.sf(t.double().numpy(), 2 * alpha)
    assert np.abs(StudentT(alpha).tail(t).double().numpy() - exact).max() < error


@pytest.mark.parametrize(
    ("alpha", "high", "error"),
    [
        (1.2, 10, 2e-5),
        (1.2, 50, 1e-3),
        (INFORMATIVE.alpha, 10, 2e-5),  # a tail of 8e-6
        (INFORMATIVE.alpha, 50, 1e-3),  # 8e-11
        (UNINFORMATIVE.alpha, 5, 1e-5),  # 3e-7
        (UNINFORMATIVE.alpha, 7, 2e-5),  # 2e-12
    ],
)
def test_tail_keeps_its_relative_accuracy_far_out(alpha, high, error):
    assert relative_tail_error(alpha, 0, high) < error


@pytest.mark.parametrize("alpha", [1.2, INFORMATIVE.alpha, UNINFORMATIVE.alpha])
def test_density_agrees_with_scipy(alpha):
    t = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    exact = stats.t.pdf(t.numpy(), 2 * alpha)
    np.testing.assert_allclose(StudentT(alpha).density(t).numpy(), exact, rtol=1e-9)


def test_tail_of_what_is_no_number_is_no_number():
    t = torch.tensor([math.nan, math.inf, 0.0])
    tail = StudentT(INFORMATIVE.alpha).tail(t)
    assert tail[0].isnan()
    assert tail[2] == 0.5


# The laws of the samples


@pytest.mark.parametrize("estimator", [pathwise, g_rep])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_normal_gamma_samples_follow_a_student_t(estimator, p):
    alpha, beta = PaperObjective(20.0).parameters_of(full(p, 20_000))
    z = estimator(full(0.7, 20_000), alpha, beta, generator(0)).z[:, 0].numpy()
    a, b = float(alpha[0]), float(beta[0])
    assert stats.kstest(z, stats.t(2 * a, loc=0.7, scale=math.sqrt(b / a)).cdf).pvalue > 1e-3


@pytest.mark.parametrize("p", [0.02, 0.35, 0.98])
@pytest.mark.parametrize("scale", [0.02, INFORMATIVE.scale, 0.85])
def test_mixture_samples_follow_the_mixture(p, scale):
    objective = MixtureObjective(1).double()
    with torch.no_grad():
        objective.log_scale.fill_(math.log(scale))
    raw = full(math.log(p / (1 - p)), 20_000)
    z = objective.sample(full(-0.4, 20_000), raw, generator(1)).z[:, 0].detach().numpy()
    assert stats.kstest(z + 0.4, mixture_cdf(1 - p, scale)).pvalue > 1e-3


# The implicit gradient of single draws


@pytest.mark.parametrize("scale", [0.05, INFORMATIVE.scale, 0.85])
@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9, 0.99])
def test_a_draw_moves_as_the_inverse_cdf_does(weight, scale):
    n = 12
    w = torch.full((1, n), weight, dtype=torch.float64, requires_grad=True)
    s = torch.full((n,), scale, dtype=torch.float64, requires_grad=True)
    draws = mixture_module()(w, s, generator(2))
    draws.sum().backward()
    narrow = stats.t(2 * INFORMATIVE.alpha, scale=scale)
    wide = stats.t(2 * UNINFORMATIVE.alpha, scale=UNINFORMATIVE.scale)

    def inverse(level, centre, weight, scale):
        cdf = mixture_cdf(weight, scale)
        return optimize.brentq(lambda t: cdf(t) - level, centre - 0.05, centre + 0.05, xtol=1e-14, rtol=1e-14)

    for k, t in enumerate(draws[0].detach().tolist()):
        level = mixture_cdf(weight, scale)(t)
        density = weight * narrow.pdf(t) + (1 - weight) * wide.pdf(t)
        h = 1e-5 * min(weight, 1 - weight)
        by_weight = (inverse(level, t, weight + h, scale) - inverse(level, t, weight - h, scale)) / (2 * h)
        # The table is float32: 2e-8 in each tail. Rounding of the CDF: 1e-15 / (density * h).
        slack = (4e-8 + 2e-16 / h) / density
        assert float(w.grad[0, k]) == pytest.approx(by_weight, rel=1e-6, abs=slack)
        h = 1e-5 * scale
        by_scale = (inverse(level, t, weight, scale + h) - inverse(level, t, weight, scale - h)) / (2 * h)
        assert float(s.grad[k]) == pytest.approx(by_scale, rel=1e-6, abs=4e-16 / h / density)


# Gradients in the mean: E[(z - c)^2] = (mu - c)^2 + Var z, and E[cos z] = cos(mu) E[exp(-1 / (2 lambda))]

MU, C = 0.7, 0.3


def square(z):
    return (z - C) ** 2


def mean_square(mu, alpha, beta):
    return (mu - C) ** 2 + beta / (alpha - 1)


def mean_cosine(mu, alpha, beta):
    law = stats.gamma(alpha, scale=1 / beta)
    low, high = law.isf(1 - 1e-16), law.isf(1e-16)
    inner, _ = integrate.quad(lambda lam: law.pdf(lam) * math.exp(-0.5 / lam), low, high, epsabs=1e-13)
    return math.cos(mu) * inner


PROBLEMS = [(square, mean_square), (torch.cos, mean_cosine)]


def slope_of(function, point, h=1e-4):
    return (function(point + h) - function(point - h)) / (2 * h)


def surrogate_of(f, drawn, *, baseline):
    """N times the model's surrogate for a batch whose nll is f(z), so that each image's gradient is its own."""
    nll = f(drawn.z)[:, 0]
    if not baseline:
        return (nll + nll.detach() * drawn.noise_log_density).sum()
    model = VariationalAutoencoder(
        TrainingConfig(objective="paper", gradient="g-rep", latent_dim=1), (16, 16, 1), InputScale()
    )
    parts = BatchParts(
        squared_error=nll,
        nll=nll,
        rate=torch.zeros_like(drawn.z),
        second=drawn.z,
        posterior_variance=drawn.z,
        noise_log_density=drawn.noise_log_density,
    )
    return model.surrogate(parts) * len(nll)


@pytest.mark.parametrize(("f", "mean"), PROBLEMS)
@pytest.mark.parametrize("estimator", ["pathwise", "g-rep", "g-rep without baseline"])
def test_gradients_to_the_normal_gamma_parameters(f, mean, estimator):
    a, b = 8.0, 3.0
    mu, alpha, beta = leaf(MU), leaf(a), leaf(b)
    if estimator == "pathwise":
        f(pathwise(mu, alpha, beta, generator(3)).z).sum().backward()
    else:
        drawn = g_rep(mu, alpha, beta, generator(3))
        surrogate_of(f, drawn, baseline=estimator == "g-rep").backward()
    assert_mean(mu.grad, slope_of(lambda v: mean(v, a, b), MU))
    assert_mean(alpha.grad, slope_of(lambda v: mean(MU, v, b), a))
    assert_mean(beta.grad, slope_of(lambda v: mean(MU, a, v), b))


@pytest.mark.parametrize(("f", "mean"), PROBLEMS)
@pytest.mark.parametrize("estimator", [pathwise, g_rep])
@pytest.mark.parametrize("p", [0.25, 0.35])
def test_gradients_to_mu_and_p_of_the_paper(f, mean, estimator, p):
    objective = PaperObjective(20.0, estimator)
    mu, raw = leaf(MU), leaf(math.log(p / (1 - p)))
    drawn = objective.sample(mu, raw, generator(4))
    if drawn.noise_log_density is None:
        f(drawn.z).sum().backward()
    else:
        surrogate_of(f, drawn, baseline=True).backward()

    def of_p(value):
        return mean(MU, *(float(v) for v in objective.parameters_of(torch.tensor(value, dtype=torch.float64))))

    alpha, beta = (float(v) for v in objective.parameters_of(torch.tensor(p, dtype=torch.float64)))
    assert_mean(mu.grad, slope_of(lambda v: mean(v, alpha, beta), MU))
    assert_mean(raw.grad / (p * (1 - p)), slope_of(of_p, p))


def test_the_score_is_the_derivative_of_the_log_density_of_the_noise():
    alpha = leaf(8.0, 500)
    drawn = g_rep(full(0.0, 500), alpha, full(3.0, 500), generator(5))
    drawn.noise_log_density.sum().backward()
    gamma = torch._standard_gamma(full(8.0, 500), generator(5))
    eps = ((gamma.log() - torch.digamma(full(8.0, 500))) / torch.polygamma(1, full(8.0, 500)).sqrt()).numpy()

    def log_density(a):
        # The density of log(gamma), by scipy, in units of eps.
        shape = torch.tensor(a, dtype=torch.float64)
        spread = float(torch.polygamma(1, shape).sqrt())
        return stats.loggamma.logpdf(eps * spread + float(torch.digamma(shape)), a) + math.log(spread)

    np.testing.assert_allclose(drawn.noise_log_density.detach().numpy(), log_density(8.0)[:, 0], atol=1e-9)
    np.testing.assert_allclose(alpha.grad.numpy(), slope_of(log_density, 8.0), atol=1e-7)
    # The mean of a score is nought.
    many = leaf(8.0)
    g_rep(full(0.0), many, full(3.0), generator(6)).noise_log_density.sum().backward()
    score = many.grad.numpy()
    assert abs(score.mean()) < ERRORS * score.std() / math.sqrt(N)


def test_the_baseline_lowers_the_variance_where_the_cost_is_large():
    variances = []
    for baseline in (True, False):
        alpha = leaf(8.0, 20_000)
        drawn = g_rep(full(MU, 20_000), alpha, full(3.0, 20_000), generator(7))
        surrogate_of(lambda z: 1000 + square(z), drawn, baseline=baseline).backward()
        variances.append(float(alpha.grad.var()))
    assert variances[0] < 0.01 * variances[1]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["square", "cosine"])
def test_gradients_to_mu_p_and_scale_of_the_mixture(kind, p):
    scale = INFORMATIVE.scale
    mu, raw = leaf(MU), leaf(math.log(p / (1 - p)))
    s = torch.full((N,), scale, dtype=torch.float64, requires_grad=True)
    t = mixture_module()(torch.sigmoid(-raw).T, s, generator(8)).T
    f, mean = (square, mean_square) if kind == "square" else (torch.cos, mean_cosine)
    f(mu + t).sum().backward()

    def expected(mu, p, scale):
        narrow = mean(mu, INFORMATIVE.alpha, INFORMATIVE.alpha * scale**2)
        return (1 - p) * narrow + p * mean(mu, UNINFORMATIVE.alpha, UNINFORMATIVE.beta)

    assert_mean(mu.grad, slope_of(lambda v: expected(v, p, scale), MU))
    assert_mean(raw.grad / (p * (1 - p)), slope_of(lambda v: expected(MU, v, scale), p))
    assert_mean(s.grad, slope_of(lambda v: expected(MU, p, v), scale))


def test_gradients_are_finite_at_the_ends_of_p():
    module = StudentTMixture(INFORMATIVE.alpha, UNINFORMATIVE)
    raw = torch.tensor([-200.0, -30.0, 30.0, 200.0]).repeat(5000, 1).requires_grad_()
    for scale in (1e-4, 0.256, 2.0):
        s = torch.full((4,), scale, requires_grad=True)
        module(torch.sigmoid(-raw), s, generator(9)).sum().backward()
        assert torch.isfinite(raw.grad).all()
        assert torch.isfinite(s.grad).all()
