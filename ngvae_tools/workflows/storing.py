"""The latent file of a pass: from its shards to compressed rows of the dimensions that are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.survey import Findings
from ngvae_tools.datasets.footprint import Footprint
from ngvae_tools.errors import OptionError
from ngvae_tools.files import sha256_of
from ngvae_tools.inference.shards import ShardResult
from ngvae_tools.latents.grid import DISTORTION, Grid
from ngvae_tools.latents.header import FILE_NAME, Codec, DataSource, LatentOrigin
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.writer import Block, RowsShape, write_latents
from ngvae_tools.record import LatentsInfo, Selection
from ngvae_tools.workflows.encoding_pass import EncodingPass
from ngvae_tools.workflows.evidence import Evidence
from ngvae_tools.workflows.shard_folder import results

CODE_NOISE = 1e-4
"""Variance that is taken for the noise of deterministic codes, as a share of their own."""


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What goes into the latent file, and how exactly.

    Attributes:
        distortion: Error of quantisation as a share of the posterior variance.
        lossless: Keep float32 instead.
        keep: The informative dimensions, or all of them.
        codec: `deflate`, which every HDF5 reader opens, or the denser `archive`.
    """

    distortion: float = DISTORTION
    lossless: bool = False
    keep: Literal["informative", "all"] = "informative"
    codec: Codec = "deflate"

    def check(self) -> None:
        """Refuse what means nothing, before anything expensive.

        Raises:
            OptionError: The distortion is not between 0 and 1, or a choice is none of those that there are.
            MissingDependencyError: The codec is not installed.
        """
        if not 0 < self.distortion <= 1:
            raise OptionError(
                "--distortion cannot be used",
                expected="a share of the posterior variance above 0 and up to 1, such as 0.01",
                found=f"{self.distortion:g}",
                remedy="pass another, or --lossless to keep float32",
            )
        for option, value, allowed in (
            ("--keep", self.keep, ("informative", "all")),
            ("--codec", self.codec, ("deflate", "archive")),
        ):
            if value not in allowed:
                raise OptionError(
                    f"{option} cannot be used", expected=" or ".join(allowed), found=repr(value), remedy="pass one"
                )
        if self.codec == "archive":
            from ngvae_tools.latents.archive import check_archive_codec

            check_archive_codec()


def store_latents(
    path: Path,
    encoding: EncodingPass,
    files: Sequence[Path],
    findings: Findings,
    selection: Selection,
    identifier_type: np.dtype[Any],
    footprint: Footprint,
    evidence: Evidence,
    options: StoreOptions,
) -> LatentsInfo:
    """Write the latent file of a pass and read it back; only now are the selection and the steps known.

    Args:
        path: File to write; the caller renames it.
        encoding: The pass.
        files: The files of all its shards, in order.
        findings: What the pass found.
        selection: The informative dimensions.
        identifier_type: Holds all identifiers.
        footprint: What a sample of the images takes.
        evidence: What else there is: the decoder, and labels.
        options: What goes into the file.

    Returns:
        What the record says of it.

    Raises:
        OSError: The disk refused it.
        OutputError: The latents cannot be quantised.
        RecordError: What was read back is not what was written, or a shard is damaged.
    """
    kept = list(range(encoding.model.latent_dim)) if options.keep == "all" else list(selection.indices)
    noise = _noise(findings)
    grid = None
    if not options.lossless:
        low, high = findings.statistics.low[kept], findings.statistics.high[kept]
        grid = Grid.fit(noise[kept], low, high, options.distortion)
    origin = _origin(encoding, findings, selection, kept, noise[kept], evidence, options)
    labels = evidence.labels
    shape = RowsShape(findings.n_images, identifier_type)
    if labels is not None:
        shape = dataclasses.replace(shape, factors=labels.columns, classes=labels.factors.classes)

    def rows() -> Iterator[Block]:
        for result in results(files):
            if len(result.index):
                known = None if labels is None else labels.of(result.index)
                yield Block(origin.kept(result.mu), identifiers_of(result), known)

    write_latents(path, rows, shape, origin, grid=grid, codec=options.codec)
    with LatentFile(path) as file:
        file.verify()
        return _info(file, footprint, evidence)


def identifiers_of(result: ShardResult) -> npt.NDArray[Any]:
    """The identifiers of a shard's images: their names, or their row numbers."""
    return result.index if result.identifiers is None else result.identifiers


def _origin(
    encoding: EncodingPass,
    findings: Findings,
    selection: Selection,
    kept: Sequence[int],
    noise: npt.NDArray[np.float64],
    evidence: Evidence,
    options: StoreOptions,
) -> LatentOrigin:
    model, data = encoding.model, encoding.data
    return LatentOrigin(
        dimensions=tuple(kept),
        latent_dim=model.latent_dim,
        positions=model.positions,
        posterior_variance=noise,
        fill=findings.statistics.mu.mean,
        steps_from="variance of mu" if findings.scores.variance is None else "posterior variance",
        family=model.family,
        hyperparameters=model.hyperparameters,
        rule=selection.rule,
        threshold=selection.threshold,
        encoder_sha256=model.sha256,
        decoder_sha256=evidence.decoder_sha256,
        distortion=None if options.lossless else options.distortion,
        trained=model.trained,
        preprocessing=encoding.preprocessing.to_json(),
        sources=(DataSource(data.path, data.kind, data.fingerprint, findings.n_images),),
        versions=encoding.versions,
    )


def _info(file: LatentFile, footprint: Footprint, evidence: Evidence) -> LatentsInfo:
    header, stored = file.header, file.storage()
    return LatentsInfo(
        file=FILE_NAME,
        sha256=sha256_of(file.path),
        bytes=stored.file,
        dimensions=header.origin.dimensions,
        codec=header.codec,
        distortion=header.origin.distortion,
        codes_bytes=stored.codes,
        identifiers_bytes=stored.identifiers,
        bits=stored.bits,
        entropy_bits=None if header.entropy is None else tuple(header.entropy.tolist()),
        max_error=tuple(header.max_error.tolist()),
        mean_squared_error=tuple(header.mean_squared_error.tolist()),
        raw_bytes=_each(footprint.raw, footprint),
        png_bytes=_each(footprint.png, footprint),
        jpeg_bytes=_each(footprint.jpeg, footprint),
        decoder_bytes=evidence.decoder_bytes,
    )


def _each(total: int | None, footprint: Footprint) -> float | None:
    return None if total is None or not footprint.images else total / footprint.images


def _noise(findings: Findings) -> npt.NDArray[np.float64]:
    """Variance that the steps follow: the posterior's, or a share of that of deterministic codes."""
    if findings.scores.variance is not None:
        return findings.scores.variance
    spread = findings.scores.mu_variance
    return np.zeros_like(findings.statistics.low) if spread is None else CODE_NOISE * spread
