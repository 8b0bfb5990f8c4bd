"""Exporters: torch modules to ONNX files under the contract of `ngvae_tools.contract`, checked after writing."""

from exporters.export import ExportReport, export_decoder, export_encoder

__all__ = ["ExportReport", "export_decoder", "export_encoder"]
