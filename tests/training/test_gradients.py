"""Samples have the right law, and the gradients through them the right mean."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from benchmarks.gradients import held_mixture, held_paper
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch import distributions

from ngvae_tools.contract import InputScale
from ngvae_tools.laws import INFORMATIVE, UNINFORMATIVE
from ngvae_tools.training.config import GRADIENTS, MODELS, OBJECTIVES, TrainingConfig
from ngvae_tools.training.gradients import (
    ESTIMATORS,
    MIXTURE_ESTIMATORS,
    IndexScore,
    LatentSample,
    StudentT,
    StudentTMixture,
    g_rep,
    pathwise,
)
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder
from ngvae_tools.training.objectives import AdaptiveObjective, MixtureObjective, PaperObjective, make_objective

N = 300_000
ERRORS = 4.5


def generator(seed):
    return torch.Generator().manual_seed(seed)


def full(value, n=N):
    return torch.full((n, 1), value, dtype=torch.float64)


def leaf(value, n=N):
    return full(value, n).requires_grad_()


def mixture_module(estimator=StudentTMixture):
    return estimator(INFORMATIVE.alpha, UNINFORMATIVE).double()


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
def test_density_agrees_with_torch_and_scipy(alpha):
    t = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    density = StudentT(alpha).density(t)
    law = distributions.StudentT(torch.tensor(2 * alpha, dtype=torch.float64))
    torch.testing.assert_close(density, law.log_prob(t).exp(), rtol=1e-9, atol=0)
    np.testing.assert_allclose(density.numpy(), stats.t.pdf(t.numpy(), 2 * alpha), rtol=1e-9)


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
@pytest.mark.parametrize("estimator", [StudentTMixture, IndexScore])
def test_mixture_samples_follow_the_mixture(p, scale, estimator):
    objective = MixtureObjective(1, estimator=estimator).double()
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
    draws = mixture_module()(w, s, generator(2)).z
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


@cache
def small_model(*, control_variate):
    config = TrainingConfig(gradient="g-rep", control_variate=control_variate, latent_dim=1)
    return VariationalAutoencoder(config, (16, 16, 1), InputScale())


def surrogate_of(nll, drawn, *, control_variate=True):
    """B times the model's surrogate for a batch of B images, so that each image's gradient is its own."""
    nothing = torch.zeros_like(drawn.z)
    parts = BatchParts(
        squared_error=nll,
        nll=nll,
        rate=nothing,
        second=nothing,
        posterior_variance=nothing,
        noise_log_density=drawn.noise_log_density,
        penalty=None,
        mu=nothing,
        raw=nothing,
        z=drawn.z,
    )
    return small_model(control_variate=control_variate).surrogate(parts) * len(nll)


@pytest.mark.parametrize(("f", "mean"), PROBLEMS)
@pytest.mark.parametrize(("estimator", "control_variate"), [(pathwise, True), (g_rep, True), (g_rep, False)])
def test_gradients_to_the_normal_gamma_parameters(f, mean, estimator, control_variate):
    a, b = 8.0, 3.0
    mu, alpha, beta = leaf(MU), leaf(a), leaf(b)
    drawn = estimator(mu, alpha, beta, generator(3))
    surrogate_of(f(drawn.z)[:, 0], drawn, control_variate=control_variate).backward()
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
    surrogate_of(f(drawn.z)[:, 0], drawn).backward()

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


@pytest.mark.parametrize("weight", [0.001, 0.3, 0.999])
def test_the_score_of_the_mixture_is_that_of_the_index(weight):
    w = leaf(weight)
    scale = full(0.2, 1)[0].requires_grad_()
    module = mixture_module(IndexScore)
    drawn = module(w, scale, generator(6))
    informative, unit = module.draw(w, generator(6))
    index = distributions.Bernoulli(w).log_prob(informative.double())[:, 0]
    torch.testing.assert_close(drawn.noise_log_density, index, rtol=1e-12, atol=0)
    (score,) = torch.autograd.grad(drawn.noise_log_density.sum(), w)
    assert abs(float(score.mean())) < ERRORS * float(score.std()) / math.sqrt(N)
    # Given the component, t moves with the scale of the law it was drawn from.
    (by_scale,) = torch.autograd.grad(drawn.z.sum(), scale)
    torch.testing.assert_close(by_scale, unit[informative].sum()[None], rtol=1e-9, atol=0)


def noisy_score(estimator, control_variate):
    """Variances of single images' gradients where nlls are about 4,000 nats, with a spread of 400 between images."""
    n = 20_000
    weights = leaf(0.5, n)
    if estimator is g_rep:
        drawn = g_rep(full(MU, n), 8 * weights + 4, full(3.0, n), generator(7))
    else:
        drawn = mixture_module(estimator)(weights, full(0.256, 1)[0], generator(7))
    images = 4000 + 400 * torch.randn(n, generator=generator(8), dtype=torch.float64)
    surrogate_of(images + square(drawn.z)[:, 0], drawn, control_variate=control_variate).backward()
    return float(weights.grad.var())


