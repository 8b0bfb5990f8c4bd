"""FONDUE: the largest number of latent dimensions without a passive one (Bonheme and Grzes 2022).

"FONDUE: an algorithm to find the optimal dimensionality of the latent representations of variational
autoencoders": a passive dimension of a VAE is constant in the mean representation and noise in the sampled one, so
that the intrinsic dimension of the samples leaves that of the means behind as soon as there is one. Models of
different K are trained for a few epochs each, and the search doubles and halves K around the point where the two
part by more than a share of the data's own intrinsic dimension.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ngvae_tools.analysis.intrinsic import intrinsic_dimension
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.devices import training_device
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.rivals.fitting import fit, some_images

SHARE = 0.2
"""Of the data's intrinsic dimension: by so much the samples may exceed the means."""

MOST = 128
"""Latent dimensions that are tried at most."""

_DATA_POINTS = 2000
"""Images behind the data's intrinsic dimension: distances between whole images are slow."""

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Tried:
    """Intrinsic dimensions by maximum likelihood at one K: of the posterior means, and of one sample each."""

    latent_dim: int
    of_means: float
    of_samples: float


@dataclass(frozen=True, slots=True)
class FondueResult:
    """What the search found.

    Attributes:
        count: The number of latent dimensions to use.
        data_dimension: Intrinsic dimension of the images.
        threshold: By how much the samples' dimension may exceed the means'.
        tried: Every K that was trained, in order.
    """

    count: int
    data_dimension: float
    threshold: float
    tried: tuple[Tried, ...]


def fondue(images: TrainingImages, config: TrainingConfig, *, epochs: int) -> FondueResult:
    """Run FONDUE with the plain VAE's networks, objective and noise level; the configuration's K plays no part.

    The paper's estimator of the intrinsic dimension is Levina and Bickel's maximum likelihood with 20 neighbours; ours
    averages it over 10 to 20.

    Args:
        images: What to train on.
        config: Of a Gaussian model.
        epochs: Of each K that is tried.
    """
    pixels = some_images(images, config.seed, _DATA_POINTS).flatten(1).double().numpy()
    of_data = _dimension(torch.from_numpy(pixels))
    threshold = SHARE * of_data
    count, tried = search(
        lambda latent_dim: _estimates(images, dataclasses.replace(config, latent_dim=latent_dim), epochs),
        start=max(round(of_data), 1),
        threshold=threshold,
    )
    return FondueResult(count, of_data, threshold, tried)


def search(
    estimates: Callable[[int], tuple[float, float]], *, start: int, threshold: float, most: int = MOST
) -> tuple[int, tuple[Tried, ...]]:
    """The search of FONDUE (its Algorithm 1): double while means and samples agree, else halve the gap.

    Args:
        estimates: Intrinsic dimensions of means and of samples at a K; asked once for each K.
        start: First K.
        threshold: By how much the samples' may exceed the means'.
        most: Largest K; it is taken for too many.

    Returns:
        The largest K found to agree, and all that were tried, in order.
    """
    seen: dict[int, Tried] = {}
    low, high, latent_dim = 0, most, min(start, most - 1)
    while latent_dim != low:
        if latent_dim < high and latent_dim not in seen:
            seen[latent_dim] = Tried(latent_dim, *estimates(latent_dim))
        agree = latent_dim < high and seen[latent_dim].of_samples - seen[latent_dim].of_means <= threshold
        if agree:
            low = latent_dim
            latent_dim = min(2 * latent_dim, high)
        else:
            high = latent_dim
            latent_dim = (low + high) // 2
    return low, tuple(seen.values())


def _estimates(images: TrainingImages, config: TrainingConfig, epochs: int) -> tuple[float, float]:
    device = training_device(config.device)
    model = VariationalAutoencoder(config, images.image_shape, images.scale).to(device)
    generator = torch.Generator(device).manual_seed(config.seed)
    fit(
        model.parameters(),
        lambda samples: model.surrogate(model(samples, generator)),
        images,
        config,
        epochs=epochs,
        device=device,
    )
    model.eval()
    means, draws = [], []
    with torch.no_grad():
        for samples in torch.split(some_images(images, config.seed), _BATCH):
            mu, raw = model.encoder(model.encoder.images(samples.to(device)))
            mu = model.objective.mean(mu, raw)
            means.append(mu.cpu())
            draws.append(model.objective.sample(mu, raw, generator).z.cpu())
    return _dimension(torch.cat(means)), _dimension(torch.cat(draws))


def _dimension(points: torch.Tensor) -> float:
    """Intrinsic dimension by maximum likelihood; 0 where the points coincide."""
    found, _ = intrinsic_dimension(points.double().numpy(), tuple(range(points.shape[1])))
    return 0.0 if found is None or found.maximum_likelihood is None else found.maximum_likelihood
