"""Which onnxruntime execution provider runs a session."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from ngvae_tools.errors import DeviceError, MissingDependencyError, OptionError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
DEVICES = ("auto", "cpu", "cuda")

# TF32 would make a GPU's latents differ from a CPU's in the third digit; HEURISTIC avoids a new search for
# every batch shape.
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


def require_onnxruntime() -> ModuleType:
    """The onnxruntime module.

    Raises:
        MissingDependencyError: No onnxruntime is installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed",
            expected="onnxruntime or onnxruntime-gpu",
            found="neither",
            remedy="install one of them with: pip install 'ngvae-tools[cpu]', or 'ngvae-tools[gpu]' for CUDA",
        ) from None
    module: ModuleType = onnxruntime
    return module


def providers_for(device: str) -> list[Any]:
    """The providers to ask for, in order.

    Raises:
        OptionError: The device is unknown.
        DeviceError: `cuda` was asked for and this onnxruntime has no CUDA provider.
        MissingDependencyError: No onnxruntime is installed.
    """
    if device not in DEVICES:
        raise OptionError(
            "the device is unknown",
            expected=" or ".join(DEVICES),
            found=repr(device),
            remedy="pass another --device",
        )
    available = require_onnxruntime().get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise cuda_refused(f"an onnxruntime that offers {', '.join(available)}")
    if device == "cpu" or CUDA not in available:
        return [CPU]
    return [(CUDA, CUDA_OPTIONS), CPU]


def cuda_refused(found: str) -> DeviceError:
    """The error of an explicit `cuda` that cannot be had; there is no silent fallback."""
    return DeviceError(
        "the encoder cannot run on --device cuda",
        expected="onnxruntime-gpu with a CUDA device it can use",
        found=found,
        remedy="install 'ngvae-tools[gpu]' in an environment without onnxruntime, or use --device cpu or auto",
    )


def available_cpus() -> int:
    """Processors that this process may use (containers often allow fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
