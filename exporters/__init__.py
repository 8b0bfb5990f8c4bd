"""Exporters: torch modules to ONNX files under the contract of `ngvae_tools.contract`, checked after writing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exporters.diffusers import export_diffusers
    from exporters.export import ExportReport, export_sample_decoder, export_sample_encoder
    from exporters.foreign import export_decoder, export_encoder
    from exporters.pythae import export_pythae

__all__ = [
    "ExportReport",
    "export_decoder",
    "export_diffusers",
    "export_encoder",
    "export_pythae",
    "export_sample_decoder",
    "export_sample_encoder",
]

_PLACES = {
    "ExportReport": "export",
    "export_decoder": "foreign",
    "export_diffusers": "diffusers",
    "export_encoder": "foreign",
    "export_pythae": "pythae",
    "export_sample_decoder": "export",
    "export_sample_encoder": "export",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Loaded when asked for: pruning needs no torch.
    if name in _PLACES:
        return getattr(importlib.import_module(f"exporters.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
