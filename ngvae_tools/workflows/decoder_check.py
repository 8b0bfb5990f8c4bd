"""Whether a decoder belongs to latents, told by images: where neither its hash nor its training says so."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets.base import evenly_spaced
from ngvae_tools.errors import ContractError, DatasetError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.decoding import Decoding
from ngvae_tools.workflows.originals import Originals
from ngvae_tools.workflows.thumbnails import scaled
from ngvae_tools.workflows.truncation import SAMPLE_BYTES, scale_of

SAMPLE_IMAGES = 64
"""Images that are decoded at most."""

LEAST_IMAGES = 8
"""Fewer images tell nothing: the mean of very few is close to each of them."""

UNTOLD = "The latent file does not say which decoder belongs to it"


def checked_by_images(
    decoding: Decoding,
    file: LatentFile,
    originals: Originals | None,
    *,
    otherwise: str = "",
    any_decoder: bool = False,
) -> Decoding:
    """A decoding that is not known, with a note on what its images say, which make it known; any other as it is.

    As select-latents judges a decoder: its error must be below that of the mean image, and below that without any
    dimension.

    Args:
        decoding: The decoder.
        file: The latent file.
        originals: Its images, as many as are at hand; None: none are.
        otherwise: What to do where it does not belong, besides naming another.
        any_decoder: Take it all the same.

    Raises:
        ContractError: Its images are no better than the mean image.
    """
    if decoding.known:
        return decoding
    found = _errors(decoding, file, originals) if originals else None
    if found is None:
        unsure = f"{UNTOLD}; only the number of dimensions was checked."
        return replace(decoding, notes=(*decoding.notes, unsure))
    images, error, least = found
    if error < least:
        note = f"{UNTOLD}; on {images} images its error is {error:.3g}, the mean image's {least:.3g}."
    elif any_decoder:
        note = f"On {images} images the decoder's error is {error:.3g}, no better than the mean image's {least:.3g}."
    else:
        raise ContractError(
            f"the decoder {decoding.session.path} does not belong to the latent file {file.path}",
            expected=f"an error on {images} of its images below the {least:.3g} of their mean image",
            found=f"{error:.3g}",
            remedy=f"name the decoder that was trained together with the encoder{otherwise}",
        )
    return replace(decoding, known=True, notes=(*decoding.notes, note))


def _errors(decoding: Decoding, file: LatentFile, originals: Originals) -> tuple[int, float, float] | None:
    """Images decoded, their mean squared error, and what it must stay below; None where that cannot be told."""
    shape = decoding.session.image_shape
    if not file.shape[1] or shape != originals.how.image_shape:
        return None
    floats = originals.how.float_range if originals.dataset.dtype.kind == "f" else None
    scale = scale_of(decoding.session, originals.dataset, None if floats is None else InputScale(*floats))
    room = max(1, min(SAMPLE_IMAGES, SAMPLE_BYTES // (4 * math.prod(shape))))
    rows = np.array(evenly_spaced(len(file), room), np.int64)
    try:
        pieces = [(own, scaled(samples, scale)) for own, samples in originals.read(rows)]
    except DatasetError:
        return None
    if sum(len(own) for own, _ in pieces) < LEAST_IMAGES:
        return None
    read = np.concatenate([own for own, _ in pieces])
    images = np.concatenate([samples for _, samples in pieces])
    spread = float(images.var(axis=0).mean())
    if spread == 0:
        return None
    origin = decoding.origin
    resting = np.tile(origin.fill[list(origin.dimensions)], origin.positions)[None]

    def error(decoded: npt.NDArray[np.float32]) -> float:
        return float(((np.clip(decoded, 0, 1) - images) ** 2).mean())

    step = decoding.batch
    decoded = np.concatenate([decoding.images(file[read[i : i + step]]) for i in range(0, len(read), step)])
    return len(read), error(decoded), min(spread, error(decoding.images(resting)))
