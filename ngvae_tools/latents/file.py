"""The latent file, format version 0: quantised posterior means of the informative dimensions in HDF5.

Version 0 makes no promise to later versions. Datasets: `codes` (N, d), `scale` (d,), `offset` (d,),
`dimensions` (d,), `posterior_variance` (d,), `identifiers` (N,). A value is offset + scale * code. Of a spatial
latent every position has its columns: d counts them all, and `dimensions` repeats for each position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.files import deferring_errors
from ngvae_tools.latents.codec import Array, Codes, UniformQuantiser

FORMAT = "ngvae-latents"
VERSION = 0
FILE_NAME = "latents.h5"

CHUNK_ROWS = 4096

Blocks = Iterable[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]
"""Values (n, d) and identifiers (n,) of consecutive rows."""


def write_latents(
    path: Path,
    blocks: Blocks,
    *,
    n_rows: int,
    quantiser: UniformQuantiser,
    dimensions: tuple[int, ...],
    posterior_variance: Array,
    identifier_type: np.dtype[Any],
    attributes: Mapping[str, str | float],
) -> None:
    """Write a latent file and read it back.

    Args:
        path: File to write; the caller renames it when this returns.
        blocks: Values (n, d) and identifiers (n,), in order.
        n_rows: Sum of all n.
        quantiser: Steps and offsets of the d dimensions.
        dimensions: Latent dimension of each column.
        posterior_variance: Mean posterior variance of each column, shape (d,).
        identifier_type: Type that holds all identifiers: int64 rows, or bytes of fixed length.
        attributes: Written to the file: hashes, family, rule.

    Raises:
        OSError: The disk refused it.
        OutputError: What was read back is not what was written.
    """
    import h5py

    width = len(dimensions)
    digest = hashlib.sha256()
    with (
        deferring_errors(path) as sink,
        h5py.File(sink, "w", libver=("v110", "v110"), track_order=True) as file,
    ):
        plain = {"track_times": False}
        packed = plain | {"compression": "gzip", "compression_opts": 4, "shuffle": True}
        rows = max(min(CHUNK_ROWS, n_rows), 1)
        if width and n_rows:
            codes = file.create_dataset("codes", (n_rows, width), quantiser.dtype, chunks=(rows, 1), **packed)
        else:
            codes = file.create_dataset("codes", (n_rows, width), quantiser.dtype, **plain)
        names = file.create_dataset("identifiers", (n_rows,), identifier_type, chunks=(rows,), **packed)
        for name, values in (
            ("scale", quantiser.step),
            ("offset", quantiser.offset),
            ("dimensions", np.asarray(dimensions, dtype=np.int64)),
            ("posterior_variance", posterior_variance),
        ):
            file.create_dataset(name, data=values, **plain)
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for key, value in attributes.items():
            file.attrs[key] = value
        start = 0
        for some_codes, some_names in _in_chunks(blocks, quantiser, rows, width, identifier_type):
            stop = start + len(some_names)
            if stop > n_rows:
                raise ValueError(f"blocks hold more than the {n_rows} rows that were announced")
            if width:
                codes[start:stop] = some_codes
            names[start:stop] = some_names
            sink.check()
            digest.update(some_codes.tobytes() + some_names.tobytes())
            start = stop
    if start != n_rows or digest.digest() != _digest(path):
        raise OutputError(
            f"{path} does not hold what was written",
            expected=f"{n_rows} rows with the checksum of the codes",
            found=f"{start} rows or other bytes",
            remedy="check the disk and run again",
        )


@dataclass(frozen=True, slots=True)
class LatentHeader:
    """What a latent file holds, without its rows.

    Attributes:
        n_rows: Number of rows N.
        dimensions: Latent dimension of each column, shape (d,).
        quantiser: Steps and offsets of the columns.
        encoder_sha256: Hash of the encoder that made it; None where the file does not say.
    """

    n_rows: int
    dimensions: npt.NDArray[np.int64]
    quantiser: UniformQuantiser
    encoder_sha256: str | None


def read_header(path: Path) -> LatentHeader:
    """What a latent file holds.

    Raises:
        RecordError: The file is not a latent file of this version.
    """
    with _opened(path) as (header, _):
        return header


def read_latents(path: Path) -> tuple[Array, npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values (N, d), identifiers (N,) and dimensions (d,) of a latent file.

    Raises:
        RecordError: The file is not a latent file of this version.
    """
    with _opened(path) as (header, file):
        return header.quantiser.decode(file["codes"][:]), file["identifiers"][:], header.dimensions


