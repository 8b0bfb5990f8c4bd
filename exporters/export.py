"""Export a torch encoder or decoder to one ONNX file that carries its metadata, and check the file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ngvae_tools.contract import IMAGE, METADATA_KEY, MU, ModelMetadata, Z
from ngvae_tools.errors import ExportError, MissingDependencyError
from ngvae_tools.files import replacing

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OPSET = 18
CHECKED_BATCHES = (1, 7)
TOLERANCE = 1e-4
"""Largest absolute difference between torch and onnxruntime that an export may have."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: The file.
        sha256: Hash of its bytes.
        bytes: Its size.
        max_abs_difference: Largest absolute difference between torch and onnxruntime over all outputs, at
            batch sizes 1 and 7.
    """

    path: Path
    sha256: str
    bytes: int
    max_abs_difference: float


def export_encoder(
    module: nn.Module, path: Path | str, metadata: ModelMetadata, *, reference: nn.Module | None = None
) -> ExportReport:
    """Export an encoder.

    Args:
        module: Takes samples of `metadata.sample_type`, shape (B, *image_shape), and returns mu and the second
            head of the family, p (near 0 = informative) or logvar, each (B, K).
        path: The file to write; it appears under this name only once it has passed every check.
        metadata: What the file says of itself; library versions are added.
        reference: What the file must agree with; `module` itself by default.

    Raises:
        ExportError: onnxruntime and torch differ by more than 1e-4.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OutputError: The file cannot be written.
    """
    from ngvae_tools.posteriors import family_of

    family = family_of(metadata.family, metadata.latent_dim, metadata.hyperparameters)
    generator = np.random.default_rng(0)
    samples = [_random_samples(metadata, batch, generator) for batch in CHECKED_BATCHES]
    return _export(module, reference or module, Path(path), metadata, samples, IMAGE, (MU, family.second_head))


def export_decoder(module: nn.Module, path: Path | str, metadata: ModelMetadata) -> ExportReport:
    """Export a decoder.

    Args:
        module: Takes z, float32 (B, K), and returns images, float32 (B, *image_shape), on the scale of
            `metadata.scale` (0 is `low`, 1 is `high`).
        path: The file to write; it appears under this name only once it has passed every check.
        metadata: What the file says of itself; library versions are added.

    Raises:
        ExportError: onnxruntime and torch differ by more than 1e-4.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OutputError: The file cannot be written.
    """
    generator = np.random.default_rng(0)
    samples = [generator.standard_normal((n, metadata.latent_dim)).astype(np.float32) for n in CHECKED_BATCHES]
    return _export(module, module, Path(path), metadata, samples, Z, (IMAGE,))


def _export(
    module: nn.Module,
    reference: nn.Module,
    path: Path,
    metadata: ModelMetadata,
    samples: Sequence[np.ndarray[Any, Any]],
    input_name: str,
    output_names: tuple[str, ...],
) -> ExportReport:
    _require("onnxscript")
    _require("onnxruntime")
    model = _to_onnx(module.eval(), torch.from_numpy(samples[-1]), input_name, output_names)
    model.metadata_props.add(key=METADATA_KEY, value=_with_versions(metadata).to_json())
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    with replacing(path) as part:
        part.write_bytes(data)
        _check_contract(part, metadata, samples, input_name, output_names)
        difference = _difference(part, reference.eval(), samples, input_name, output_names)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the export {path.name} does not compute what the network computes",
                expected=f"a largest absolute difference of at most {TOLERANCE:g}",
                found=f"{difference:.3g}",
                remedy="please report this with the versions that `ngvae-tools doctor` prints",
            )
    return ExportReport(path, hashlib.sha256(data).hexdigest(), len(data), difference)


def _to_onnx(module: nn.Module, example: Tensor, input_name: str, output_names: tuple[str, ...]) -> onnx.ModelProto:
    """The module as one ONNX graph with a dynamic batch, stripped of what depends on where it was made."""
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # Stack traces name files of the machine that exported, and make equal models differ.
    del model.metadata_props[:]
    for part in (
        model.graph,
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    ):
        part.ClearField("doc_string")
        del part.metadata_props[:]
    for value in model.graph.value_info:
        del value.metadata_props[:]
    return model


def _check_contract(
    path: Path,
    metadata: ModelMetadata,
    samples: Sequence[np.ndarray[Any, Any]],
    input_name: str,
    output_names: tuple[str, ...],
) -> None:
    """The file as a reader sees it: its metadata, deterministic, and outputs of the shape that they promise."""
    session = _session(path)
    read_back = ModelMetadata.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    if read_back != _with_versions(metadata):
        raise _refused(path, "metadata that read back as they were given", f"{read_back}", "correct the metadata")
    shape = metadata.image_shape if metadata.role == "decoder" else (metadata.latent_dim,)
    for batch in samples:
        first, second = (session.run(list(output_names), {input_name: batch}) for _ in range(2))
        for name, ours, again in zip(output_names, first, second, strict=True):
            if ours.shape != (len(batch), *shape):
                found = f"{name} of shape {ours.shape}"
                raise _refused(path, f"shape {(len(batch), *shape)}", found, "correct the module or the metadata")
            if not np.array_equal(ours, again, equal_nan=True):
                found = f"{name} that changes from run to run"
                raise _refused(path, "the same outputs for the same input", found, "return the heads, do not sample")


def _refused(path: Path, expected: str, found: str, remedy: str) -> ExportError:
    name = path.name.removesuffix(".part")
    return ExportError(f"the export {name} was refused", expected=expected, found=found, remedy=remedy)


def _difference(
    path: Path,
    reference: nn.Module,
    samples: Sequence[np.ndarray[Any, Any]],
    input_name: str,
    output_names: tuple[str, ...],
) -> float:
    session = _session(path)
    largest = 0.0
    for batch in samples:
        found = session.run(list(output_names), {input_name: batch})
        with torch.no_grad():
            result = reference(torch.from_numpy(batch))
        expected = [result] if isinstance(result, Tensor) else list(result)
        for ours, theirs in zip(found, expected, strict=True):
            if ours.shape != tuple(theirs.shape):
                return float("inf")
            # Not the built-in max, which drops a NaN.
            largest = float(np.maximum(largest, np.abs(ours - theirs.numpy()).max()))
    return largest


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _random_samples(metadata: ModelMetadata, batch: int, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    span = metadata.scale.high - metadata.scale.low
    values = metadata.scale.low + span * generator.random((batch, *metadata.image_shape))
    return values.astype(metadata.sample_type)


def _with_versions(metadata: ModelMetadata) -> ModelMetadata:
    import dataclasses

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
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise MissingDependencyError(
            f"{module} is not installed",
            expected="the packages that exporting needs",
            found="none of that name",
            remedy="install them with: pip install 'ngvae-tools[cpu,train]'",
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from writing its progress and its own deprecation warnings to the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
