"""The total correlation against quadrature, a Gaussian's closed form, and the published formula written out."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.objectives import GaussianObjective, TCVAEObjective, make_objective
from ngvae_tools.training.objectives.tcvae import total_correlation

MU = torch.tensor([[-2.0, -1.6], [1.8, 2.2], [0.4, 0.8], [3.0, -0.6]], dtype=torch.float64)
LOGVAR = torch.tensor([[-1.0, -0.5], [-0.7, -1.2], [0.1, -0.4], [-0.3, -0.8]], dtype=torch.float64)


def draw(mu, logvar, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return GaussianObjective().sample(mu, logvar, generator).z


def mixture_tc(mu, logvar):
    """TC of the mixture of these posteriors, by quadrature on a grid."""
    x = np.linspace(-8, 8, 1601)
    step = x[1] - x[0]
    each = stats.norm.pdf(x[:, None, None], mu.numpy(), np.exp(0.5 * logvar.numpy()))  # (grid, B, 2)
    joint = np.einsum("ib,jb->ij", each[..., 0], each[..., 1]) / len(mu)
    product = np.outer(each[..., 0].mean(axis=1), each[..., 1].mean(axis=1))
    return float((joint * np.log(joint / product)).sum() * step**2)


def test_it_is_unbiased_for_the_mixture_of_its_batch():
    draws = torch.stack([total_correlation(MU, LOGVAR, draw(MU, LOGVAR, seed)) for seed in range(1500)])
    error = float(draws.std() / math.sqrt(len(draws)))
    expected = mixture_tc(MU, LOGVAR)
    assert expected > 0.1
    assert error < 0.03 * expected
    assert abs(float(draws.mean()) - expected) < 4 * error


def test_many_images_give_the_tc_of_a_gaussian():
    # mu ~ N(0, S) and a common posterior variance v: z ~ N(0, S + v), whose TC is -log(1 - r^2) / 2.
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(1500, 2, generator=generator, dtype=torch.float64)
    mu = noise @ torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)).T
    logvar = torch.full_like(mu, math.log(0.25))
    expected = -0.5 * math.log(1 - (0.8 / 1.25) ** 2)
    found = torch.stack([total_correlation(mu, logvar, draw(mu, logvar, seed)) for seed in range(2)]).mean()
    # The log-ratio's standard deviation is about r: 0.64 / sqrt(1500) = 0.017, and the bias of order 1 / B.
    assert float(found) == pytest.approx(expected, abs=0.05)
    independent = torch.randn(1500, 2, generator=generator, dtype=torch.float64)
    assert abs(float(total_correlation(independent, logvar, draw(independent, logvar)))) < 0.03


def test_the_published_estimator_differs_by_a_constant_alone():
    # Eq. 3 with the dataset size N: log q(z_i) = log 1/(N M) sum_j q(z_i | x_j), and each dimension likewise.
    n, z = 1000, draw(MU, LOGVAR)
    m, k = z.shape
    total = 0.0
    for i in range(m):
        log_q = torch.stack([Normal(MU[j], (0.5 * LOGVAR[j]).exp()).log_prob(z[i]) for j in range(m)])
        joint = torch.logsumexp(log_q.sum(dim=1), 0) - math.log(n * m)
        marginals = sum(torch.logsumexp(log_q[:, d], 0) - math.log(n * m) for d in range(k))
        total += float(joint - marginals) / m
    assert total - float(total_correlation(MU, LOGVAR, z)) == pytest.approx((k - 1) * math.log(n), abs=1e-10)


def test_narrow_posteriors_reach_the_bound():
    mu = torch.arange(6.0, dtype=torch.float64)[:, None].expand(6, 3) * 10
    logvar = torch.full((6, 3), -8.0, dtype=torch.float64)
    assert float(total_correlation(mu, logvar, mu)) == pytest.approx(2 * math.log(6))


def test_beta_of_one_is_the_plain_model_and_more_weighs_the_tc():
    z = draw(MU, LOGVAR)
    assert float(TCVAEObjective(1.0).penalty(MU, LOGVAR, z)) == 0
    assert float(TCVAEObjective(6.0).penalty(MU, LOGVAR, z)) == pytest.approx(
        5 * float(total_correlation(MU, LOGVAR, z))
    )
    config = TrainingConfig(model="beta-tcvae")
    assert (make_objective(config).beta, config.rate_weight) == (6.0, 1.0)


def test_its_gradient_agrees_with_finite_differences():
    mu, logvar = MU.clone().requires_grad_(), LOGVAR.clone().requires_grad_()
    noise = (draw(MU, LOGVAR) - MU) / (0.5 * LOGVAR).exp()
    assert torch.autograd.gradcheck(lambda m, v: total_correlation(m, v, m + (0.5 * v).exp() * noise), (mu, logvar))
