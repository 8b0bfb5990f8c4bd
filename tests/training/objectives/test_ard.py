"""ARD-VAE in the exported units: the same bound as the paper's, and a prior variance that follows the latents."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from ngvae_tools.posteriors import family_of
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.objectives import ARDObjective, make_objective

V = torch.tensor([0.04, 1.0, 9.0], dtype=torch.float64)


@pytest.fixture
def objective():
    made = ARDObjective(3).double()
    made.prior_variance.copy_(V)
    return made


@pytest.fixture
def heads():
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))


def test_the_rate_is_the_kl_to_the_learned_prior(objective, heads):
    m, raw = heads
    expected = kl_divergence(Normal(m, (0.5 * raw).exp()), Normal(torch.zeros(3), V.sqrt()))
    mu = objective.mean(m, raw)
    torch.testing.assert_close(objective.rate(mu, raw), expected)
    # And what a reader of the exported encoder computes from its two heads.
    family = family_of("gaussian", 3, objective.hyperparameters())
    exported = family.posterior(mu.numpy(), objective.link(raw).numpy()).rate
    np.testing.assert_allclose(exported, expected.numpy(), rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(objective.posterior_variance(raw), objective.link(raw).exp())


def test_the_decoder_reads_the_encoder_s_own_units(objective, heads):
    m, raw = heads
    z = objective.sample(objective.mean(m, raw), raw, torch.Generator().manual_seed(1)).z
    noise = torch.randn(m.shape, generator=torch.Generator().manual_seed(1), dtype=m.dtype)
    torch.testing.assert_close(z * objective.decoder_scale(), m + (0.5 * raw).exp() * noise)


def test_the_prior_follows_the_latents_once_an_epoch(objective):
    generator = torch.Generator().manual_seed(2)
    own = torch.randn(40, 250, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.1, 1.0, 5.0])
    for batch in own:
        z = batch / V.sqrt()
        objective.absorb(objective.observe(z, z, z))
        assert torch.equal(objective.prior_variance, V)
    assert objective.settle(torch.zeros(3), plateau=False, steps=4) is False
    # b / a of the posterior Gamma(n / 2, sum z^2 / 2) of the precision.
    a, b = own[..., 0].numel() / 2, (own**2).sum(dim=(0, 1)) / 2
    torch.testing.assert_close(objective.prior_variance, b / a)
    assert int(objective.steps) == 0
    assert objective.total.abs().max() == 0
    kept = objective.prior_variance.clone()
    objective.settle(torch.zeros(3), plateau=True, steps=4)
    assert torch.equal(objective.prior_variance, kept)


def test_the_gaussian_stands_in_for_the_student_t_of_the_paper():
    # With a0 = b0 = 0 the marginal prior is a Student-t with n degrees of freedom and scale sqrt(b / a).
    n = 10_000
    z = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(stats.t.logpdf(z, n), stats.norm.logpdf(z), atol=0.02)


def test_it_starts_as_the_plain_model():
    objective = make_objective(TrainingConfig(model="ard-vae", latent_dim=2))
    assert isinstance(objective, ARDObjective)
    mu, raw = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, -1.0]])
    assert torch.equal(objective.mean(mu, raw), mu)
    assert torch.equal(objective.link(raw), raw)
    assert objective.rate(mu, raw).sum() == pytest.approx(
        0.5 * (5 + math.exp(0.5) - 0.5 - 1 + math.exp(-1) + 1 - 1), rel=1e-6
    )


def test_its_state_is_in_the_checkpoint(objective):
    objective.absorb(torch.ones(3, dtype=torch.float64))
    other = ARDObjective(3).double()
    other.load_state_dict(objective.state_dict())
    other.settle(torch.zeros(3), plateau=False, steps=4)
    assert torch.equal(other.prior_variance, torch.ones(3, dtype=torch.float64))
    assert not list(objective.parameters())
