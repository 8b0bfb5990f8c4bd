"""FONDUE on data whose number of dimensions is known."""

import math

import numpy as np
import pytest
import torch

from ngvae_tools.analysis.intrinsic import intrinsic_dimension
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.rivals.fondue import SHARE, fondue, search


def steps(largest):
    """Means and samples part by one dimension for each that is too many."""
    return lambda k: (float(min(k, largest)), float(k))


@pytest.mark.parametrize("largest", [1, 2, 3, 7, 8, 20, 63])
@pytest.mark.parametrize("start", [1, 5, 40])
def test_the_search_finds_the_largest_that_agrees(largest, start):
    asked = []

    def estimates(k):
        asked.append(k)
        return steps(largest)(k)

    count, tried = search(estimates, start=start, threshold=0.5, most=64)
    assert count == largest
    assert [t.latent_dim for t in tried] == asked == list(dict.fromkeys(asked))
    assert len(asked) <= 2 * math.ceil(math.log2(64))


def test_where_nothing_agrees_there_is_no_dimension_and_where_all_agree_the_most():
    assert search(lambda k: (0.0, float(k)), start=4, threshold=0.5, most=64)[0] == 0
    assert search(lambda k: (float(k), float(k)), start=4, threshold=0.5, most=64)[0] == 63


def test_the_linear_model_in_closed_form():
    """Probabilistic PCA (Tipping and Bishop 1999) is the optimum of a linear VAE, and its posterior is known."""
    draw = np.random.default_rng(0)
    dims, noise = 4, 0.1
    basis = np.linalg.qr(draw.normal(size=(12, dims)))[0]
    data = draw.uniform(-1, 1, size=(1500, dims)) @ basis.T * 2 + noise * draw.normal(size=(1500, 12))

    def estimates(k):
        values, vectors = np.linalg.eigh(np.cov(data.T))
        values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        # Axes of no more variance than the noise are passive: their mean is 0 and their posterior the prior.
        signal = np.where(values > 1.5 * noise**2, values, noise**2)
        mean = (data - data.mean(0)) @ vectors * np.sqrt(signal - noise**2) / signal
        sample = mean + np.sqrt(noise**2 / signal) * draw.normal(size=mean.shape)
        return tuple(intrinsic_dimension(points, tuple(range(k)))[0].maximum_likelihood for points in (mean, sample))

    of_data = intrinsic_dimension(data, tuple(range(12)))[0].maximum_likelihood
    count, tried = search(estimates, start=round(of_data), threshold=SHARE * dims)
    assert count == dims
    parted = {t.latent_dim: t.of_samples - t.of_means for t in tried}
    assert parted[dims] < 0.1
    assert parted[dims + 1] > 0.8


@pytest.mark.slow
def test_trained_on_images_of_three_factors(linear_images):
    config = TrainingConfig(model="vae", sigma=0.1, seed=0, device="cpu")
    found = fondue(linear_images(3, count=900), config, epochs=40)
    assert found.count == 3
    assert found.threshold == pytest.approx(SHARE * found.data_dimension)
    again = torch.random.get_rng_state()
    fondue(linear_images(1, count=200), config, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), again)
