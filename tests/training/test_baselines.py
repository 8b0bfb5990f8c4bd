"""Each baseline and network option trains in the loop: the same seed the same weights, what it follows followed."""

import pytest
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.loop import Trainer
from ngvae_tools.training.model import VariationalAutoencoder

OPTIONS = [
    {"model": "beta-tcvae"},
    {"model": "factor-vae"},
    {"model": "ard-vae"},
    {"model": "vae", "decoder": "broadcast", "coordconv": True},
]


def trained(images, folder, seed=0, epochs=2, **options):
    config = TrainingConfig(latent_dim=3, epochs=epochs, batch_size=16, seed=seed, device="cpu", data_seed=0, **options)
    model = VariationalAutoencoder(config, (32, 32, 3), InputScale())
    folder.mkdir()
    return model, Trainer(model, images, config, folder).fit()


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())))
def test_the_same_seed_gives_the_same_weights(few, tmp_path, options):
    (first, history), (again, _), (other, _) = (
        trained(few, tmp_path / name, seed, **options) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    state, same, different = first.state_dict(), again.state_dict(), other.state_dict()
    assert all(torch.equal(state[name], same[name]) for name in state)
    assert not all(torch.equal(state[name], different[name]) for name in state)
    assert history[1].train.loss < history[0].train.loss


def test_every_weight_of_the_networks_is_trained(few, tmp_path):
    options = {"model": "vae", "coordconv": True}
    start = VariationalAutoencoder(TrainingConfig(latent_dim=3, **options), (32, 32, 3), InputScale()).state_dict()
    model, _ = trained(few, tmp_path / "run", epochs=1, **options)
    still = [name for name, weights in model.named_parameters() if torch.equal(weights.detach(), start[name])]
    assert still == []


def test_the_discriminator_is_trained(few, tmp_path):
    options = {"model": "factor-vae"}
    start = VariationalAutoencoder(TrainingConfig(latent_dim=3, **options), (32, 32, 3), InputScale()).objective
    model, history = trained(few, tmp_path / "run", epochs=1, **options)
    moved = [
        not torch.equal(after.detach(), before.detach())
        for before, after in zip(start.parameters(), model.objective.parameters(), strict=True)
    ]
    assert all(moved)
    assert history[0].train.penalty != 0


def test_the_prior_variance_of_an_ard_vae_moves_after_each_epoch(few, tmp_path):
    model, _ = trained(few, tmp_path / "run", epochs=1, model="ard-vae")
    assert (model.objective.prior_variance != 1).all()
    assert int(model.objective.steps) == 0
