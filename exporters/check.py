"""What an exported file must do: keep the contract, and compute what torch computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ngvae_tools.contract import METADATA_KEY, ModelMetadata, P
from ngvae_tools.errors import ExportError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCE = 1e-4
"""Largest difference between torch and onnxruntime, as a fraction of an output's largest magnitude where above 1."""

Samples = npt.NDArray[Any]


def check_contract(
    path: Path, metadata: ModelMetadata, samples: Sequence[Samples], input_name: str, output_names: tuple[str, ...]
) -> None:
    """Check the file as a reader sees it: metadata that read back, and outputs that they promise.

    Raises:
        ExportError: Metadata do not read back, or an output changes from run to run, depends on the other rows of
            its batch, is not finite, is a p outside 0 to 1, or has another shape.
    """
    session = _session(path)
    read_back = ModelMetadata.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    if read_back != metadata:
        raise _refused(path, "metadata that read back as they were given", f"{read_back}", "correct the metadata")
    for batch in samples:
        first, second, alone = (
            session.run(list(output_names), {input_name: rows}) for rows in (batch, batch, batch[:1])
        )
        for name, ours, again, one in zip(output_names, first, second, alone, strict=True):
            _check_shape(path, metadata, name, ours, (len(batch), *first[0].shape[1:]))
            if not np.array_equal(ours, again, equal_nan=True):
                found = f"{name} that changes from run to run"
                raise _refused(path, "the same outputs for the same input", found, "return the heads, do not sample")
            if not np.isfinite(ours).all():
                found = f"{name} with values that are nan or infinite"
                raise _refused(path, "finite outputs", found, "correct the module, or the range of its input")
            if np.abs(ours[:1] - one).max() > TOLERANCE * max(1.0, float(np.abs(one).max())):
                found = f"{name} that depends on the other rows of a batch"
                remedy = "normalise by running statistics, or by those of each row alone"
                raise _refused(path, "the same outputs in any batch", found, remedy)
            if name == P and not (ours.min() >= 0 and ours.max() <= 1):
                found = f"values from {ours.min():.3g} to {ours.max():.3g}"
                remedy = "put the sigmoid into the module, or name the heads and the family"
                raise _refused(path, "p between 0 and 1", found, remedy)


def largest_difference(
    path: Path, reference: nn.Module, samples: Sequence[Samples], input_name: str, output_names: tuple[str, ...]
) -> float:
    """Largest absolute difference of any output from what `reference` computes.

    Raises:
        ExportError: It is above `TOLERANCE`.
    """
    session = _session(path)
    largest = 0.0
    for batch in samples:
        found = session.run(list(output_names), {input_name: batch})
        with torch.no_grad():
            result = reference(torch.from_numpy(batch))
        expected = [result] if isinstance(result, Tensor) else list(result)
        for name, ours, theirs in zip(output_names, found, (t.numpy() for t in expected), strict=True):
            difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
            # Float32 rounds relative to magnitude. A NaN compares as false, and is refused.
            if not difference <= TOLERANCE * max(1.0, float(np.abs(theirs).max())):
                raise ExportError(
                    f"the export {_name(path)} does not compute what the network computes",
                    expected=f"a largest absolute difference of at most {TOLERANCE:g}",
                    found=f"{difference:.3g} in {name}",
                    remedy="please report this with the versions that `ngvae-tools doctor` prints",
                )
            largest = max(largest, difference)
    return largest


def _check_shape(path: Path, metadata: ModelMetadata, name: str, output: Samples, like: tuple[int, ...]) -> None:
    """An encoder's heads are all (N, K), or all (N, K, rows, columns) of a spatial latent."""
    count = like[0]
    expected = (count, *metadata.image_shape) if metadata.role == "decoder" else (count, metadata.latent_dim)
    fits = output.shape == expected
    if metadata.role == "encoder" and output.ndim == 4:
        fits = output.shape == like and output.shape[:2] == expected
    if not fits:
        found = f"{name} of shape {output.shape}"
        raise _refused(path, f"shape {expected}", found, "correct the module or the metadata")


def _session(path: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _refused(path: Path, expected: str, found: str, remedy: str) -> ExportError:
    return ExportError(f"the export {_name(path)} was refused", expected=expected, found=found, remedy=remedy)


def _name(path: Path) -> str:
    return path.name.removesuffix(".part")
