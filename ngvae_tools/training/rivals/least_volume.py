"""Least Volume: an autoencoder whose codes fill as little volume as they can (Chen and Fuge, ICLR 2024).

"Compressing Latent Space via Least Volume": the mean squared error plus a weight times the geometric mean of the codes'
standard deviations, each raised by eta, with a 1-Lipschitz decoder, without which the codes would only shrink.
Dimensions that are not needed collapse; with linear networks the principal components are left. The count follows from
pruning the narrowest dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.devices import training_device
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.networks import Encoder
from ngvae_tools.training.rivals.fitting import fit, some_images
from ngvae_tools.training.rivals.lipschitz import make_lipschitz

WEIGHT = 1e-3
"""Of the volume against the mean squared error of a pixel, as in the authors' experiments on images."""

ETA = 1.0
"""Added to every standard deviation, as in all of their experiments."""

EXPLAINED = 0.01
"""Share of the error of pruning everything that pruning may cost."""

_BATCH = 256


@dataclass(frozen=True, slots=True)
class LeastVolumeResult:
    """What a training found.

    Attributes:
        count: Dimensions that are left.
        standard_deviation: Of the codes of each dimension, shape (K,).
        errors: Mean squared error of a pixel with the narrowest n dimensions held at their mean, n = 0 to K.
    """

    count: int
    standard_deviation: tuple[float, ...]
    errors: tuple[float, ...]


class LeastVolume(nn.Module):
    """An autoencoder and its loss.

    Args:
        encoder: Images (B, ...) to codes (B, K).
        decoder: Codes (B, K) to images (B, ...), 1-Lipschitz.
        weight: Of the volume.
        eta: Added to every standard deviation.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, weight: float = WEIGHT, eta: float = ETA) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.weight = weight
        self.eta = eta

    def loss(self, images: Tensor) -> Tensor:
        """Mean squared error of a pixel + weight times the volume (their Eq. 3), shape ().

        A single image, such as the last batch may hold, has no volume: the error alone.
        """
        codes = self.encoder(images)
        error = nn.functional.mse_loss(self.decoder(codes), images)
        return error if len(codes) < 2 else error + self.weight * volume(codes, self.eta)


def least_volume(images: TrainingImages, config: TrainingConfig, *, epochs: int) -> LeastVolumeResult:
    """Train on the encoder's means and the decoder of the paper's networks, then prune.

    Args:
        images: What to train on.
        config: Its K, batch size, learning rate, seed and device.
        epochs: How many.
    """
    device = training_device(config.device)
    networks = VariationalAutoencoder(config, images.image_shape, images.scale)
    network = networks.encoder
    decoder = make_lipschitz(networks.decoder, torch.zeros(1, config.latent_dim))
    model = LeastVolume(_Means(network), decoder).to(device)
    fit(
        model.parameters(),
        lambda samples: model.loss(network.images(samples)),
        images,
        config,
        epochs=epochs,
        device=device,
    )
    with torch.no_grad():
        return pruned(model.eval(), network.images(some_images(images, config.seed).to(device)))


def volume(codes: Tensor, eta: float = ETA) -> Tensor:
    """Geometric mean over dimensions of the standard deviation over the batch plus eta, shape ()."""
    return (codes.std(dim=0) + eta).log().mean().exp()


def pruned(model: LeastVolume, images: Tensor, *, explained: float = EXPLAINED) -> LeastVolumeResult:
    """Hold the narrowest dimensions at their mean, one after another, as long as that costs little.

    The cost is the rise of the error over that of the whole model, as a share of the rise when all dimensions
    are held: the explained reconstruction of the dimensions pruned so far, taken together.

    Args:
        model: A trained model.
        images: (n, ...).
        explained: The share that may be lost.
    """
    codes = torch.cat([model.encoder(part) for part in torch.split(images, _BATCH)])
    spread, mean = codes.std(dim=0), codes.mean(dim=0)
    order = spread.argsort()
    errors = []
    for n in range(len(order) + 1):
        kept = codes.clone()
        kept[:, order[:n]] = mean[order[:n]]
        parts = zip(torch.split(kept, _BATCH), torch.split(images, _BATCH), strict=True)
        total = sum(float(((model.decoder(code) - part) ** 2).double().sum()) for code, part in parts)
        errors.append(total / images.numel())
    allowed = errors[0] + explained * max(errors[-1] - errors[0], 0.0)
    held = next((n - 1 for n, error in enumerate(errors) if n and error > allowed), len(order))
    count = len(order) - held
    return LeastVolumeResult(count, tuple(spread.tolist()), tuple(errors))


class _Means(nn.Module):
    """The first head of an encoder."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        mu: Tensor = self.encoder(images)[0]
        return mu
