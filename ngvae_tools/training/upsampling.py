"""The decoder's last layer, a transposed convolution of stride 2 to few channels, faster on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

FEW_CHANNELS = 4
"""Up to here four output pixels fit one vector of 16 numbers."""


class Upsampling(nn.ConvTranspose2d):
    """A transposed 3x3 convolution of stride 2 that doubles height and width.

    oneDNN computes one output pixel at a time, whose three channels fill three of 16 lanes. While training on a CPU in
    float32, all four pixels that an input pixel becomes are the channels of one 2x2 convolution instead (Shi et al.
    2016, "Is the deconvolution layer the same as a convolutional layer?"), equal up to rounding: measured, 1.6 of the
    speed. The gradients are oneDNN's own, which are fast.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Images (B, C, H, W) to (B, outputs, 2 H, 2 W)."""
        slow = self.training and self.out_channels <= FEW_CHANNELS and self.bias is not None
        if not slow or images.device.type != "cpu" or images.dtype != torch.float32:
            return super().forward(images, output_size)
        upsampled: Tensor = FourPixels.apply(images, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return upsampled


class FourPixels(torch.autograd.Function):
    """`Upsampling` of images (B, C, H, W) by weights (C, outputs, 3, 3) and a bias (outputs,)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Output pixel 2 i + a sees input pixels i and i + 1: for a = 0 by taps 1 and none, for a = 1 by 2 and 0."""
        ctx.save_for_backward(images, weight)
        inputs, outputs = weight.shape[:2]
        taps = torch.tensor([1, 3, 2, 0], device=weight.device)
        padded = functional.pad(weight, (0, 1, 0, 1))
        kernel = padded[:, :, taps][:, :, :, taps].view(inputs, outputs, 2, 2, 2, 2)
        kernel = kernel.permute(2, 4, 1, 0, 3, 5).reshape(4 * outputs, inputs, 2, 2)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        pixels = functional.conv2d(images, kernel, bias.repeat(4), padding=1)[:, :, 1:, 1:]
        count, _, rows, columns = pixels.shape
        blocks = pixels.permute(0, 2, 3, 1).reshape(count, rows, columns, 2, 2, outputs).permute(0, 1, 3, 2, 4, 5)
        return blocks.reshape(count, 2 * rows, 2 * columns, outputs).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the transposed convolution."""
        images, weight = ctx.saved_tensors
        found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            gradient,
            images,
            weight,
            [weight.shape[1]],
            [2, 2],
            [1, 1],
            [1, 1],
            True,
            [1, 1],
            1,
            ctx.needs_input_grad,
        )
        return found
