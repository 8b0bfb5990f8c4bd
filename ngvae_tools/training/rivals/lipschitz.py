"""Decoders that are 1-Lipschitz: every linear map divided by its greatest singular value."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

_FIRST_STEPS = 20
"""Power iterations before the first use; one more at every step of training."""


def make_lipschitz(network: nn.Module, example: Tensor) -> nn.Module:
    """Normalise every linear layer and transposed convolution of a network, in place.

    A convolution is normalised as the linear map that it is for inputs of its size (Gouk et al. 2021, "Regularisation
    of neural networks by enforcing Lipschitz continuity"), not by the matrix of its kernel, whose greatest singular
    value is no bound. Activations must be 1-Lipschitz themselves, as LeakyReLU is.

    Args:
        network: The network.
        example: An input, whose size decides that of every layer's.
    """
    shapes: dict[nn.Module, torch.Size] = {}
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.ConvTranspose2d)]
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: shapes.__setitem__(module, inputs[0].shape[1:]))
        for layer in layers
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _Normalised(layer, shapes[layer]))
    return network


class _Normalised(nn.Module):
    """A weight divided by the operator norm of its layer, which power iteration follows while training.

    Args:
        layer: The layer.
        shape: Of one input, without the batch.
    """

    vector: Tensor

    def __init__(self, layer: nn.Linear | nn.ConvTranspose2d, shape: torch.Size) -> None:
        super().__init__()
        self._convolution = _Geometry.of(layer) if isinstance(layer, nn.ConvTranspose2d) else None
        # Not the caller's random state: it decides the networks' start.
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((1, *shape), generator=generator).to(layer.weight)
        self.register_buffer("vector", start / start.norm())
        with torch.no_grad():
            for _ in range(_FIRST_STEPS):
                self._iterate(layer.weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight over |L v|, v the singular vector as far as it is known."""
        if self.training:
            with torch.no_grad():
                self._iterate(weight)
        # A copy, since the next step changes it in place while this one may still be differentiated.
        normalised: Tensor = weight / self._linear(weight, self.vector.clone()).norm()
        return normalised

    def _iterate(self, weight: Tensor) -> None:
        image = self._linear(weight, self.vector)
        if self._convolution is None:
            back = image @ weight
        else:
            place = self._convolution
            back = functional.conv2d(image, weight, None, place.stride, place.padding, place.dilation, place.groups)
        self.vector.copy_(back / back.norm().clamp_min(torch.finfo(back.dtype).tiny))

    def _linear(self, weight: Tensor, vector: Tensor) -> Tensor:
        if self._convolution is None:
            return functional.linear(vector, weight)
        place = self._convolution
        return functional.conv_transpose2d(
            vector, weight, None, place.stride, place.padding, place.output_padding, place.groups, place.dilation
        )


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Of a transposed convolution, as its class names them."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, layer: nn.ConvTranspose2d) -> _Geometry:
        assert not isinstance(layer.padding, str)
        return cls(layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups)
