"""Write a torch module that already follows the contract as one ONNX file with its metadata, and check the file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from exporters.check import Samples, check_contract, largest_difference
from exporters.graph import graph_of
from exporters.prepare import prepared
from ngvae_tools.contract import IMAGE, METADATA_KEY, MU, ModelMetadata, Z
from ngvae_tools.errors import MissingDependencyError
from ngvae_tools.files import replacing

CHECKED_BATCHES = (1, 7)


@dataclasses.dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: The file.
        sha256: Hash of its bytes.
        bytes: Its size.
        max_abs_difference: Largest absolute difference between torch and onnxruntime over all outputs, at
            batch sizes 1 and 7.
        metadata: What the file says of itself.
    """

    path: Path
    sha256: str
    bytes: int
    max_abs_difference: float
    metadata: ModelMetadata


def export_sample_encoder(
    module: nn.Module,
    path: Path | str,
    metadata: ModelMetadata,
    *,
    reference: nn.Module | None = None,
    samples: Sequence[Samples] = (),
) -> ExportReport:
    """Export an encoder that takes a data set's own samples; `export_encoder` takes one of scaled images.

    Args:
        module: Takes samples of `metadata.sample_type`, shape (B, *image_shape), and returns mu and the second
            head of the family, p (near 0 = informative) or logvar, if it has one; each (B, K), or (B, K, h, w).
        path: The file to write; it appears under this name only once it has passed every check.
        metadata: What the file says of itself; library versions are added.
        reference: What the file must agree with; `module` itself by default.
        samples: Batches to check the file with, beside random ones.

    Raises:
        ContractError: The metadata name a family or hyperparameters that are unknown.
        ExportError: The file does not keep the contract, or onnxruntime and torch differ by more than 1e-4 (of the
            largest magnitude, where that is above 1).
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OutputError: The file cannot be written.
    """
    from ngvae_tools.posteriors import family_of

    second = family_of(metadata.family, metadata.latent_dim, metadata.hyperparameters).second_head
    generator = np.random.default_rng(0)
    random = [_random_samples(metadata, batch, generator) for batch in CHECKED_BATCHES]
    outputs = (MU,) if second is None else (MU, second)
    return _export(module, reference, Path(path), metadata, [*random, *samples], IMAGE, outputs)


def export_sample_decoder(
    module: nn.Module,
    path: Path | str,
    metadata: ModelMetadata,
    *,
    grid: tuple[int, int] | None = None,
    reference: nn.Module | None = None,
) -> ExportReport:
    """Export a decoder that returns images as the contract has them; `export_decoder` takes one of scaled images.

    Args:
        module: Takes z, float32 (B, K), or (B, K, *grid), and returns images, float32 (B, *image_shape), on the
            scale of `metadata.scale` (0 is `low`, 1 is `high`).
        path: The file to write; it appears under this name only once it has passed every check.
        metadata: What the file says of itself; library versions are added.
        grid: Rows and columns of a spatial latent.
        reference: What the file must agree with; `module` itself by default.

    Raises:
        ExportError: The file does not keep the contract, or onnxruntime and torch differ by more than 1e-4 (of the
            largest magnitude, where that is above 1).
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OutputError: The file cannot be written.
    """
    generator = np.random.default_rng(0)
    axes = (metadata.latent_dim, *(grid or ()))
    samples = [generator.standard_normal((n, *axes)).astype(np.float32) for n in CHECKED_BATCHES]
    return _export(module, reference, Path(path), metadata, samples, Z, (IMAGE,))


def _export(
    module: nn.Module,
    reference: nn.Module | None,
    path: Path,
    metadata: ModelMetadata,
    samples: Sequence[Samples],
    input_name: str,
    output_names: tuple[str, ...],
) -> ExportReport:
    _require("onnxscript")
    _require("onnxruntime")
    metadata = _with_versions(metadata)
    with prepared(module) as module, prepared(reference or module) as reference:  # noqa: PLR1704 - the same, made ready
        # The exporter bakes a batch of one into the graph.
        example = max(samples, key=len)
        model = graph_of(module, torch.from_numpy(example), input_name, output_names)
        model.metadata_props.add(key=METADATA_KEY, value=metadata.to_json())
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString(deterministic=True)
        with replacing(path) as part:
            part.write_bytes(data)
            check_contract(part, metadata, samples, input_name, output_names)
            difference = largest_difference(part, reference, samples, input_name, output_names)
    return ExportReport(path, hashlib.sha256(data).hexdigest(), len(data), difference, metadata)


def _random_samples(metadata: ModelMetadata, batch: int, generator: np.random.Generator) -> Samples:
    span = metadata.scale.high - metadata.scale.low
    values = metadata.scale.low + span * generator.random((batch, *metadata.image_shape))
    return values.astype(metadata.sample_type)


def _with_versions(metadata: ModelMetadata) -> ModelMetadata:
    libraries = ("ngvae-tools", "torch", "onnx", "onnxscript", "onnxruntime")
    return dataclasses.replace(
        metadata, versions={name: _version(name) for name in libraries} | dict(metadata.versions)
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "unknown"


def _require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(
            f"{module} is not installed",
            expected="the packages that exporting needs",
            found="none of that name",
            remedy="install them with: pip install 'ngvae-tools[cpu,train]'",
        )
