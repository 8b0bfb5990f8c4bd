"""The discriminator finds a known density ratio, is trained by its own loss alone, and permutes what it should."""

import math

import pytest
import torch
from torch import nn

from ngvae_tools.training.config import GAMMA, TrainingConfig
from ngvae_tools.training.objectives import FactorObjective, make_objective
from ngvae_tools.training.objectives.factor import permute_dimensions

R = 0.8


def correlated(count, seed):
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack((noise[:, 0], R * noise[:, 0] + math.sqrt(1 - R**2) * noise[:, 1]), dim=1)


def objective_of(seed=0, latent_dim=2, gamma=1.0):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return FactorObjective(latent_dim, gamma)


def test_the_discriminator_is_that_of_the_paper():
    layers = objective_of(latent_dim=15).discriminator
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (15, 1000),
        *[(1000, 1000)] * 5,
        (1000, 2),
    ]
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert isinstance(layers[-1], nn.Linear)


def test_the_penalty_becomes_gamma_times_the_tc_of_a_gaussian():
    # A small discriminator learns the same ratio in seconds: log q(z) / (q(z_1) q(z_2)), of mean -log(1 - r^2) / 2.
    objective = objective_of(gamma=3.0)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        objective.discriminator = nn.Sequential(
            nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 2)
        )
    optimiser = torch.optim.Adam(objective.auxiliary_parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(600):
        if step == 300:
            # Else the last steps' noise decides, and with it the processor's random numbers.
            optimiser.param_groups[0]["lr"] = 3e-4
        optimiser.zero_grad()
        objective.auxiliary_loss(correlated(1024, step), generator).backward()
        optimiser.step()
    z = correlated(100_000, 10_000)
    with torch.no_grad():
        found = float(objective.penalty(z, z, z))
    assert found / 3 == pytest.approx(-0.5 * math.log(1 - R**2), rel=0.1)


def test_the_main_loss_reaches_z_and_leaves_the_discriminator_alone():
    objective = objective_of()
    z = correlated(8, 0).requires_grad_()
    objective.penalty(z, z, z).backward()
    assert z.grad is not None
    assert z.grad.abs().sum() > 0
    assert all(weights.grad is None for weights in objective.auxiliary_parameters())


def test_the_auxiliary_loss_reaches_every_weight_of_the_discriminator():
    objective = objective_of()
    objective.auxiliary_loss(correlated(8, 0)).backward()
    assert all(weights.grad is not None for weights in objective.parameters())
    assert len(objective.auxiliary_parameters()) == len(list(objective.parameters()))


def test_labels_go_with_the_halves():
    # A discriminator that is sure of "joint" has no loss on the first half, and a large one on the second.
    objective = objective_of()
    objective.discriminator = nn.Linear(2, 2)
    with torch.no_grad():
        objective.discriminator.weight.zero_()
        objective.discriminator.bias.copy_(torch.tensor([20.0, -20.0]))
    assert float(objective.auxiliary_loss(correlated(10, 0)).detach()) == pytest.approx(20.0)


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_a_batch_of_any_size(count):
    loss = objective_of().auxiliary_loss(correlated(count, 0), torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=0.05)


def test_each_dimension_is_permuted_on_its_own_and_as_the_generator_says():
    z = torch.arange(200.0).reshape(100, 2)
    permuted, again = (permute_dimensions(z, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(permuted, again)
    assert torch.equal(permuted.sort(dim=0).values, z)
    order = permuted.div(2, rounding_mode="floor")
    assert not torch.equal(order[:, 0], order[:, 1])


def test_options():
    objective = make_objective(TrainingConfig(model="factor-vae", latent_dim=3))
    assert isinstance(objective, FactorObjective)
    assert objective.gamma == GAMMA
    assert make_objective(TrainingConfig(model="factor-vae", latent_dim=3, gamma=10.0)).gamma == 10.0
