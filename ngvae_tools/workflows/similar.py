"""Images that are near a given one among the latents of a file."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import (
    MissingDependencyError,
    OptionError,
    UnknownIdentifierError,
)
from ngvae_tools.latents.neighbour_index import IndexBuilt, NeighbourIndex, build_index, index_path
from ngvae_tools.latents.neighbours import Neighbours, checked_queries, nearest
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.image_encoder import ImageEncoder


@dataclass(frozen=True, slots=True)
class SimilarImage:
    """An image that was found.

    Attributes:
        identifier: Its relative path as text, bytes that are not UTF-8 as surrogate escapes, or its row number in the
            data set.
        row: Its row in the latent file.
        distance: How far its latents are, in standard deviations of the posterior's noise.
    """

    identifier: str | int
    row: int
    distance: float


@dataclass(frozen=True, slots=True)
class SimilarImages:
    """What was found.

    Attributes:
        latents: The latent file.
        query: The image that was looked for.
        row: Its row in the latent file; None: it was encoded now.
        indexed: Whether an index was used, which may miss some; else all images were compared.
        images: Those nearest to it, nearest first, without itself.
        notes: A sentence for each thing that was assumed.
    """

    latents: str
    query: str
    row: int | None
    indexed: bool
    images: tuple[SimilarImage, ...]
    notes: tuple[str, ...] = ()


def similar(
    latents: str | os.PathLike[str],
    image: str | int | os.PathLike[str],
    *,
    encoder: str | os.PathLike[str] | None = None,
    count: int = 10,
    exact: bool = False,
    device: str = "auto",
) -> SimilarImages:
    """The images of a latent file that are nearest to one of them, or to an image file.

    An index beside the latent file is used where there is one that belongs to it.

    Args:
        latents: A latent file, or the output folder of select-latents.
        image: An identifier of the latent file; else the path of an image.
        encoder: The encoder that made the latents, or its run; needed for an image that is not among them.
        count: How many images.
        exact: Compare with all images, although there is an index.
        device: Device of the encoder: `auto`, `cpu`, `cuda` or `tensorrt`.

    Raises:
        UnknownIdentifierError: The image is neither an identifier nor a file.
        OptionError: The encoder is missing, or the count is below 1.
        ContractError: The encoder is another one, or cannot be used.
        DatasetError: The image cannot be read or encoded.
        RecordError: The latent file cannot be read, or its index is that of other latents.

    Example:
        >>> from ngvae_tools import similar
        >>> [found.identifier for found in similar("OUT", "cats/17.png", count=2).images]  # doctest: +SKIP
        ['cats/18.png', 'cats/4.png']
    """
    with LatentFile(latents) as file:
        row, name = _row_of(file, image), str(image)
        notes: tuple[str, ...] = ()
        if row is not None:
            query = file[row][None]
        else:
            if encoder is None:
                raise OptionError(
                    f"{name} is not among the latents of {file.path}",
                    expected="the encoder that made them, to encode it",
                    found="none",
                    remedy="pass --encoder",
                )
            images = ImageEncoder(file, Path(encoder), device=device)
            query, notes = images.encode(images.opened(Path(name)), name)
        checked_queries(file, query, count)
        # One more, for the image itself is its own nearest.
        wanted = count if row is None else count + 1
        found, indexed, said = _searched(file, query, wanted, exact=exact)
        near = [
            # A number even where the distance overflows, for JSON has no infinity.
            SimilarImage(_identifier(file, int(other)), int(other), min(float(distance), sys.float_info.max))
            for other, distance in zip(found.rows[0], found.distances[0], strict=True)
            if other != row
        ]
        return SimilarImages(str(file.path), name, row, indexed, tuple(near[:count]), (*notes, *said))


def index_latents(latents: str | os.PathLike[str], *, overwrite: bool = False) -> IndexBuilt:
    """Build the index of a latent file, `latents.h5.index` beside it, with which `similar` searches millions faster.

    Raises:
        MissingDependencyError: faiss is not installed.
        OptionError: There is nothing to index.
        OutputError: There is an index already, or it cannot be written.
        RecordError: The latent file cannot be read.
    """
    with LatentFile(latents) as file:
        return build_index(file, overwrite=overwrite)


def _row_of(file: LatentFile, image: str | int | os.PathLike[str]) -> int | None:
    """The row of an identifier; None for the path of a file that is none.

    Raises:
        UnknownIdentifierError: It is neither.
    """
    try:
        return int(file.row_of(image))
    except UnknownIdentifierError as error:
        # Unlike that of `Path`, this finds no fault with names that are too long.
        if isinstance(image, int | np.integer) or not os.path.isfile(image):  # noqa: PTH113
            raise UnknownIdentifierError(
                error.problem,
                expected=f"{error.expected}, or the path of an image",
                found="neither",
                remedy="correct it; `ngvae-tools latents export` writes all identifiers",
            ) from None
        return None


def _searched(
    file: LatentFile, query: npt.NDArray[np.floating[Any]], count: int, *, exact: bool
) -> tuple[Neighbours, bool, tuple[str, ...]]:
    """What was found, and whether with the index."""
    said: tuple[str, ...] = ()
    if not exact and index_path(file).exists():
        try:
            return NeighbourIndex(file).nearest(query, count), True, ()
        except MissingDependencyError as error:
            said = (f"The index was not used: {error}",)
    return nearest(file, query, count), False, said


def _identifier(file: LatentFile, row: int) -> str | int:
    name = file.identifiers_of(row, row + 1)[0]
    return os.fsdecode(name) if isinstance(name, bytes) else int(name)
