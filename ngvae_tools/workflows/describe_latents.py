"""What a latent file is and what it costs, and whether it is what was written."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ngvae_tools.factors import ClassNames
from ngvae_tools.latents.header import DataSource
from ngvae_tools.latents.reader import LatentFile


@dataclass(frozen=True, slots=True)
class DimensionCost:
    """What a kept dimension costs, over all positions.

    Attributes:
        dimension: Its number in the encoder.
        bits: Bits that a value takes in the file; 0 without rows.
        entropy: Shannon entropy of its codes in bits; None where it was not counted.
        ratio: bits / entropy; None where that means nothing.
        step: Width of a step; None where nothing was rounded.
        max_error: Largest error of quantisation.
        relative_error: Root mean squared error of quantisation as a share of the posterior's standard deviation; None
            where that means nothing, as for a deviation of 0.
        posterior_variance: Mean posterior variance; None where it is not finite.
    """

    dimension: int
    bits: float
    entropy: float | None
    ratio: float | None
    step: float | None
    max_error: float
    relative_error: float | None
    posterior_variance: float | None


@dataclass(frozen=True, slots=True)
class LatentsDescription:
    """A latent file in numbers.

    Attributes:
        path: The file.
        rows: Number N of images.
        latent_dim: Number K of latent dimensions of the encoder.
        positions: Number P of positions of an image.
        dimensions: What each kept dimension costs.
        codec: How codes are packed.
        code_type: Type of the codes, as numpy calls it.
        distortion: Error of quantisation as a share of the posterior variance; None: not quantised.
        steps_from: What the steps follow.
        family: Law of the posterior.
        rule: Rule of the selection.
        threshold: Its threshold.
        encoder_sha256: Hash of the encoder.
        decoder_sha256: Hash of the decoder; None where none was named.
        codes_sha256: Hash of the codes.
        identifiers: `paths` or `row numbers`.
        labels: Name and kind of each label.
        classes: For each label, what its codes 0, 1 and so on are called; None where it holds numbers, empty where the
            file does not say.
        sources: The data sets.
        versions: Of the programs that made the latents.
        bytes: Size of the file.
        codes_bytes: Of its codes.
        identifiers_bytes: Of its identifiers.
        labels_bytes: Of its labels.
        bytes_per_image: All of it, by image; None without images.
        bytes_per_image_without_identifiers: The same less identifiers and labels.
        over_entropy: Size of the file less identifiers and labels, over the entropy of all codes; None where that is
            not known or 0.
    """

    path: str
    rows: int
    latent_dim: int
    positions: int
    dimensions: tuple[DimensionCost, ...]
    codec: str
    code_type: str
    distortion: float | None
    steps_from: str
    family: str
    rule: str
    threshold: float
    encoder_sha256: str
    decoder_sha256: str | None
    codes_sha256: str
    identifiers: str
    labels: tuple[tuple[str, str], ...]
    classes: tuple[ClassNames, ...]
    sources: tuple[DataSource, ...]
    versions: Mapping[str, str]
    bytes: int
    codes_bytes: int
    identifiers_bytes: int
    labels_bytes: int
    bytes_per_image: float | None
    bytes_per_image_without_identifiers: float | None
    over_entropy: float | None


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read and found to be what was written.

    Attributes:
        path: The file.
        rows: Number of rows, whose identifiers and labels were read too.
        columns: Number of columns of codes.
        labels: Number of labels.
        bytes: Size of the file.
        codes_sha256: Hash of the codes, which was compared.
    """

    path: str
    rows: int
    columns: int
    labels: int
    bytes: int
    codes_sha256: str


def describe_latents(latents: str | os.PathLike[str]) -> LatentsDescription:
    """What a latent file, or that of an output folder of select-latents, holds and costs; no code is decoded.

    Raises:
        RecordError: The file cannot be read.
    """
    with LatentFile(latents) as file:
        header, stored = file.header, file.storage()
        origin, coding = header.origin, header.coding
        costs = tuple(_cost(file, number, stored.bits[number]) for number in range(len(origin.dimensions)))
        rest = stored.file - stored.identifiers - stored.labels
        entropy = None if header.entropy is None else float(header.entropy.sum()) * len(file) * origin.positions / 8
        return LatentsDescription(
            path=str(file.path),
            rows=len(file),
            latent_dim=origin.latent_dim,
            positions=origin.positions,
            dimensions=costs,
            codec=header.codec,
            code_type=coding.dtype.name,
            distortion=origin.distortion,
            steps_from=origin.steps_from,
            family=origin.family,
            rule=origin.rule,
            threshold=origin.threshold,
            encoder_sha256=origin.encoder_sha256,
            decoder_sha256=origin.decoder_sha256,
            codes_sha256=header.codes_sha256,
            identifiers="row numbers" if file.identifiers_of(0, 0).dtype.kind == "i" else "paths",
            labels=header.factors,
            classes=header.classes,
            sources=origin.sources,
            versions=dict(origin.versions),
            bytes=stored.file,
            codes_bytes=stored.codes,
            identifiers_bytes=stored.identifiers,
            labels_bytes=stored.labels,
            bytes_per_image=stored.file / len(file) if len(file) else None,
            bytes_per_image_without_identifiers=rest / len(file) if len(file) else None,
            over_entropy=rest / entropy if entropy else None,
        )


def verify_latents(latents: str | os.PathLike[str]) -> Verified:
    """Read all of a latent file, each part of which has a checksum, and compare the hash of its codes.

    Raises:
        RecordError: It cannot be read, or is not what was written.
    """
    with LatentFile(latents) as file:
        file.verify()
        header = file.header
        size = file.storage().file
        return Verified(str(file.path), *file.shape, len(header.factors), size, header.codes_sha256)


def _cost(file: LatentFile, number: int, bits: float) -> DimensionCost:
    header = file.header
    entropy = None if header.entropy is None else float(header.entropy[number])
    variance = float(header.origin.posterior_variance[number])
    share = math.sqrt(header.mean_squared_error[number]) / math.sqrt(variance) if variance > 0 else math.inf
    return DimensionCost(
        dimension=header.origin.dimensions[number],
        bits=bits,
        entropy=entropy,
        ratio=bits / entropy if entropy else None,
        step=float(header.coding.step[number]) if header.coding.quantised else None,
        max_error=float(header.max_error[number]),
        relative_error=share if math.isfinite(share) else None,
        posterior_variance=variance if math.isfinite(variance) else None,
    )
