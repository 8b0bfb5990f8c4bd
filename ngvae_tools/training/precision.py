"""In which precision the networks compute; everything else stays in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ngvae_tools.errors import DeviceError


def network_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """A block whose convolutions and linear maps compute in this precision; weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def at_least_float(tensor: torch.Tensor) -> torch.Tensor:
    """A network's output in float32, or as it is where it has more."""
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device has no instructions for.

    Raises:
        DeviceError: It has none.
    """
    if precision != "bf16":
        return
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - no public name asks this
    if not supported:
        raise DeviceError(
            "cannot train with --precision bf16",
            expected="a device with bfloat16 instructions (CUDA: Ampere or newer; CPU: AVX-512 or ARM's BF16)",
            found=f"{device.type} without them",
            remedy="leave --precision out",
        )
