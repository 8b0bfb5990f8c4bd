"""What the loop asks of an objective: penalty, second optimiser, followed statistics, the sign to settle."""

import pytest
import torch
from torch import nn

from ngvae_tools.errors import DeviceError
from ngvae_tools.training import precision
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.loop import Trainer, evaluate
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.objectives import GaussianObjective

QUICK = {"model": "vae", "epochs": 2, "latent_dim": 3, "device": "cpu", "batch_size": 16}


class Hooked(GaussianObjective):
    """Uses every hook, and notes how it is called."""

    def __init__(self):
        super().__init__()
        self.judge = nn.Linear(3, 1)
        nn.init.constant_(self.judge.weight, 0.1)
        nn.init.constant_(self.judge.bias, 0.0)
        self.register_buffer("followed", torch.zeros(3))
        self.observed = 0
        self.settled = []

    def penalty(self, mu, raw, z):
        return 5 + 0.1 * self.judge(z).square().mean()

    def auxiliary_parameters(self):
        return list(self.judge.parameters())

    def auxiliary_loss(self, z, generator=None):
        assert not z.requires_grad
        return (self.judge(z) - 9 - torch.rand(1, generator=generator)).square().mean()

    def observe(self, mu, raw, z):
        assert not torch.is_grad_enabled()
        assert self.training
        self.observed += 1
        return z.mean(dim=0)

    def absorb(self, observed):
        self.followed += observed

    def settle(self, second, *, plateau, steps, watching):
        self.settled.append((tuple(second.shape), plateau, steps))
        return False


@pytest.fixture
def hooked(few, run_folder):
    config = TrainingConfig(**QUICK)
    model = VariationalAutoencoder(config, few.image_shape, few.scale)
    model.objective = Hooked()
    return Trainer(model, few, config, run_folder)


def test_every_hook_is_called(few, hooked):
    history = hooked.fit()
    objective = hooked.model.objective
    assert objective.observed == 8  # steps, and no batch of the held-out images
    assert objective.settled == [((3,), False, 4), ((3,), True, 4)]  # 60 % of two epochs is the second
    assert objective.followed.abs().sum() > 0
    for figures in (history[-1].train, history[-1].held_out):
        assert figures.penalty >= 5
        without = figures.distortion - hooked.model.nll_constant + figures.rate
        assert figures.loss == pytest.approx(without + figures.penalty, rel=1e-9)


def test_the_second_optimiser_alone_moves_the_auxiliary_parameters(few, hooked, monkeypatch):
    objective = hooked.model.objective
    assert not {id(w) for w in hooked.weights} & {id(w) for w in objective.parameters()}
    assert {id(w) for w in hooked.weights} | {id(w) for w in objective.parameters()} == {
        id(w) for w in hooked.model.parameters()
    }
    group = hooked.second_optimiser.param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-4, (0.5, 0.9))
    batch = next(few.epoch(1, 16))
    hooked.model.train()
    before = objective.judge.weight.detach().clone()
    parts = hooked._train_step(batch)
    # Adam's first step is the learning rate times the sign of the auxiliary loss's gradient, the penalty's left out.
    reached = objective.judge.weight.detach().clone()
    torch.testing.assert_close((reached - before).abs(), torch.full_like(before, 1e-4), rtol=1e-3, atol=0)
    with torch.no_grad():
        objective.judge.weight.copy_(before)
    objective.judge.zero_grad()
    objective.auxiliary_loss(parts.z.detach(), torch.Generator().manual_seed(1)).backward()
    assert torch.equal((before - reached).sign(), objective.judge.weight.grad.sign())


def test_the_penalty_moves_the_networks(few, hooked):
    batch = torch.from_numpy(next(few.epoch(1, 16)))
    model = hooked.model

    def gradient(weight):
        model.objective.penalty = lambda mu, raw, z: weight * z.square().mean()
        parts = model(batch, torch.Generator().manual_seed(0))
        model.zero_grad()
        model.surrogate(parts).backward()
        return model.encoder.heads.bias.grad.clone(), model.loss(parts).item()

    (none, low), (some, high) = gradient(0.0), gradient(10.0)
    assert high > low
    assert not torch.equal(none, some)


def test_fused_adam_is_adam(few, run_folder):
    config = TrainingConfig(**QUICK)
    trained = []
    for fused in (True, False):
        model = VariationalAutoencoder(config, few.image_shape, few.scale)
        trainer = Trainer(model, few, config, run_folder)
        if not fused:
            trainer.optimiser = torch.optim.Adam(trainer.weights, lr=config.learning_rate)
        for batch in few.epoch(1, 16):
            trainer._train_step(batch)
        trained.append(model)
    for mine, plain in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_bf16_computes_the_networks_alone_and_stays_close(few):
    parts = []
    for name in ("float32", "bf16"):
        config = TrainingConfig(**QUICK, precision=name)
        model = VariationalAutoencoder(config, few.image_shape, few.scale)
        parts.append(model(torch.from_numpy(next(few.epoch(1, 16))), torch.Generator().manual_seed(0)))
        assert all(weights.dtype == torch.float32 for weights in model.parameters())
    exact, rough = parts
    for name in ("nll", "rate", "second", "mu", "z", "squared_error"):
        assert getattr(rough, name).dtype == torch.float32
    assert not torch.equal(exact.nll, rough.nll)
    torch.testing.assert_close(exact.nll, rough.nll, rtol=0.02, atol=0)


def test_a_device_without_bf16_is_refused(few, run_folder, monkeypatch):
    config = TrainingConfig(**QUICK, precision="bf16")
    model = VariationalAutoencoder(config, few.image_shape, few.scale)
    assert evaluate(model, few, config).mse > 0
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda **_: False)
    with pytest.raises(DeviceError, match=r"bf16.*leave --precision out"):
        precision.check_precision("bf16", torch.device("cuda"))
    precision.check_precision("float32", torch.device("cuda"))
