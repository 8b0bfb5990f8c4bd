"""A bounded sample of a latent file's rows, chosen by identifier, so that files of the same images agree on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.comparisons import StoredRows
from ngvae_tools.analysis.sample import Sampler
from ngvae_tools.errors import RecordError
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.record import AnalysisRecord

ROWS = 20_000
"""Rows of a sample at most: a Kolmogorov-Smirnov distance is then known to 0.02."""


def check_latents(path: Path, record: AnalysisRecord) -> None:
    """Refuse a latent file that is not the one its record tells of.

    Raises:
        RecordError: The file cannot be read, or holds another encoder's latents, other dimensions or other rows.
    """
    with open_latents(path) as file:
        header = file.header
    rows = record.data.n_images - record.data.n_rejected
    expected = (record.latents.dimensions, record.model.positions, rows)
    found = (header.origin.dimensions, header.origin.positions, header.n_rows)
    if found != expected or header.origin.encoder_sha256 != record.model.sha256:
        raise RecordError(
            f"{path} does not belong to the record beside it",
            expected=f"{rows} rows of dimensions {list(expected[0])} of the record's encoder",
            found=f"{found[2]} rows of dimensions {list(found[0])}, or those of another encoder",
            remedy="make both again with select-latents",
        )


def sample_latents(path: Path, positions: int = 1, rows: int = ROWS) -> tuple[StoredRows, npt.NDArray[np.int64]]:
    """A sample of a latent file and a number for each row that tells its image; both in the order of that number.

    Images are drawn by a hash of their identifier: the sample of a file is the same in any order, and files of the
    same images with few rejected ones share most of their samples. Of an image with many positions one is drawn.

    Raises:
        RecordError: The file is not a latent file of this version.
    """
    with open_latents(path, dtype=np.float64) as file:
        dimensions = file.header.origin.dimensions
        step = file.header.coding.step[: len(dimensions)]
        if not len(file):
            return StoredRows(dimensions, step, np.empty((0, len(dimensions)))), np.empty(0, np.int64)
        sampler = Sampler(rows)
        for values, identifiers in file.chunks():
            image = image_numbers(identifiers)
            drawn = (image.view(np.uint64) % np.uint64(positions)).astype(np.int64)
            by_position = values.reshape(len(image), positions, len(dimensions))
            sampler.add(image, by_position[np.arange(len(image)), drawn].astype(np.float32), None)
    found = sampler.sample()
    return StoredRows(dimensions, step, found.mu.astype(np.float64)), found.row


def image_numbers(identifiers: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A number for each identifier, the same in every file: FNV-1a over the bytes of a name, mixed; int64 (n,)."""
    if identifiers.dtype.kind == "S":
        prime, value = np.uint64(0x100000001B3), np.full(len(identifiers), 0xCBF29CE484222325, np.uint64)
        letters = np.ascontiguousarray(identifiers).view(np.uint8).reshape(len(identifiers), -1)
        for column in letters.T:
            # A zero byte pads a short name, more of it where another file holds longer ones.
            value = np.where(column == 0, value, (value ^ column) * prime)
    else:
        value = identifiers.astype(np.uint64)
    value = (value + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31))).view(np.int64)
