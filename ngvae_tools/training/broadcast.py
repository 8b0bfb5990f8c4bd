"""The spatial broadcast decoder (Watters et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ngvae_tools.training.coordinates import AXES, coordinate_grid
from ngvae_tools.training.upsampling import Upsampling

WIDTH = 32
UPSCALING = 4


class BroadcastDecoder(nn.Module):
    """z (B, K), tiled over positions with their coordinates, to images (B, C, H, W).

    Watters, Matthey, Burgess and Lerchner 2019, "Spatial Broadcast Decoder: a simple architecture for learning
    disentangled representations in VAEs", Algorithm 1: tile z, append the coordinates from -1 to 1, then convolve
    without strides. Theirs tiles over the whole image, with 64 channels: at 64x64 some 40 times the cost of the
    decoder that it replaces. This one tiles over a quarter of the height and width with 32 channels, and its last
    two convolutions are those of the paper's decoder, which bring the map to the image's size (as Locatello et
    al. 2020, "Object-centric learning with slot attention", do): 1.1 times the multiplications of that decoder.

    The first convolution is 1x1, so on the tiled z it is one matrix for all positions: it is applied before tiling.

    Args:
        image_shape: (H, W, C) of one sample; H and W are multiples of 4.
        latent_dim: Number K of latent dimensions.
    """

    coordinates: Tensor

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int) -> None:
        super().__init__()
        height, width, channels = image_shape
        whole = nn.Linear(latent_dim + AXES, WIDTH)
        self.latents = nn.Linear(latent_dim, WIDTH)
        self.position = nn.Conv2d(AXES, WIDTH, 1, bias=False)
        with torch.no_grad():
            self.latents.weight.copy_(whole.weight[:, :latent_dim])
            self.latents.bias.copy_(whole.bias)
            self.position.weight.copy_(whole.weight[:, latent_dim:, None, None])
        self.register_buffer("coordinates", coordinate_grid(height // UPSCALING, width // UPSCALING), persistent=False)
        self.layers = nn.Sequential(
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.LeakyReLU(inplace=True),
            Upsampling(WIDTH, WIDTH),
            nn.LeakyReLU(inplace=True),
            Upsampling(WIDTH, channels),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents."""
        tiled = self.latents(z)[:, :, None, None] + self.position(self.coordinates)
        images: Tensor = self.layers(tiled)
        return images
