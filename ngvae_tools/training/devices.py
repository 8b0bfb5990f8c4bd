"""Devices that torch can train on."""

from __future__ import annotations

import torch

from ngvae_tools.errors import DeviceError


def training_devices() -> tuple[str, ...]:
    """`cpu`, and each CUDA device by name."""
    cuda = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ("cpu", *cuda)


def training_device(name: str) -> torch.device:
    """The device to train on: `cpu`, `cuda`, or `auto` for CUDA where it runs.

    Raises:
        DeviceError: `cuda` was asked for and cannot run.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError(
            "cannot train on --device cuda",
            expected="a CUDA device and a CUDA build of torch",
            found=f"torch {torch.__version__} without a usable CUDA device",
            remedy="use --device cpu or auto, or install a CUDA build of torch",
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")
