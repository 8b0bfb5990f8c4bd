"""The relevance score against a decoder whose derivative is known, and the share that it explains."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ngvae_tools.contract import InputScale
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.relevance import relevance, relevant_dimensions


def model_of(**options):
    return VariationalAutoencoder(TrainingConfig(model="ard-vae", latent_dim=4, **options), (16, 16, 3), InputScale())


@pytest.fixture
def samples(rng=np.random.default_rng(0)):  # noqa: B008
    return torch.from_numpy(rng.integers(0, 256, (9, 16, 16, 3), dtype=np.uint8))


def test_a_linear_decoder_has_the_squared_norms_of_its_columns_times_the_prior_variance(samples):
    model = model_of()
    weights = torch.randn(16 * 16 * 3, 4, generator=torch.Generator().manual_seed(0))
    linear = nn.Linear(4, 16 * 16 * 3)
    linear.weight.data.copy_(weights)
    model.decoder = nn.Sequential(linear, nn.Unflatten(1, (3, 16, 16)))
    variance = torch.tensor([4.0, 1.0, 0.25, 1e-6])
    model.objective.prior_variance.copy_(variance)
    found = relevance(model, samples)
    np.testing.assert_allclose(found.score, (weights**2).sum(dim=0) * variance, rtol=1e-5)
    assert found.relevant == (0, 1, 2)


@pytest.mark.parametrize("decoder", ["paper", "broadcast"])
def test_the_derivative_agrees_with_finite_differences(samples, decoder):
    model = model_of(decoder=decoder)
    model.objective.prior_variance.copy_(torch.tensor([4.0, 1.0, 0.25, 0.01]))
    score = relevance(model, samples, seed=3).score
    model = model.double()
    with torch.no_grad():
        mu, raw = model.encoder(model.encoder.images(samples).double())
        noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(3)).double()
        z = model.objective.mean(mu, raw) + (0.5 * model.objective.link(raw)).exp() * noise
        for k in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[k] = 1e-5
            slope = (model.decode(z + step) - model.decode(z - step)) / 2e-5
            assert score[k] == pytest.approx(float((slope**2).flatten(1).sum(dim=1).mean()), rel=1e-3)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12), st.floats(0.01, 0.999))
def test_the_fewest_dimensions_that_explain_the_share(scores, share):
    score = torch.tensor(scores, dtype=torch.float64)
    relevant = relevant_dimensions(score, share)
    assert list(relevant) == sorted(set(relevant))
    explained, total = sum(sorted(scores[k] for k in relevant)), sum(sorted(scores))
    assert explained >= share * total * (1 - 1e-9)
    if relevant:
        assert explained - min(scores[k] for k in relevant) <= share * total * (1 + 1e-9)
        assert min(scores[k] for k in relevant) >= max(
            [s for k, s in enumerate(scores) if k not in relevant], default=0
        )
    else:
        assert total == 0
