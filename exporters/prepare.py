"""A module made ready for export: on the CPU, in float32, in evaluation mode; and as it was afterwards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from exporters.graph import first_line
from ngvae_tools.errors import ExportError


@contextlib.contextmanager
def prepared(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the module itself, or a copy where it lies on another device or in another precision.

    Raises:
        ExportError: The module has to be copied and cannot be.
    """
    if any(_is_elsewhere(tensor) for tensor in (*module.parameters(), *module.buffers())):
        try:
            module = copy.deepcopy(module).to("cpu", torch.float32)
        except Exception as error:
            raise ExportError(
                "the module cannot be copied to the CPU in float32",
                expected="a module that copy.deepcopy takes",
                found=first_line(error),
                remedy='move it yourself with module.to("cpu", torch.float32)',
            ) from error
    training = [(part, part.training) for part in module.modules()]
    try:
        yield module.eval()
    finally:
        for part, was_training in training:
            part.training = was_training


def _is_elsewhere(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu" or (tensor.is_floating_point() and tensor.dtype != torch.float32)
