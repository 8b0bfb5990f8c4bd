"""What a batch costs, against torch.distributions and finite differences."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.networks import scaled

MODELS = [
    {},
    {"objective": "paper"},
    {"objective": "paper", "gradient": "g-rep"},
    {"model": "vae"},
    {"model": "beta-vae"},
]


def model_of(shape=(32, 32, 3), scale=None, **options):
    return VariationalAutoencoder(TrainingConfig(**options), shape, scale or InputScale())


def generator():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("options", MODELS)
def test_nll_with_its_constant_is_the_negative_log_likelihood(sprites, options):
    model = model_of(sigma=0.1, **options)
    samples = torch.from_numpy(sprites[:6])
    with torch.no_grad():
        parts = model(samples, generator())
        images = model.encoder.images(samples)
        mu, raw = model.encoder(images)
        means = model.decoder(model.objective.sample(mu, raw, generator()).z)
    exact = -Normal(means.double(), 0.1).log_prob(images.double()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(parts.nll.double() + model.nll_constant, exact, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(
        parts.squared_error.double(), ((images - means).double() ** 2).sum((1, 2, 3)), rtol=1e-5, atol=0
    )


BETAS = [{"beta": 1.0 if options.get("model") == "vae" else 7.5, **options} for options in MODELS]


@pytest.mark.parametrize("options", BETAS)
def test_loss_is_nll_and_beta_times_rate(sprites, options):
    model = model_of(**options)
    parts = model(torch.from_numpy(sprites[:6]), generator())
    rate = model.objective.rate(*model.encoder(model.encoder.images(torch.from_numpy(sprites[:6]))))
    expected = np.mean((parts.nll + options["beta"] * rate.sum(dim=1)).tolist())
    assert float(model.loss(parts).detach()) == pytest.approx(expected, rel=1e-6)
    assert parts.rate.shape == parts.second.shape == parts.posterior_variance.shape == (6, 15)


def test_only_a_score_term_sets_the_surrogate_apart_from_the_loss(sprites):
    samples = torch.from_numpy(sprites[:6])
    for options in MODELS:
        model = model_of(**options)
        parts = model(samples, generator())
        same = torch.equal(model.surrogate(parts), model.loss(parts))
        assert same == (options.get("gradient") != "g-rep")


def in_float64(model):
    model.double()
    scale = model.scale
    model.encoder.images = lambda samples: scaled(samples.permute(0, 3, 1, 2).double(), scale)
    return model


def check_gradients(model, samples, names):
    def loss():
        return model.loss(model(samples, generator()))

    loss().backward()
    rng = np.random.default_rng(0)
    step = 1e-6
    for name, weights in model.named_parameters():
        if not name.startswith(names):
            continue
        for index in (np.unravel_index(flat, weights.shape) for flat in rng.choice(weights.numel(), 3)):
            value = float(weights.data[index])
            values = []
            for shifted in (value + step, value - step):
                weights.data[index] = shifted
                with torch.no_grad():
                    values.append(float(loss()))
            weights.data[index] = value
            slope = (values[0] - values[1]) / (2 * step)
            # Rounding: 1e-16 of a loss of some hundreds, over 2e-6.
            assert float(weights.grad[index]) == pytest.approx(slope, rel=2e-6, abs=1e-6), name


def test_gradient_of_a_gaussian_model_agrees_with_finite_differences(sprites):
    model = in_float64(model_of((16, 16, 1), model="beta-vae", latent_dim=2, beta=3.0))
    check_gradients(model, torch.from_numpy(sprites[:3, 8:24, 8:24, :1]), ("encoder", "decoder"))


@pytest.mark.parametrize("options", [{}, {"objective": "paper"}])
def test_gradient_of_the_decoder_agrees_with_finite_differences(sprites, options):
    model = in_float64(model_of((16, 16, 1), latent_dim=2, **options))
    check_gradients(model, torch.from_numpy(sprites[:3, 8:24, 8:24, :1]), ("decoder",))


@pytest.mark.parametrize("options", MODELS)
def test_every_weight_gets_a_gradient(sprites, options):
    model = model_of(**options)
    model.surrogate(model(torch.from_numpy(sprites[:16]), generator())).backward()
    for name, weights in model.named_parameters():
        assert weights.grad is not None, name
        assert torch.isfinite(weights.grad).all(), name
        assert weights.grad.abs().max() > 0, name


def test_the_seed_decides_the_weights_and_the_caller_keeps_its_state():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second, other = model_of(seed=1), model_of(seed=1), model_of(seed=2)
    assert torch.equal(torch.rand(4), expected)
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["encoder.heads.weight"], states[2]["encoder.heads.weight"])


def test_no_other_device_s_generator_is_seeded(monkeypatch):
    def refused(seed):
        pytest.fail("torch.manual_seed also seeds every CUDA generator")

    monkeypatch.setattr(torch, "manual_seed", refused)
    model_of()
