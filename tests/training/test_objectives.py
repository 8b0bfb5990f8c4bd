"""The rates against torch.distributions, quadrature and Monte Carlo; the numpy posteriors against the objectives."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch.distributions import Bernoulli, Gamma, Normal, StudentT, kl_divergence

from ngvae_tools.laws import INFORMATIVE, PRIOR, UNINFORMATIVE
from ngvae_tools.posteriors import NormalGammaPosterior, family_of
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.objectives import (
    GaussianObjective,
    MixtureObjective,
    PaperObjective,
    gamma_kl,
    make_objective,
)

WEIGHT = st.floats(1e-9, 1 - 1e-9)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def logit(p):
    return math.log(p) - math.log1p(-p)


def gamma_law(law):
    return Gamma(torch.tensor(law.alpha, dtype=torch.float64), torch.tensor(law.beta, dtype=torch.float64))


@cache
def unscaled_mixture(prior_nats):
    return MixtureObjective(1, prior_nats).double()


def mixture(prior_nats=1.0, scale=INFORMATIVE.scale):
    objective = unscaled_mixture(prior_nats)
    with torch.no_grad():
        objective.log_scale.fill_(math.log(scale))
    return objective


def bound(mu, w, prior_nats=1.0, scale=INFORMATIVE.scale):
    # logit(1 - w) overflows at the ends: +-60 puts 1e-26 on the other law.
    raw = logit(1 - w) if 0 < w < 1 else (60.0 if w == 0 else -60.0)
    return float(mixture(prior_nats, scale).rate(tensor(mu), tensor(raw)).detach())


def law_costs(mu, scale=INFORMATIVE.scale):
    """A_i and A_u by quadrature over lambda of the KL that torch knows."""
    beta = INFORMATIVE.alpha * scale**2
    costs = []
    for alpha, rate in ((INFORMATIVE.alpha, beta), (UNINFORMATIVE.alpha, UNINFORMATIVE.beta)):
        law = stats.gamma(alpha, scale=1 / rate)

        def cost(x, law=law):
            lam = math.exp(x)
            normal = Normal(torch.tensor(mu, dtype=torch.float64), torch.tensor(lam, dtype=torch.float64).rsqrt())
            return lam * law.pdf(lam) * float(kl_divergence(normal, Normal(0.0, 1.0)))

        low, high = math.log(law.isf(1 - 1e-15)), math.log(law.isf(1e-15))
        costs.append(integrate.quad(cost, low, high, epsabs=1e-10)[0])
    return costs


def exact_kl(mu, w, prior_nats):
    """KL of the mixture from its prior, jointly in z and lambda, by quadrature in two dimensions."""
    pi = math.exp(-prior_nats)
    informative, uninformative = (stats.gamma(law.alpha, scale=1 / law.beta) for law in (INFORMATIVE, UNINFORMATIVE))
    x = np.linspace(math.log(1e-5), math.log(300), 12_001)
    lam = np.exp(x)[:, None]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    z = mu + nodes / np.sqrt(lam)
    normal = stats.norm.logpdf(z, mu, lam**-0.5)
    with np.errstate(divide="ignore"):
        log_i, log_u = informative.logpdf(lam), uninformative.logpdf(lam)
        log_q = normal + np.logaddexp(np.log(w) + log_i, np.log(1 - w) + log_u)
        log_p = stats.norm.logpdf(z) + np.logaddexp(-prior_nats + log_i, math.log(1 - pi) + log_u)
    density = (w * informative.pdf(lam) + (1 - w) * uninformative.pdf(lam))[:, 0]
    inner = ((log_q - log_p) * weights).sum(axis=1)
    return float((density * inner * lam[:, 0]).sum() * (x[1] - x[0]))


# Gaussian


def test_gaussian_rate_agrees_with_torch():
    mu, raw = tensor(0, 1.5, -3, 0.1), tensor(0, -6, 2, -0.3)
    exact = kl_divergence(Normal(mu, (raw / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(GaussianObjective().rate(mu, raw), exact, rtol=1e-12, atol=1e-12)


@given(st.floats(-50, 50), st.floats(-15, 5))
def test_gaussian_rate_is_not_negative(mu, raw):
    # 1e-15 is rounding at the minimum.
    assert float(GaussianObjective().rate(tensor(mu), tensor(raw))) >= -1e-15


# Eq. 5, 9 and 10


@pytest.mark.parametrize(("slope", "variance"), [(5, 0.872), (10, 0.654), (20, 0.103), (50, 0.0906), (100, 0.0906)])
def test_eq_5_at_p_of_zero(slope, variance):
    found = float(PaperObjective(slope).posterior_variance(tensor(-40.0)))
    assert found == pytest.approx(variance, abs=6e-4 if variance > 0.1 else 5e-5)


@pytest.mark.parametrize("slope", [20, 50, 100])
def test_eq_5_at_p_of_one(slope):
    assert float(PaperObjective(slope).posterior_variance(tensor(40.0))) == pytest.approx(0.900, abs=5e-4)


def test_eq_10_agrees_with_torch():
    alpha, beta = tensor(3.65, 8.25, 20, 902, 1.5), tensor(0.24, 3.62, 100, 810.9, 0.01)
    exact = kl_divergence(Gamma(alpha, beta), gamma_law(PRIOR))
    torch.testing.assert_close(gamma_kl(alpha, beta, PRIOR), exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("law", "nats"), [(INFORMATIVE, 31.38), (UNINFORMATIVE, 3.56), (PRIOR, 0.0)])
def test_eq_10_at_the_paper_laws(law, nats):
    alpha, beta = tensor(law.alpha), tensor(law.beta)
    assert float(gamma_kl(alpha, beta, PRIOR)) == pytest.approx(nats, abs=5e-3)


def test_eq_9_and_10_agree_with_quadrature():
    mu, p, slope = 1.3, 0.3, 20
    objective = PaperObjective(slope)
    alpha, beta = (float(v) for v in objective.parameters_of(tensor(p)))
    law, prior = stats.gamma(alpha, scale=1 / beta), stats.gamma(PRIOR.alpha, scale=1 / PRIOR.beta)

    def cost(lam):
        # The KL of N(mu, 1/lam) from N(0, 1/lam), and the log ratio of the Gamma laws.
        return law.pdf(lam) * (lam * mu**2 / 2 + law.logpdf(lam) - prior.logpdf(lam))

    exact, _ = integrate.quad(cost, 1e-6, law.isf(1e-15), epsabs=1e-11, limit=200)
    assert float(objective.rate(tensor(mu), tensor(logit(p)))) == pytest.approx(exact, abs=1e-7)


def test_rate_of_the_paper_agrees_with_monte_carlo():
    mu, p = 0.8, 0.35
    objective = PaperObjective(20.0)
    alpha, beta = objective.parameters_of(tensor(p))
    torch.manual_seed(0)
    lam = Gamma(alpha, beta).sample((200_000,))
    z = Normal(mu, lam.rsqrt()).sample()
    ratio = Normal(mu, lam.rsqrt()).log_prob(z) + Gamma(alpha, beta).log_prob(lam)
    ratio = ratio - Normal(0.0, lam.rsqrt()).log_prob(z) - gamma_law(PRIOR).log_prob(lam)
    error = float(ratio.std()) / math.sqrt(ratio.numel())
    rate = float(objective.rate(tensor(mu), tensor(logit(p))))
    assert abs(float(ratio.mean()) - rate) < 4.5 * error


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(1, 200))
def test_rate_of_the_paper_is_not_negative(mu, raw, slope):
    # 1e-10 is rounding: log-gamma of 902 is 5,234.
    assert float(PaperObjective(slope).rate(tensor(mu), tensor(raw))) >= -1e-10


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(5, 200))
def test_variance_of_the_paper_never_falls_with_p(a, b, slope):
    low, high = PaperObjective(slope).posterior_variance(tensor(*sorted((a, b))))
    assert float(low) <= float(high) * (1 + 1e-12)


@pytest.mark.parametrize(("slope", "p"), [(20, 0.216), (50, 0.386), (100, 0.443)])
def test_interior_minimum_of_the_rate(slope, p):
    objective = PaperObjective(slope)
    found = optimize.minimize_scalar(
        lambda value: float(objective.rate(tensor(0.0), tensor(logit(value)))),
        bounds=(0.05, 0.49),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert (found.x, found.fun) == (pytest.approx(p, abs=6e-4), pytest.approx(0.013, abs=5e-4))
    assert float(objective.posterior_variance(tensor(logit(found.x)))) == pytest.approx(0.524, abs=6e-4)
    from_posteriors = NormalGammaPosterior(slope=slope).interior_minimum()
    assert from_posteriors == (pytest.approx(found.x, abs=1e-4), pytest.approx(found.fun, abs=1e-6))


@given(st.floats(0, 30), st.sampled_from([50.0, 100.0]))
def test_the_printed_objective_prices_only_the_signal_to_noise_ratio(mu, slope):
    # The same mean in units of its own law's noise costs the same at both laws, but for 27.8 nats saved.
    noise = UNINFORMATIVE.scale / INFORMATIVE.scale
    informative, uninformative = PaperObjective(slope).rate(tensor(mu, noise * mu), tensor(-40, 40))
    assert float(informative - uninformative) == pytest.approx(27.827, abs=1e-3)


@given(st.floats(0.5, 30))
def test_the_mixture_prices_the_mean_itself(mu):
    noise = UNINFORMATIVE.scale / INFORMATIVE.scale
    informative, uninformative = (
        float(mixture().rate(tensor(m), tensor(raw)).detach()) for m, raw in ((mu, -40.0), (noise * mu, 40.0))
    )
    saved = bound(0, 1) - bound(0, 0)
    assert uninformative - informative == pytest.approx(0.5 * (noise**2 - 1) * mu**2 - saved, rel=1e-9)
    assert uninformative > informative


# The mixture


@pytest.mark.parametrize("mu", [0.0, 1.4])
@pytest.mark.parametrize("scale", [0.01, INFORMATIVE.scale, 0.852])
def test_costs_of_the_two_laws_agree_with_quadrature(mu, scale):
    a_i, a_u = law_costs(mu, scale)
    # At the ends, log(1 / pi) and log(1 / (1 - pi)) are what the index costs.
    assert bound(mu, 1, scale=scale) - 1 == pytest.approx(a_i, abs=1e-6)
    assert bound(mu, 0, scale=scale) + math.log(1 - math.exp(-1)) == pytest.approx(a_u, abs=1e-6)


@pytest.mark.parametrize("mu", [0.0, 2.0])
def test_costs_of_the_two_laws_at_the_paper_values(mu):
    assert bound(mu, 1) - 1 - mu**2 / 2 == pytest.approx(0.8346, abs=5e-5)
    assert bound(mu, 0) + math.log(1 - math.exp(-1)) - mu**2 / 2 == pytest.approx(0.0030, abs=5e-5)


@pytest.mark.parametrize(("law", "w"), [(INFORMATIVE, 1), (UNINFORMATIVE, 0)])
def test_costs_of_the_two_laws_agree_with_monte_carlo(law, w):
    torch.manual_seed(1)
    lam = gamma_law(law).sample((200_000,))
    costs = kl_divergence(Normal(0.9, lam.rsqrt()), Normal(0.0, 1.0))
    index = 1.0 if w == 1 else -math.log(1 - math.exp(-1))
    error = float(costs.std()) / math.sqrt(len(costs))
    assert abs(float(costs.mean()) - (bound(0.9, w) - index)) < 4.5 * error


@pytest.mark.parametrize("prior_nats", [1.0, 3.0])
@pytest.mark.parametrize("w", [0.0, 0.01, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("mu", [0.0, 1.4])
def test_bound_is_the_kl_of_the_joint_with_the_index(prior_nats, w, mu):
    prior = Bernoulli(torch.tensor(math.exp(-prior_nats), dtype=torch.float64))
    index = float(kl_divergence(Bernoulli(torch.tensor(w, dtype=torch.float64)), prior))
    a_i, a_u = law_costs(mu)
    assert bound(mu, w, prior_nats) == pytest.approx(index + w * a_i + (1 - w) * a_u, abs=1e-6)


@pytest.mark.parametrize("prior_nats", [1.0, 3.0])
@pytest.mark.parametrize("w", [0.0, 0.05, 0.37, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("mu", [0.0, 1.4])
def test_bound_lies_above_the_exact_kl_of_the_mixture(prior_nats, w, mu):
    excess = bound(mu, w, prior_nats) - exact_kl(mu, w, prior_nats)
    # The laws overlap little, so lambda almost tells the index: at most 0.0042 nat here.
    assert -1e-6 <= excess < 0.005


@pytest.mark.parametrize("prior_nats", [1.0, 3.0])
def test_bound_meets_the_exact_kl_where_one_law_has_all_the_weight(prior_nats):
    pi = math.exp(-prior_nats)
    laws = [stats.gamma(law.alpha, scale=1 / law.beta) for law in (UNINFORMATIVE, INFORMATIVE)]
    for w, law, other, odds in ((0, *laws, pi / (1 - pi)), (1, *laws[::-1], (1 - pi) / pi)):

        def overlap(lam, law=law, other=other, odds=odds):
            return law.pdf(lam) * np.log1p(odds * np.exp(other.logpdf(lam) - law.logpdf(lam)))

        # What remains there is the prior's overlap of the two laws, nothing of the posterior's.
        grid = np.linspace(0.5, 2.0, 200_001)
        rest = float(overlap(grid).sum() * (grid[1] - grid[0]))
        assert bound(0.3, w, prior_nats) - exact_kl(0.3, w, prior_nats) == pytest.approx(rest, abs=2e-5)


def test_bound_against_the_marginal_kl_of_z():
    assert bound(0, 1) == pytest.approx(1.83, abs=5e-3)
    student = StudentT(torch.tensor(7.3, dtype=torch.float64), 0.0, INFORMATIVE.scale)
    z = torch.linspace(-60, 60, 2_000_001, dtype=torch.float64)
    ratio = student.log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    marginal = float((student.log_prob(z).exp() * ratio).sum() * (z[1] - z[0]))
    assert marginal == pytest.approx(0.76, abs=5e-3)


@given(st.floats(-20, 20), st.floats(-40, 40), st.floats(1e-3, 5), st.sampled_from([0.1, 1.0, 3.0, 5.0]))
def test_bound_is_not_negative(mu, raw, scale, prior_nats):
    # 1e-12 is rounding.
    assert float(mixture(prior_nats, scale).rate(tensor(mu), tensor(raw)).detach()) >= -1e-12


@pytest.mark.parametrize(("prior_nats", "p"), [(1.0, 0.652), (3.0, 0.954)])
def test_rest_point_minimises_the_rate_over_p_and_scale(prior_nats, p):
    best = optimize.minimize(
        lambda v: float(mixture(prior_nats, math.exp(v[1])).rate(tensor(0.0), tensor(v[0])).detach()),
        x0=(0.0, math.log(0.3)),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-14, "maxiter": 4000},
    )
    found, scale = 1 / (1 + math.exp(-best.x[0])), math.exp(best.x[1])
    assert (found, scale) == (pytest.approx(p, abs=5e-4), pytest.approx(0.852, abs=5e-4))
    assert bound(0, 1, prior_nats, scale) - prior_nats == pytest.approx(0.088, abs=5e-4)
    family = family_of("normal-gamma-mixture", 1, mixture(prior_nats).hyperparameters())
    assert family.rest_p == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize(("prior_nats", "p"), [(1.0, 0.80), (3.0, 0.98)])
def test_rest_point_with_the_scale_held(prior_nats, p):
    objective = mixture(prior_nats)
    best = optimize.minimize_scalar(
        lambda raw: float(objective.rate(tensor(0.0), tensor(raw)).detach()), bounds=(-8, 8), method="bounded"
    )
    assert 1 / (1 + math.exp(-best.x)) == pytest.approx(p, abs=5e-3)


@given(WEIGHT)
def test_gradient_of_the_bound_agrees_with_finite_differences(w):
    objective = mixture()
    raw = tensor(logit(1 - w)).requires_grad_()
    mu = tensor(0.4).requires_grad_()
    objective.rate(mu, raw).sum().backward()
    value, step = float(raw.detach()), 1e-4
    costs = objective.rate(tensor(0.4, 0.4), tensor(value - step, value + step)).detach()
    assert float(raw.grad) == pytest.approx(float(costs[1] - costs[0]) / (2 * step), abs=1e-6)
    assert float(mu.grad) == pytest.approx(0.4, abs=1e-12)


# Every objective

EVERY = [
    {"model": "vae"},
    {"objective": "paper", "slope": 4.0},
    {"objective": "paper", "slope": 50.0},
    {"objective": "mixture"},
    {"objective": "adaptive"},
]


@pytest.mark.parametrize("options", EVERY)
@given(st.floats(-3, 3), st.floats(-4, 4), st.floats(-3, 1))
@settings(max_examples=20)
def test_gradients_of_the_rate_agree_with_finite_differences(options, mu, raw, log_scale):
    objective = make_objective(TrainingConfig(latent_dim=1, **options)).double()
    leaves = [tensor(mu).requires_grad_(), tensor(raw).requires_grad_()]
    if isinstance(objective, MixtureObjective):
        with torch.no_grad():
            objective.log_scale.fill_(log_scale)
        leaves.append(objective.log_scale)

    def rate(mu, raw, *_):
        return objective.rate(objective.mean(mu, raw), raw)

    assert torch.autograd.gradcheck(rate, leaves, eps=1e-6, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize("raw", [-3.0, 0.3, 1.5])
def test_posterior_variance_agrees_with_monte_carlo(options, raw):
    objective = make_objective(TrainingConfig(latent_dim=1, **options)).double()
    raws = torch.full((200_000, 1), raw, dtype=torch.float64)
    with torch.no_grad():
        squares = objective.sample(torch.zeros_like(raws), raws, torch.Generator().manual_seed(0)).z.square()
        exact = float(objective.posterior_variance(raws[:1]))
    error = float(squares.std()) / math.sqrt(len(squares))
    assert abs(float(squares.mean()) - exact) < 4.5 * error
    assert error < 0.02 * exact


# Numpy and torch together


@pytest.mark.parametrize(
    "options",
    [{"model": "vae"}, {"objective": "paper", "slope": 20.0}, {"objective": "paper"}, {"prior_nats": 2.0}],
)
def test_posteriors_and_objectives_agree_on_the_variance(options):
    objective = make_objective(TrainingConfig(latent_dim=4, **options)).double()
    if isinstance(objective, MixtureObjective):
        with torch.no_grad():
            objective.log_scale.copy_(torch.tensor([-7.0, -1.4, -0.2, 0.5]))
    family = family_of(objective.family, 4, objective.hyperparameters())
    assert family.second_head == objective.second_head
    raw = torch.linspace(-6, 3, 24, dtype=torch.float64).reshape(6, 4)
    posterior = family.posterior(np.zeros((6, 4)), objective.link(raw).numpy())
    expected = objective.posterior_variance(raw).detach().numpy()
    np.testing.assert_allclose(posterior.variance, expected, rtol=1e-10)
