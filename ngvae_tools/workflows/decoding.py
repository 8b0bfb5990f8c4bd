"""A decoder opened for a latent file, and checked to be the one that belongs to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import ContractError
from ngvae_tools.inference.decoder import DecoderSession, OutputOptions
from ngvae_tools.latents.header import LatentOrigin
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.run import DECODER_NAME
from ngvae_tools.workflows.preprocessing import input_range_of

BATCH_IMAGES = 256
BATCH_BYTES = 2**25
"""Images that are decoded at once at most, and their bytes as float32."""

NAME_IT = "name that decoder"

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Decoding:
    """A decoder that fits a latent file.

    Attributes:
        session: The decoder.
        origin: Where the latents come from.
        kept_only: Whether it takes the kept dimensions alone.
        notes: What a reader must know.
    """

    session: DecoderSession
    origin: LatentOrigin
    kept_only: bool
    notes: tuple[str, ...] = ()

    def images(self, values: Floats) -> npt.NDArray[np.float32]:
        """Images (n, H, W, C), not clipped, for rows (n, d) of the kept dimensions, position by position."""
        origin = self.origin
        kept = values.reshape(len(values), origin.positions, len(origin.dimensions))
        if not self.kept_only:
            kept = expanded(kept, origin)
        # A spatial decoder takes each channel's positions together.
        return self.session.decode(kept.transpose(0, 2, 1).reshape(len(values), self.session.latent_dim))

    @property
    def batch(self) -> int:
        """Images that are decoded at once."""
        return max(1, min(BATCH_IMAGES, BATCH_BYTES // (4 * math.prod(self.session.image_shape))))


def expanded(kept: Floats, origin: LatentOrigin) -> Floats:
    """All latent dimensions (n, P, K) for those that are kept (n, P, d / P); the others are at their mean."""
    whole = np.empty((*kept.shape[:2], origin.latent_dim), kept.dtype)
    whole[:] = origin.fill
    whole[:, :, list(origin.dimensions)] = kept
    return whole


def open_decoding(
    path: Path, file: LatentFile, *, device: str, any_decoder: bool = False, remedy: str = NAME_IT
) -> Decoding:
    """Open a decoder and check that it is the one of a latent file.

    Args:
        path: The decoder file, or the folder of a training run.
        file: The latent file.
        device: Where the decoder runs.
        any_decoder: Take a decoder that is not the one that the file names.
        remedy: What to do where it is not.

    Raises:
        ContractError: It cannot be used, or is not that of the file.
    """
    path = path / DECODER_NAME if path.is_dir() else path
    origin = file.header.origin
    # A decoder from elsewhere is taken to return images in the range that its encoder takes.
    span = input_range_of(file.path, origin.preprocessing)
    options = None if span is None else OutputOptions(low=span[0], high=span[1])
    session = DecoderSession(path, device=device, output_options=options)
    kept, latent_dim, positions = len(origin.dimensions), origin.latent_dim, origin.positions
    own = None if session.metadata is None else session.metadata.kept
    kept_only = session.latent_dim != latent_dim * positions
    if kept_only and (session.latent_dim != kept * positions or own not in {None, origin.dimensions}):
        at = f" at each of {positions} positions" if positions > 1 else ""
        raise ContractError(
            f"the decoder {path} does not fit the latent file {file.path}",
            expected=f"a decoder of {latent_dim} latent dimensions{at}, or of the {kept} that are kept",
            found=f"{session.latent_dim} in all" + ("" if own is None else f", the dimensions {own} of a whole model"),
            remedy="name the decoder that was trained together with the encoder",
        )
    expected = origin.decoder_sha256
    if expected is None:
        return Decoding(
            session,
            origin,
            kept_only,
            ("The latent file does not say which decoder belongs to it; only the number of dimensions was checked.",),
        )
    if session.sha256 == expected:
        return Decoding(session, origin, kept_only)
    if not any_decoder:
        raise ContractError(
            f"the decoder {path} is not the one that the latent file {file.path} was written for",
            expected=f"a decoder with SHA-256 {expected[:12]}...",
            found=f"{session.sha256[:12]}...",
            remedy=remedy,
        )
    note = "The decoder is another than the one that the latent file was written for, as --any-decoder allows."
    return Decoding(session, origin, kept_only, (note,))
