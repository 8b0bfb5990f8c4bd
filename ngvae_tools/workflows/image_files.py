"""Writing decoded images: a folder of PNGs, or an HDF5 file; whole, or not under the final name at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.files import deferring_errors, replacing, replacing_folder

HDF5_ENDINGS = (".h5", ".hdf5")

CHUNK_BYTES = 2**20
"""Bytes of a chunk of images in HDF5, about."""

PNG_CHANNELS = (1, 2, 3, 4)

IMAGE_ENDINGS = (b".png", b".jpg", b".jpeg", b".tif", b".tiff", b".bmp", b".webp", b".gif", b".jp2", b".pgm", b".ppm")
"""Endings that `.png` takes the place of; after any other it is added."""

Blocks = Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]
"""Images on [0, 1], shape (n, H, W, C), and their identifiers, shape (n,)."""


def to_bytes(images: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Images clipped to [0, 1], times 255, rounded."""
    return np.asarray(np.rint(np.clip(images, 0, 1) * np.float32(255)).astype(np.uint8))


def write_hdf5(path: Path, blocks: Blocks, count: int, image_shape: tuple[int, int, int], *, as_float: bool) -> None:
    """Write `images` (N, H, W, C), uint8 or float32, and `identifiers` (N,).

    Raises:
        OutputError: The file cannot be written.
    """
    import h5py

    dtype = np.dtype(np.float32 if as_float else np.uint8)
    rows = max(1, CHUNK_BYTES // (int(np.prod(image_shape)) * dtype.itemsize))
    with replacing(path) as part, deferring_errors(part) as disk, h5py.File(disk, "w") as file:
        chunks = (min(rows, count), *image_shape) if count else None
        images = file.create_dataset(
            "images", (count, *image_shape), dtype, chunks=chunks, compression="gzip" if count else None
        )
        names, start = None, 0
        # Whole chunks at a time: half of one would be packed twice.
        for block, identifiers in _regrouped(blocks, rows):
            if names is None:
                names = file.create_dataset("identifiers", (count,), identifiers.dtype)
            stop = start + len(block)
            images[start:stop] = np.clip(block, 0, 1) if as_float else to_bytes(block)
            names[start:stop] = identifiers
            start = stop
            disk.check()
        if names is None:
            file.create_dataset("identifiers", (0,), np.int64)


def write_folder(path: Path, blocks: Blocks, *, overwrite: bool) -> None:
    """Write a PNG for each image, named by its identifier.

    Raises:
        OutputError: The folder cannot be written, or holds something else than such images.
        RecordError: An identifier would name a place outside the folder, or the place of another image.
    """
    with replacing_folder(path, lambda there: _check_replaceable(there, overwrite=overwrite)) as part:
        for block, identifiers in blocks:
            for image, identifier in zip(to_bytes(block), identifiers.tolist(), strict=True):
                _write_png(part, image, identifier)


def file_names(identifier: bytes | int) -> tuple[bytes, ...]:
    """Relative paths that an image may have, the first that is free: `a.jpg` is `a.png`, else `a.jpg.png`.

    Raises:
        RecordError: The identifier names no place inside the folder.
    """
    if isinstance(identifier, int):
        if identifier >= 0:
            return (b"%06d.png" % identifier,)
        raise _unsafe(identifier)
    forbidden = (b"\0", b"\\", b":") if os.name == "nt" else (b"\0",)
    if any(part in {b"", b".", b".."} for part in identifier.split(b"/")) or any(c in identifier for c in forbidden):
        raise _unsafe(identifier)
    stem, ending = os.path.splitext(identifier)  # noqa: PTH122 - bytes, which pathlib does not take
    if ending == b".png":
        return (identifier, identifier + b".png")
    added = identifier + b".png"
    return (stem + b".png", added) if ending.lower() in IMAGE_ENDINGS else (added,)


def _write_png(folder: Path, image: npt.NDArray[np.uint8], identifier: bytes | int) -> None:
    from PIL import Image

    for name in file_names(identifier):
        place = folder / os.fsdecode(name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            file = place.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        with file:
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "PNG")
        return
    raise RecordError(
        f"the image {identifier!r} cannot have a file of its own",
        expected="identifiers whose file names differ",
        found="another image, or a folder, at that place",
        remedy="write an HDF5 file instead: --output FILE.h5",
    )


def _check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Only a folder of PNGs is replaced: --overwrite with a wrong name must not remove anything else."""
    found = "a file" if path.is_symlink() or not path.is_dir() else None
    if found is None:
        others = (place for top, _, files in os.walk(path) for place in files if not place.endswith(".png"))
        found = next((f"a folder that holds {name}, too" for name in others), None)
    if overwrite and found is None:
        return
    raise OutputError(
        f"{path} already exists",
        expected="an unused name" if not overwrite else "a folder that holds PNG files alone",
        found=found or "a folder",
        remedy="name another place" + ("" if found else ", or pass --overwrite to replace it"),
    )


def _regrouped(blocks: Blocks, rows: int) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]:
    """The same images in blocks of `rows`, the last one shorter."""
    waiting: list[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]] = []
    count = 0
    for block in blocks:
        waiting.append(block)
        count += len(block[0])
        if count >= rows:
            images, names = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
            whole = count - count % rows
            yield images[:whole], names[:whole]
            waiting, count = [(images[whole:], names[whole:])], count - whole
    if count:
        images, names = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        yield images, names


def _unsafe(identifier: bytes | int) -> RecordError:
    return RecordError(
        f"the identifier {identifier!r} cannot name a file in the output folder",
        expected="a relative path that stays in the folder, or a row number",
        found="another name",
        remedy="write an HDF5 file instead: --output FILE.h5",
    )