@pytest.mark.parametrize("estimator", [g_rep, IndexScore])
def test_the_control_variate_lowers_the_variance_of_the_score(estimator):
    # Only the spread of the nlls is left: 400^2 of 4000^2 + 400^2, a factor of 101.
    assert noisy_score(estimator, control_variate=True) < 0.02 * noisy_score(estimator, control_variate=False)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("f", "mean"), PROBLEMS)
@pytest.mark.parametrize(
    ("estimator", "control_variate"), [(StudentTMixture, True), (IndexScore, True), (IndexScore, False)]
)
def test_gradients_to_mu_p_and_scale_of_the_mixture(f, mean, p, estimator, control_variate):
    scale = INFORMATIVE.scale
    mu, raw = leaf(MU), leaf(math.log(p / (1 - p)))
    s = leaf(scale)
    drawn = mixture_module(estimator)(torch.sigmoid(-raw), s, generator(8))
    drawn = LatentSample(mu + drawn.z, drawn.noise_log_density)
    surrogate_of(f(drawn.z)[:, 0], drawn, control_variate=control_variate).backward()

    def expected(mu, p, scale):
        narrow = mean(mu, INFORMATIVE.alpha, INFORMATIVE.alpha * scale**2)
        return (1 - p) * narrow + p * mean(mu, UNINFORMATIVE.alpha, UNINFORMATIVE.beta)

    assert_mean(mu.grad, slope_of(lambda v: expected(v, p, scale), MU))
    assert_mean(raw.grad / (p * (1 - p)), slope_of(lambda v: expected(MU, v, scale), p))
    assert_mean(s.grad, slope_of(lambda v: expected(MU, p, v), scale))


# Gradients in the mean through a network, against finite differences with the quantiles of the draws held

K, CHUNKS, CHUNK, HELD = 3, 100, 1000, 20_000
LOGITS = np.array([-1.0, 0.4, 2.0])
MEANS = np.array([0.5, -1.2, 0.1])
SCALES = np.array([0.1, 0.256, 0.6])
MADE = {
    "paper": lambda estimator: PaperObjective(20.0, ESTIMATORS[estimator]),
    "mixture": lambda estimator: MixtureObjective(K, estimator=MIXTURE_ESTIMATORS[estimator]),
    "adaptive": lambda estimator: AdaptiveObjective(K, estimator=MIXTURE_ESTIMATORS[estimator]),
}


def distortion(z):
    """Distortion of a small network whose outputs mix all dimensions, nats; some tens."""
    weights = 0.5 * torch.randn(K, 8, generator=generator(0), dtype=torch.float64)
    return 10 * (torch.tanh(z @ weights) - torch.linspace(-1, 1, 8, dtype=torch.float64)).square().sum(dim=-1)


