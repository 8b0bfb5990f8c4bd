"""The latent file, format version 0: quantised posterior means of the informative dimensions in HDF5.

Version 0 makes no promise to later versions. Datasets: `codes` (N, d), `scale` (d,), `offset` (d,), `dimensions`
(d,), `posterior_variance` (d,), `identifiers` (N,). A value is offset + scale * code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.latents.codec import Array, UniformQuantiser

FORMAT = "ngvae-latents"
VERSION = 0
FILE_NAME = "latents.h5"

CHUNK_ROWS = 4096


def write_latents(
    path: Path,
    blocks: Iterable[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]],
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
        identifier_type: Type of the identifiers: int64 rows, or bytes of fixed length.
        attributes: Written to the file: hashes, family, rule.

    Raises:
        OutputError: What was read back is not what was written.
    """
    import h5py

    width = len(dimensions)
    digest = hashlib.sha256()
    with h5py.File(path, "w", libver=("v110", "v110"), track_order=True) as file:
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
        for values, identifiers in _in_chunks(blocks, rows):
            block = quantiser.encode(values)
            stop = start + len(block)
            if width:
                codes[start:stop] = block
            names[start:stop] = identifiers
            digest.update(block.tobytes() + identifiers.tobytes())
            start = stop
    if start != n_rows or digest.digest() != _digest(path):
        raise OutputError(
            f"{path} does not hold what was written",
            expected=f"{n_rows} rows with the checksum of the codes",
            found=f"{start} rows or other bytes",
            remedy="check the disk and run again",
        )


def read_latents(path: Path) -> tuple[Array, npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values (N, d), identifiers (N,) and dimensions (d,) of a latent file.

    Raises:
        RecordError: The file is not a latent file of this version.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found = (file.attrs.get("format"), file.attrs.get("version"))
            if found != (FORMAT, VERSION):
                raise _unreadable(path, f"format {found[0]!r} version {found[1]!r}")
            quantiser = UniformQuantiser(file["scale"][:], file["offset"][:], 0)
            return quantiser.decode(file["codes"][:]), file["identifiers"][:], file["dimensions"][:]
    except (OSError, KeyError, ValueError) as error:
        raise _unreadable(path, str(error)) from None


def _in_chunks(
    blocks: Iterable[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]], rows: int
) -> Iterable[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]:
    """The same rows cut at multiples of the chunk, so that each chunk is compressed once."""
    pending: list[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]] = []
    held = 0
    for values, identifiers in blocks:
        pending.append((values, identifiers))
        held += len(values)
        while held >= rows:
            all_values, all_names = (np.concatenate(part) for part in zip(*pending, strict=True))
            yield all_values[:rows], all_names[:rows]
            pending = [(all_values[rows:], all_names[rows:])]
            held -= rows
    if held:
        yield np.concatenate([v for v, _ in pending]), np.concatenate([n for _, n in pending])


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