def iter_latents(path: Path, rows: int = 16 * CHUNK_ROWS) -> Iterator[tuple[Array, npt.NDArray[Any]]]:
    """Values (n, d) and identifiers (n,) of consecutive rows, at most `rows` at a time.

    Raises:
        RecordError: The file is not a latent file of this version.
    """
    start, n_rows = 0, read_header(path).n_rows
    while start < n_rows:
        # Opened for each part, so that no handle is held, and no error caught, while the caller works.
        with _opened(path) as (header, file):
            stop = min(start + rows, n_rows)
            values, names = header.quantiser.decode(file["codes"][start:stop]), file["identifiers"][start:stop]
        yield values, names
        start = stop


@contextmanager
def _opened(path: Path) -> Iterator[tuple[LatentHeader, Any]]:
    """The header and the HDF5 file, whose errors become a `RecordError`."""
    import h5py

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found = (file.attrs.get("format"), file.attrs.get("version"))
            if found != (FORMAT, VERSION):
                raise _unreadable(path, f"format {found[0]!r} version {found[1]!r}")
            quantiser = UniformQuantiser(file["scale"][:], file["offset"][:], 0)
            dimensions = file["dimensions"][:]
            (n_rows,), shape = file["identifiers"].shape, file["codes"].shape
            if shape != (n_rows, *dimensions.shape) or not quantiser.step.shape == quantiser.offset.shape == shape[1:]:
                raise _unreadable(
                    path, f"codes of shape {shape} for {n_rows} identifiers of {dimensions.size} dimensions"
                )
            encoder = file.attrs.get("encoder_sha256")
            yield LatentHeader(n_rows, dimensions, quantiser, None if encoder is None else str(encoder)), file
    # A damaged file makes h5py raise any of these.
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise _unreadable(path, str(error)) from None


def _in_chunks(
    blocks: Blocks, quantiser: UniformQuantiser, rows: int, width: int, identifier_type: np.dtype[Any]
) -> Iterator[tuple[Codes, npt.NDArray[Any]]]:
    """Codes and identifiers cut at multiples of `rows`, so that each chunk is compressed once.

    What is yielded is valid until the next step.
    """
    codes, names = np.empty((rows, width), quantiser.dtype), np.empty(rows, identifier_type)
    filled = 0
    for values, identifiers in blocks:
        start = 0
        while start < len(values):
            taken = min(rows - filled, len(values) - start)
            codes[filled : filled + taken] = quantiser.encode(values[start : start + taken])
            # "safe" refuses identifiers that would be cut.
            np.copyto(names[filled : filled + taken], identifiers[start : start + taken], casting="safe")
            start, filled = start + taken, filled + taken
            if filled == rows:
                yield codes, names
                filled = 0
    if filled:
        yield codes[:filled], names[:filled]


def _digest(path: Path) -> bytes:
    import h5py

    digest = hashlib.sha256()
    with h5py.File(path, "r", locking="best-effort") as file:
        codes, names = file["codes"], file["identifiers"]
        rows = max(min(CHUNK_ROWS, len(names)), 1)
        for start in range(0, len(names), rows):
            digest.update(codes[start : start + rows].tobytes() + names[start : start + rows].tobytes())
    return digest.digest()


def _unreadable(path: Path, found: str) -> RecordError:
    return RecordError(
        f"{path} is not a latent file that can be read",
        expected=f"an HDF5 file of format {FORMAT!r} version {VERSION}",
        found=found,
        remedy="write it again with select-latents of this version",
    )
