"""Coordinate channels for convolutions (Liu et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ngvae_tools.training.upsampling import Upsampling

AXES = 2


def coordinate_grid(height: int, width: int) -> Tensor:
    """Column and row of each position, both from -1 to 1, shape (1, 2, height, width)."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack((columns, rows))[None]


class CoordConv(nn.Module):
    """A convolution whose input has two more channels: the column and the row of each position.

    Liu, Lehman, Molino, Such, Frank, Sergeev and Yosinski 2018, "An intriguing failing of convolutional neural
    networks and the CoordConv solution", Section 3, without the optional radius. A convolution is linear in its
    channels, so what the coordinates add is one map for all images of a batch: it is computed once and added, which
    is equal to concatenating the channels and costs less. Weights start as those of the convolution of all channels.

    Args:
        convolution: `nn.Conv2d` or `nn.ConvTranspose2d`.
        inputs: Channels of the input, the coordinates left out.
        outputs: Channels of the output.
        size: (height, width) of the input.
        stride: Of the convolution, which has a 3x3 kernel, padding 1, and keeps or multiplies the size exactly.
    """

    coordinates: Tensor

    def __init__(
        self,
        convolution: type[nn.Conv2d | nn.ConvTranspose2d],
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        *,
        stride: int = 1,
    ) -> None:
        super().__init__()
        whole = plain_convolution(convolution, inputs + AXES, outputs, stride=stride)
        channels = 1 if convolution is nn.Conv2d else 0
        image, position = torch.split(whole.weight.detach(), [inputs, AXES], dim=channels)
        self.image = plain_convolution(convolution, inputs, outputs, stride=stride)
        self.position = plain_convolution(convolution, AXES, outputs, stride=stride, bias=False)
        self.register_buffer("coordinates", coordinate_grid(*size), persistent=False)
        with torch.no_grad():
            self.image.weight.copy_(image)
            self.position.weight.copy_(position)
            assert self.image.bias is not None
            assert whole.bias is not None
            self.image.bias.copy_(whole.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, inputs, height, width) to (B, outputs, ...)."""
        output: Tensor = self.image(images) + self.position(self.coordinates)
        return output


def plain_convolution(
    convolution: type[nn.Conv2d | nn.ConvTranspose2d], inputs: int, outputs: int, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d | nn.ConvTranspose2d:
    """A 3x3 convolution that divides the size by the stride, or a transposed one that multiplies it."""
    if convolution is nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
    if stride == 2:
        return Upsampling(inputs, outputs, bias=bias)
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=stride, padding=1, output_padding=stride - 1, bias=bias)
