"""Least Volume on data whose number of dimensions is known."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.rivals.least_volume import LeastVolume, least_volume, pruned, volume
from ngvae_tools.training.rivals.lipschitz import make_lipschitz


def test_the_volume_is_a_geometric_mean():
    codes = torch.tensor([[0.0, 0.0, 5.0], [2.0, 8.0, 5.0]], dtype=torch.float64)
    spreads = np.array([np.sqrt(2), np.sqrt(32), 0])
    assert float(volume(codes, 0.5)) == pytest.approx(np.prod(spreads + 0.5) ** (1 / 3))


def test_a_last_batch_of_one_image_has_no_volume(linear_images):
    config = TrainingConfig(model="vae", latent_dim=2, device="cpu")
    images = linear_images(2, count=20)
    config = dataclasses.replace(config, batch_size=images.n_train - 1)
    assert np.isfinite(least_volume(images, config, epochs=1).errors).all()
    model = LeastVolume(nn.Identity(), _Nothing())
    assert float(model.loss(torch.ones(1, 3))) == 1.0


def test_linear_networks_keep_the_components_that_vary():
    """Their Proposition 1: a linear decoder keeps the principal subspace, and all else collapses."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(10, 10))[0]
    spreads = torch.tensor([3.0, 2.0, 1.0] + [0.0] * 7)
    data = torch.randn(2000, 10) * spreads @ basis
    decoder = make_lipschitz(nn.Linear(6, 10), torch.zeros(1, 6))
    model = LeastVolume(nn.Linear(10, 6), decoder, weight=0.03)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(1500):
        if step == 1200:
            optimiser.param_groups[0]["lr"] = 1e-3
        optimiser.zero_grad()
        model.loss(data[torch.randint(2000, (100,))]).backward()
        optimiser.step()
    with torch.no_grad():
        found = pruned(model.eval(), data)
    assert found.count == 3
    spread = np.sort(found.standard_deviation)
    assert spread[:3].max() < 0.02
    # The penalty shrinks what is left a little; the decoder, which stretches nothing, forbids more.
    # The sample's own variance: its random numbers are others on another processor.
    assert (spread**2).sum() == pytest.approx(float(data.var(dim=0).sum()), rel=0.05)


def test_pruning_stops_before_the_share_is_lost():
    scale = torch.tensor([1.0, 10.0, 0.05, 3.0])
    codes = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * scale
    model = LeastVolume(nn.Identity(), nn.Identity())
    found = pruned(model, codes)
    # Of the variance 110.0025, the two narrowest hold 0.9 %, the three narrowest 9 %.
    assert found.count == 2
    np.testing.assert_allclose(found.errors, np.array([0, 0.0025, 1.0025, 10.0025, 110.0025]) / 4, rtol=0.07)
    assert pruned(model, codes, explained=1e-6).count == 4
    assert pruned(model, codes, explained=1.0).count == 0


def test_a_model_that_reconstructs_nothing_needs_no_dimension():
    codes = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    assert pruned(LeastVolume(nn.Identity(), _Nothing()), codes).count == 0


class _Nothing(nn.Module):
    def forward(self, codes):
        return torch.zeros_like(codes)


@pytest.mark.slow
def test_trained_on_images_of_three_factors(linear_images):
    config = TrainingConfig(model="vae", latent_dim=8, seed=0, device="cpu")
    found = least_volume(linear_images(3, count=1000), config, epochs=40)
    assert len(found.standard_deviation) == 8
    assert found.count == 3


def test_divergence_is_said(linear_images):
    config = TrainingConfig(model="vae", latent_dim=8, learning_rate=1e30, device="cpu")
    with pytest.raises(TrainingDivergedError, match="diverged in epoch"):
        least_volume(linear_images(2, count=200), config, epochs=3)
