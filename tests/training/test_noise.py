"""The learned noise level, against torch.distributions, closed forms and finite differences."""

import json
import math

import pytest
import torch
from torch.distributions import Normal

from ngvae_tools.contract import InputScale
from ngvae_tools.run import HISTORY_NAME
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.loop import Trainer, evaluate
from ngvae_tools.training.model import LEAST_SIGMA, SIGMA_FOLLOWS, VariationalAutoencoder

PIXELS = 32 * 32 * 3


def model_of(**options):
    return VariationalAutoencoder(TrainingConfig(**options), (32, 32, 3), InputScale())


@pytest.mark.parametrize("learn", [False, True])
def test_nll_with_its_constant_is_the_negative_log_likelihood(learn):
    model = model_of(sigma=0.1, learn_sigma=learn)
    residual = torch.randn(4, PIXELS, dtype=torch.float64) * 0.2
    if learn:
        model.follow_sigma((residual**2).sum(dim=1))
        assert float(model.sigma) > 0.1
    exact = -Normal(torch.zeros_like(residual), model.sigma).log_prob(residual).sum(dim=1)
    torch.testing.assert_close(model.nll((residual**2).sum(dim=1)) + model.nll_constant, exact)


def test_sigma_goes_to_the_root_of_the_error():
    model = model_of(sigma=0.3, learn_sigma=True)
    errors = torch.tensor([0.01, 0.03]) * PIXELS
    for steps in range(1, 200):
        model.follow_sigma(errors)
        # An exponential average from 0.3^2 towards the batch's mean.
        expected = 0.02 + (0.09 - 0.02) * (1 - SIGMA_FOLLOWS) ** steps
        assert float(model.sigma) ** 2 == pytest.approx(expected, rel=1e-6)
    assert float(model.sigma) == pytest.approx(math.sqrt(0.02), rel=1e-3)


def test_that_is_the_most_likely_sigma():
    residual = torch.randn(5, PIXELS, dtype=torch.float64)
    model = model_of(sigma=float((residual**2).mean().sqrt()), learn_sigma=True)
    errors = (residual**2).sum(dim=1)
    best = float(model.nll(errors).mean())
    for factor in (0.99, 1.01):
        other = model_of(sigma=float(model.sigma) * factor, learn_sigma=True)
        assert float(other.nll(errors).mean()) > best


def test_the_gradient_is_that_of_the_likelihood_with_sigma_at_its_optimum():
    # d/dr of D/2 log(MSE(r)) + D/2 by finite differences, against autograd with sigma held at the optimum.
    residual = (0.1 * torch.randn(3, PIXELS, dtype=torch.float64)).requires_grad_()
    model = model_of(sigma=float((residual.detach() ** 2).mean().sqrt()), learn_sigma=True)
    loss = model.nll((residual**2).sum(dim=1)).mean()
    (gradient,) = torch.autograd.grad(loss, residual)

    def profile(values):
        return PIXELS / 2 * (math.log(float((values**2).mean())) + 1)

    assert profile(residual.detach()) == pytest.approx(float(loss.detach()), rel=1e-12)
    for place in ((0, 0), (1, 17), (2, PIXELS - 1)):
        nudge = torch.zeros_like(residual)
        nudge[place] = 1e-4
        difference = (profile(residual.detach() + nudge) - profile(residual.detach() - nudge)) / 2e-4
        assert float(gradient[place]) == pytest.approx(difference, rel=1e-5)


def test_a_perfect_reconstruction_leaves_the_least_sigma():
    model = model_of(sigma=0.01, learn_sigma=True)
    for _ in range(500):
        model.follow_sigma(torch.zeros(4))
    assert float(model.sigma) == LEAST_SIGMA
    assert torch.isfinite(model.nll(torch.zeros(4))).all()


def test_only_training_moves_it(few):
    model = model_of(learn_sigma=True, latent_dim=3)
    config = TrainingConfig(latent_dim=3, learn_sigma=True)
    first = evaluate(model, few, config)
    assert float(model.sigma) == config.sigma
    assert evaluate(model, few, config) == first
    fixed = model_of(latent_dim=3).train()
    fixed(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert float(fixed.sigma) == config.sigma


def test_training_follows_its_error_and_says_so(few, run_folder):
    config = TrainingConfig(learn_sigma=True, latent_dim=4, epochs=12, batch_size=8, device="cpu")
    model = VariationalAutoencoder(config, (32, 32, 3), InputScale())
    history = Trainer(model, few, config, run_folder).fit()
    last = history[-1]
    assert last.sigma == float(model.sigma) < 0.245
    # Two dozen steps behind a falling error.
    assert last.sigma == pytest.approx(math.sqrt(last.train.mse), rel=0.3)
    lines = [json.loads(line) for line in (run_folder / HISTORY_NAME).read_text().splitlines()]
    assert [line["sigma"] for line in lines] == [epoch.sigma for epoch in history]
    # The loss is comparable between epochs of different sigma: the likelihood, its constant alone left out.
    assert last.train.loss == pytest.approx(
        last.train.distortion + last.train.rate - PIXELS / 2 * math.log(2 * math.pi), rel=1e-6
    )


def test_a_fixed_sigma_stays_as_it_was(few, run_folder):
    config = TrainingConfig(sigma=0.3, latent_dim=4, epochs=1, device="cpu")
    model = VariationalAutoencoder(config, (32, 32, 3), InputScale())
    (record,) = Trainer(model, few, config, run_folder).fit()
    assert record.sigma == 0.3
