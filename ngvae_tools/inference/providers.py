"""Which onnxruntime execution provider runs a session."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
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


@functools.cache
def share_bounded_memory() -> bool:
    """Give all CPU sessions of this process one arena that cannot outgrow the machine; False where it cannot be had.

    A graph whose memory depends on what an image shows passes a trial on other images; it then ends in an error of
    its run, where the system would end the process.
    """
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return False
    onnxruntime = require_onnxruntime()
    with suppress(RuntimeError, AttributeError):
        info = onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        )
        arena = onnxruntime.OrtArenaCfg({"max_mem": memory * 3 // 4})
        onnxruntime.create_and_register_allocator(info, arena)
        return True
    return False


def available_cpus() -> int:
    """Processors that this process may use (containers often allow fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
