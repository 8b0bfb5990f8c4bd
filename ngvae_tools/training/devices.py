"""Devices that torch can train on."""

from __future__ import annotations

import torch

from ngvae_tools.errors import DeviceError


def training_devices() -> tuple[str, ...]:
    """`cpu`, and each CUDA device by name."""
    cuda = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return ("cpu", *cuda)


def training_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device to train on: `cpu`, `cuda`, or `auto` for CUDA where it runs.

    Args:
        name: `auto`, `cpu` or `cuda`.
        local_rank: Of several processes on this machine, which one this is, from 0: each has a CUDA device of its
            own. None: there is one process.

    Raises:
        DeviceError: `cuda` was asked for and cannot run, or there are more processes than CUDA devices.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError(
            "cannot train on --device cuda",
            expected="a CUDA device and a CUDA build of torch",
            found=f"torch {torch.__version__} without a usable CUDA device",
            remedy="use --device cpu or auto, or install a CUDA build of torch",
        )
    if not available or name == "cpu":
        return torch.device("cpu")
    if local_rank is None:
        return torch.device("cuda")
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            "more processes than CUDA devices",
            expected="a CUDA device for each process of this machine",
            found=f"{torch.cuda.device_count()}",
            remedy="start fewer processes (torchrun --nproc-per-node), or use --device cpu",
        )
    return torch.device("cuda", local_rank)
