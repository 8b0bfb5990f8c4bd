"""A module made ready for export: on the CPU, in float32, in evaluation mode; and as it was afterwards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from exporters.graph import first_line
from ngvae_tools.errors import ExportError, OptionError


@contextlib.contextmanager
def prepared(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the module itself, or a copy where it lies on another device or in another precision.

    Raises:
        ExportError: The module has to be copied and cannot be.
        OptionError: It is no module.
    """
    check_module(module)
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


def check_module(module: Any) -> None:
    """Refuse what is no module, above all the weights of one.

    Raises:
        OptionError: It is no `torch.nn.Module`.
    """
    if not isinstance(module, nn.Module):
        raise OptionError(
            "this is no module that can be exported",
            expected="a torch.nn.Module with its weights in it",
            found="a class, not an object of it" if isinstance(module, type) else f"a value of {type(module).__name__}",
            remedy="build the module, load its weights with module.load_state_dict(torch.load(path)), and export it",
        )


def _is_elsewhere(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu" or (tensor.is_floating_point() and tensor.dtype != torch.float32)
