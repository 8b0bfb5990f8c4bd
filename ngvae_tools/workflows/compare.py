"""compare: whether two data sets through the same encoder differ."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ngvae_tools.analysis.drift import Drift
from ngvae_tools.analysis.drift_verdict import drift_between
from ngvae_tools.analysis.ranges import Outside, RangeCheck
from ngvae_tools.errors import RecordError
from ngvae_tools.files import refuse_existing, refuse_replacing, write_text
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.record import FILE_NAME, AnalysisRecord
from ngvae_tools.reporting.sources import NamedAnalysis, open_sources
from ngvae_tools.workflows.latent_sample import check_latents, sample_latents


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Drift:
    """Compare the latents of new data with those of a reference, both made by `select_latents`.

    Args:
        a: Output folder of the reference.
        b: Output folder of the new data.
        output: JSON file to write the comparison to.
        seed: Seed of the permutations of the joint test.
        overwrite: Replace an output file that is there.

    Raises:
        OptionError: The output would replace what is compared.
        OutputError: The output exists or cannot be written.
        RecordError: A folder cannot be read, or another encoder made it.

    Example:
        >>> from ngvae_tools import compare
        >>> compare("OUT-2024", "OUT-2025").verdict  # doctest: +SKIP
        'No difference beyond chance was found in 15 dimensions; ...'
    """
    if output is not None:
        refuse_existing(Path(output), overwrite=overwrite)
    one, other = _opened(Path(a)), _opened(Path(b))
    _check_encoders(one, other)
    paths = [named.folder / named.record.latents.file for named in (one, other)]
    if output is not None:
        for named, path in zip((one, other), paths, strict=True):
            record = named.record
            refuse_replacing(Path(output), path, named.folder / FILE_NAME, record.model.path, record.data.path)
    for path, named in zip(paths, (one, other), strict=True):
        check_latents(path, named.record)
    positions = one.record.model.positions
    drift = drift_between(
        one.record,
        other.record,
        sample_latents(paths[0], positions)[0],
        sample_latents(paths[1], positions)[0],
        _outside(one.record, paths[1]),
        folders=(str(one.folder), str(other.folder)),
        seed=seed,
    )
    if output is not None:
        write_text(Path(output), drift.to_json())
    return drift


def _opened(path: Path) -> NamedAnalysis:
    found = open_sources([path]).analyses
    if not found:
        raise RecordError(
            f"{path} holds no analysis",
            expected="an output folder of select-latents",
            found="a training run",
            remedy="run select-latents with its encoder first",
        )
    return found[0]


def _check_encoders(a: NamedAnalysis, b: NamedAnalysis) -> None:
    one, other = a.record.model, b.record.model
    if one.sha256 != other.sha256:
        raise RecordError(
            "the two analyses cannot be compared: different encoders made them",
            expected=f"the encoder of {a.folder}, SHA-256 {one.sha256[:12]}...",
            found=f"SHA-256 {other.sha256[:12]}... in {b.folder}",
            remedy="encode both with one encoder; `ngvae-tools report` shows different models side by side",
        )
    if one.reading != other.reading:
        raise RecordError(
            "the two analyses cannot be compared: they read the encoder differently",
            expected=one.reading,
            found=other.reading,
            remedy="run select-latents with the same options on both",
        )


def _outside(reference: AnalysisRecord, path: Path) -> Outside | None:
    """Images of a latent file outside the range of the reference; None where it holds no dimension."""
    positions = reference.model.positions
    with open_latents(path, dtype=np.float64) as file:
        dimensions = list(file.header.origin.dimensions)
        if not dimensions:
            return None
        rows = [reference.dimensions[k] for k in dimensions]
        check = RangeCheck(
            dimensions,
            np.array([row.mu_low for row in rows]),
            np.array([row.mu_high for row in rows]),
            np.sqrt([row.mu_variance or 0.0 for row in rows]),
            file.header.coding.step[: len(dimensions)] / 2,
            positions,
        )
        for values, identifiers in file.chunks():
            check.add(values.astype(np.float64), identifiers)
    return check.outside(reference.data.n_images - reference.data.n_rejected)
