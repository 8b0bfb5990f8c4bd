"""Writing decoded images: a folder of PNGs, or an HDF5 file; whole, or not under the final name at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import RecordError
from ngvae_tools.files import deferring_errors, refuse_foreign, replacing, replacing_folder, unlisted

HDF5_ENDINGS = (".h5", ".hdf5")

CHUNK_BYTES = 2**20
"""Bytes of a chunk of images in HDF5, about."""

PNG_CHANNELS = (1, 2, 3, 4)

IMAGE_ENDINGS = (b".png", b".jpg", b".jpeg", b".tif", b".tiff", b".bmp", b".webp", b".gif", b".jp2", b".pgm", b".ppm")
"""Endings that `.png` takes the place of; after any other it is added."""

LIST_NAME = ".ngvae-tools-images"
"""In a folder of images, the list of those that were written, so that nothing else is ever replaced.

The first line is `LIST_HEAD`, each other one a relative path with "/" as JSON, in ASCII.
"""

LIST_HEAD = json.dumps({"format": "ngvae-tools/images", "version": 1})

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
    """Write a PNG for each image, named by its identifier, and a list of them.

    Raises:
        OutputError: The folder cannot be written, or something is there that `refuse_images` refuses.
        RecordError: An identifier would name a place outside the folder, or the place of another image.
    """
    with (
        replacing_folder(path, lambda there: refuse_images(there, overwrite=overwrite)) as part,
        (part / LIST_NAME).open("w", encoding="ascii") as names,
    ):
        print(LIST_HEAD, file=names)
        for block, identifiers in blocks:
            for image, identifier in zip(to_bytes(block), identifiers.tolist(), strict=True):
                print(json.dumps(os.fsdecode(_write_png(part, image, identifier))), file=names)


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


def _write_png(folder: Path, image: npt.NDArray[np.uint8], identifier: bytes | int) -> bytes:
    """Write an image, and return its relative path."""
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
        return name
    raise RecordError(
        f"the image {identifier!r} cannot have a file of its own",
        expected="identifiers whose file names differ",
        found="another image, or a folder, at that place",
        remedy="write an HDF5 file instead: --output FILE.h5",
    )


def refuse_images(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where something is; with `overwrite`, all but a folder that holds only images of `write_folder`.

    Raises:
        OutputError: Something is there that may not be replaced.
    """
    refuse_foreign(
        path,
        lambda there: unlisted(there, LIST_NAME, _listed, "the images that reconstruct wrote"),
        overwrite=overwrite,
        own="a folder of images",
        allowed="a folder that holds only images of reconstruct",
    )


def _listed(path: Path) -> list[str] | None:
    """The images that a list names; None: it is no such list."""
    lines = path.read_text(encoding="ascii").splitlines()
    return [str(json.loads(line)) for line in lines[1:]] if lines[:1] == [LIST_HEAD] else None


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
