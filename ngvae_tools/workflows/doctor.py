"""doctor: what is installed, what it can run on, and what is missing."""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass

from ngvae_tools.errors import MissingDependencyError
from ngvae_tools.inference.providers import CUDA, available_cpus, offered_providers
from ngvae_tools.workflows.versions import installed_version, versions_of

PACKAGES = (
    "numpy",
    "scipy",
    "h5py",
    "pillow",
    "imagecodecs",
    "simplejpeg",
    "tifffile",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnxscript",
    "pyarrow",
    "zarr",
    "fsspec",
    "ray",
    "pandas",
    "xarray",
    "h5netcdf",
    "anndata",
    "faiss-cpu",
    "starlette",
    "uvicorn",
    "matplotlib",
    "jinja2",
    "typer",
    "rich",
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        versions: Versions of ngvae-tools, Python and the packages that are installed.
        platform: Operating system and processor.
        cpus: Processors that this process may use.
        providers: Execution providers that onnxruntime offers; empty without onnxruntime.
        devices: Devices that torch can train on; empty without torch.
        missing: One sentence for each thing that is missing, with the remedy.
    """

    versions: dict[str, str]
    platform: str
    cpus: int
    providers: tuple[str, ...]
    devices: tuple[str, ...]
    missing: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Look at this environment."""
    providers = _providers()
    devices = _devices()
    missing = []
    both = installed_version("onnxruntime") and installed_version("onnxruntime-gpu")
    if not providers:
        missing.append("onnxruntime is missing (select-latents): pip install 'ngvae-tools[cpu]', or [gpu] for CUDA.")
    elif both:
        missing.append(
            "onnxruntime and onnxruntime-gpu are both installed and hide each other's providers: "
            "pip uninstall both, then install one."
        )
    elif installed_version("onnxruntime-gpu") and CUDA not in providers:
        missing.append("onnxruntime-gpu is installed but offers no CUDA: check its CUDA and cuDNN versions.")
    if not devices:
        missing.append("torch is missing (train): pip install 'ngvae-tools[cpu,train]'.")
    elif installed_version("onnxscript") is None:
        missing.append("onnxscript is missing (export): pip install 'ngvae-tools[train]'.")
    return Diagnosis(
        versions=versions_of(*PACKAGES),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpus=available_cpus(),
        providers=providers,
        devices=devices,
        missing=tuple(missing),
    )


def _providers() -> tuple[str, ...]:
    try:
        return offered_providers()
    except MissingDependencyError:
        return ()


def _devices() -> tuple[str, ...]:
    """A layer that does not know torch asks the one that does."""
    try:
        module = importlib.import_module("ngvae_tools.training.devices")
    except ImportError:
        return ()
    return tuple(module.training_devices())
