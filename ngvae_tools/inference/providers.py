"""Which onnxruntime execution provider runs a session."""

from __future__ import annotations

import functools
import os
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ngvae_tools.errors import DeviceError, MissingDependencyError, OptionError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
DEVICES = ("auto", "cpu", "cuda", "tensorrt")

# TF32 would make a GPU's latents differ from a CPU's in the third digit; HEURISTIC avoids a new search for
# every batch shape.
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
# TensorRT rounds to TF32 by itself unless the environment variable NVIDIA_TF32_OVERRIDE=0 forbids it; its engines stay
# in float32. It was never run by the developers.
TENSORRT_OPTIONS = {"trt_fp16_enable": "0"}


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What to ask onnxruntime for.

    Attributes:
        wanted: The provider that must run a session; None where any may.
        providers: Names and options, in order of preference.
        plugins: Devices of a provider that is a plugin, in place of `providers`.
    """

    wanted: str | None
    providers: tuple[Any, ...] = ()
    plugins: tuple[Any, ...] = ()


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


def session_options(threads: int) -> Any:
    """Options of a quiet session whose CPU provider has so many threads."""
    options = require_onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads
    # A thread that waits sleeps: spinning takes the cores from whoever reads images meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options


def providers_for(device: str) -> ProviderChoice:
    """The providers to ask for; those that are plugins are found among the devices that onnxruntime discovered.

    Raises:
        OptionError: The device is unknown.
        DeviceError: `cuda` or `tensorrt` was asked for and this onnxruntime does not have it.
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
    if device == "cpu":
        return ProviderChoice(CPU, (CPU,))
    wanted = TENSORRT if device == "tensorrt" else CUDA
    if wanted in available:
        known = [(TENSORRT, TENSORRT_OPTIONS)] if device == "tensorrt" else []
        return ProviderChoice(None if device == "auto" else wanted, (*known, (CUDA, CUDA_OPTIONS), CPU))
    if plugins := plugin_devices(wanted):
        return ProviderChoice(None if device == "auto" else wanted, plugins=plugins)
    if device != "auto":
        raise device_refused(device, f"an onnxruntime that offers {', '.join(available)}")
    return ProviderChoice(None, (CPU,))


def plugin_devices(provider: str) -> tuple[Any, ...]:
    """The devices that a plugin of this name found; none where onnxruntime knows no plugins."""
    discover = getattr(require_onnxruntime(), "get_ep_devices", None)
    return () if discover is None else tuple(found for found in discover() if found.ep_name == provider)


def offered_providers() -> tuple[str, ...]:
    """The providers that onnxruntime brings along, and those that are plugins.

    Raises:
        MissingDependencyError: No onnxruntime is installed.
    """
    onnxruntime = require_onnxruntime()
    discover = getattr(onnxruntime, "get_ep_devices", None)
    plugins = [] if discover is None else [found.ep_name for found in discover()]
    return tuple(dict.fromkeys([*onnxruntime.get_available_providers(), *plugins]))


def device_refused(device: str, found: str) -> DeviceError:
    """The error of an explicit device that cannot be had; there is no silent fallback."""
    return DeviceError(
        f"the encoder cannot run on --device {device}",
        expected="onnxruntime-gpu with a CUDA device it can use" + (" and TensorRT" if device == "tensorrt" else ""),
        found=found,
        remedy="install 'ngvae-tools[gpu]' in an environment without onnxruntime, or use --device cpu or auto",
    )


def check_provider(device: str, choice: ProviderChoice, provider: str) -> None:
    """Refuse a session that runs elsewhere than was asked for.

    Raises:
        DeviceError: It does.
    """
    if choice.wanted is not None and provider != choice.wanted:
        raise device_refused(device, f"a session on {provider}")


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
