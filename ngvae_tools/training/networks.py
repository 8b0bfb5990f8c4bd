"""The paper's networks: four 3x3 convolutions of stride 2 with 32, 32, 64, 64 filters, and their mirror.

By option with coordinate channels (`CoordConv`), and with the spatial broadcast decoder in place of the mirror.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ngvae_tools.contract import InputScale
from ngvae_tools.errors import DatasetError
from ngvae_tools.training.broadcast import BroadcastDecoder
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.coordinates import CoordConv, plain_convolution

FILTERS = (32, 32, 64, 64)
STRIDE = 2 ** len(FILTERS)


class Encoder(nn.Module):
    """Samples to the two raw heads, each (B, K).

    Args:
        image_shape: (H, W, C) of one sample; H and W are multiples of 16.
        latent_dim: Number K of latent dimensions.
        scale: How samples are brought to [0, 1].
        coordconv: Whether every convolution has coordinate channels.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, scale: InputScale, *, coordconv: bool = False
    ) -> None:
        super().__init__()
        height, width, channels = check_image_shape(image_shape)
        self.scale: InputScale | None = scale
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(itertools.pairwise((channels, *FILTERS))):
            size = (height >> depth, width >> depth)
            layers += [_convolution(nn.Conv2d, inputs, outputs, size, coordconv=coordconv), nn.LeakyReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        self.heads = nn.Linear(FILTERS[-1] * (height // STRIDE) * (width // STRIDE), 2 * latent_dim)

    def images(self, samples: Tensor) -> Tensor:
        """Samples (B, H, W, C) as the network's images (B, C, H, W), float32 in [0, 1]."""
        # The axes move while the samples are still bytes: measured faster than after the cast.
        images = samples.permute(0, 3, 1, 2).float()
        return images if self.scale is None else scaled(images, self.scale, clip=leaves_range(samples, self.scale))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means mu and the raw second head (logit of p, or log-variance) for images (B, C, H, W)."""
        mu, second = self.heads(self.convolutions(images).flatten(1)).chunk(2, dim=1)
        return mu, second


class Decoder(nn.Module):
    """z (B, K) to the mean of the likelihood, images (B, C, H, W).

    Args:
        image_shape: (H, W, C) of one sample; H and W are multiples of 16.
        latent_dim: Number K of latent dimensions.
        coordconv: Whether every convolution has coordinate channels.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, *, coordconv: bool = False) -> None:
        super().__init__()
        height, width, channels = check_image_shape(image_shape)
        rows, columns = height // STRIDE, width // STRIDE
        widths = (*reversed(FILTERS), channels)
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * rows * columns),
            nn.Unflatten(1, (widths[0], rows, columns)),
        ]
        for depth, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            size = (rows << depth, columns << depth)
            convolution = _convolution(nn.ConvTranspose2d, inputs, outputs, size, coordconv=coordconv)
            layers += [nn.LeakyReLU(inplace=True), convolution]
        self.layers = nn.Sequential(*layers)

    @property
    def latents(self) -> nn.Linear:
        """The matrix that z is multiplied with first."""
        first = self.layers[0]
        assert isinstance(first, nn.Linear)
        return first

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents."""
        images: Tensor = self.layers(z)
        return images


def make_decoder(config: TrainingConfig, image_shape: tuple[int, int, int]) -> Decoder | BroadcastDecoder:
    """The decoder that a configuration names."""
    if config.decoder == "broadcast":
        return BroadcastDecoder(image_shape, config.latent_dim)
    return Decoder(image_shape, config.latent_dim, coordconv=config.coordconv)


def _convolution(
    kind: type[nn.Conv2d | nn.ConvTranspose2d], inputs: int, outputs: int, size: tuple[int, int], *, coordconv: bool
) -> nn.Module:
    if coordconv:
        return CoordConv(kind, inputs, outputs, size, stride=2)
    return plain_convolution(kind, inputs, outputs, stride=2)


def leaves_range(samples: Tensor, scale: InputScale) -> bool:
    """Whether samples of this type can lie beyond the ends of the scale: all but bytes on the scale of bytes."""
    return samples.dtype != torch.uint8 or scale != InputScale()


def scaled(samples: Tensor, scale: InputScale, *, clip: bool = True) -> Tensor:
    """clip((samples - low) / (high - low), 0, 1) for float32 samples, without the clip where it is not asked for."""
    shifted = samples if scale.low == 0 else samples - scale.low
    images = shifted * (1 / (scale.high - scale.low))
    return images.clamp(0, 1) if clip else images


def check_image_shape(image_shape: tuple[int, int, int], shape_from: str | None = None) -> tuple[int, int, int]:
    """The shape, if these networks can take it.

    Args:
        image_shape: (H, W, C).
        shape_from: Identifier of the image that it is taken from; None: it is that of all images.

    Raises:
        DatasetError: Height or width is not a positive multiple of 16.
    """
    height, width, _ = image_shape
    if height < STRIDE or width < STRIDE or height % STRIDE or width % STRIDE:
        raise DatasetError(
            "the paper's networks cannot take these images",
            expected=f"height and width that are multiples of {STRIDE}",
            found=f"{height} x {width}" + (f", the size of {shape_from}, the first" if shape_from is not None else ""),
            remedy="bring them to a square with --resize stretch, crop or pad, and --size"
            + ("" if shape_from is None else "; or, where that one alone differs, move it out of the data"),
        )
    return image_shape