@cache
def finite_differences(kind):
    """Derivatives of the mean distortion to (mu, logit of p, log scale), each (K,), and their standard errors."""
    objective = MADE[kind]("pathwise").double()
    rng = np.random.default_rng(0)
    logits = np.tile(LOGITS, (HELD, 1))
    paper = kind == "paper"
    held = held_paper(logits, objective.slope, rng) if paper else held_mixture(logits, SCALES, rng)

    def costs(means, logits, log_scales):
        offsets = held(logits) if paper else held(logits, np.exp(log_scales))
        return distortion(objective.mean(*map(torch.from_numpy, (means, logits))) + torch.from_numpy(offsets))

    point, h = [MEANS, logits, np.log(SCALES)], 1e-3
    slopes = []
    for which, k in itertools.product(range(2 if paper else 3), range(K)):
        sides = []
        for step in (h * np.eye(K)[k], -h * np.eye(K)[k]):
            shifted = list(point)
            shifted[which] = shifted[which] + step
            sides.append(costs(*shifted))
        slopes.append((sides[0] - sides[1]) / (2 * h))
    slopes = torch.stack(slopes)
    return slopes.mean(dim=1), slopes.std(dim=1) / math.sqrt(HELD)


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(("estimator", "control_variate"), [("pathwise", True), ("g-rep", True), ("g-rep", False)])
def test_gradients_through_a_network_agree_with_finite_differences(kind, estimator, control_variate):
    objective = MADE[kind](estimator).double()
    parameters = [torch.from_numpy(MEANS), torch.from_numpy(LOGITS)]
    if kind != "paper":
        with torch.no_grad():
            objective.log_scale.copy_(torch.from_numpy(np.log(SCALES)))
        parameters.append(objective.log_scale)
    mu, raw = (parameter.clone().requires_grad_() for parameter in parameters[:2])
    leaves = [mu, raw, *parameters[2:]]
    draws, gradients = generator(11), []
    for _ in range(CHUNKS):
        heads = mu.expand(CHUNK, K), raw.expand(CHUNK, K)
        drawn = objective.sample(objective.mean(*heads), heads[1], draws)
        surrogate = surrogate_of(distortion(drawn.z), drawn, control_variate=control_variate) / CHUNK
        gradients.append(torch.cat(torch.autograd.grad(surrogate, leaves)))
    gradients = torch.stack(gradients)
    exact, exact_error = finite_differences(kind)
    error = (gradients.var(dim=0) / CHUNKS + exact_error**2).sqrt()
    assert ((gradients.mean(dim=0) - exact).abs() < ERRORS * error).all()
    # Converged: of mu, logit and scale each, the errors are small beside the largest gradient.
    for part in torch.stack([exact.abs(), exact_error, error]).split(K, dim=1):
        largest, reference, both = part.max(dim=1).values
        assert reference < 0.02 * largest
        assert both < 0.1 * largest


# Numbers at the edge of their type


def test_a_draw_that_all_but_never_happens_stays_finite(monkeypatch):
    # The informative law at a weight of 1e-37, far out: the density of the mixture underflows.
    module = StudentTMixture(INFORMATIVE.alpha, UNINFORMATIVE)
    monkeypatch.setattr(module, "draw", lambda *_: (torch.tensor([[True]]), torch.tensor([[1e4]])))
    raw = torch.full((1, 1), 85.2, requires_grad=True)
    z = module(torch.sigmoid(-raw), torch.full((1,), INFORMATIVE.scale), None).z
    (gradient,) = torch.autograd.grad(z.sum(), raw)
    assert torch.isfinite(z).all()
    assert torch.isfinite(gradient).all()


EVERY = [
    TrainingConfig(objective=objective, gradient=gradient, latent_dim=K)
    for objective, gradient in itertools.product(OBJECTIVES, GRADIENTS)
] + [TrainingConfig(model=model, latent_dim=K) for model in MODELS if model != "ngvae"]


def edges(low, high):
    """Floats of the range, its ends more often."""
    return st.lists(st.sampled_from([low, high, 0.0]) | st.floats(low, high), min_size=2 * K, max_size=2 * K)


@given(
    means=edges(-1e3, 1e3),
    logits=edges(-80.0, 80.0),
    log_scales=edges(-20.0, 10.0),
    seed=st.integers(0, 2**32),
    settled=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("options", EVERY, ids=lambda c: f"{c.model}-{c.objective}-{c.gradient}")
def test_no_value_or_gradient_overflows_in_float32(options, means, logits, log_scales, seed, settled):
    objective = make_objective(options)
    leaves = [torch.tensor(values).reshape(2, K).requires_grad_() for values in (means, logits)]
    if isinstance(objective, MixtureObjective):
        with torch.no_grad():
            objective.log_scale.copy_(torch.tensor(log_scales[:K]))
        leaves.append(objective.log_scale)
    if settled:
        objective.settle(torch.zeros(K), plateau=True, steps=1)
    mu = objective.mean(leaves[0], leaves[1])
    drawn = objective.sample(mu, leaves[1], generator(seed))
    values = [drawn.z, objective.rate(mu, leaves[1]), objective.posterior_variance(leaves[1])]
    values += [] if drawn.noise_log_density is None else [drawn.noise_log_density]
    for value in values:
        assert torch.isfinite(value).all()
        for gradient in torch.autograd.grad(value.sum(), leaves, retain_graph=True, allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()
