"""A decoder opened for a latent file, and checked to be the one that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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

OR_ANY = ", or pass --any-decoder to take this one"
OR_ANALYSE = ", or run select-latents with --decoder and --any-decoder, after which this one is known by its hash"
"""What else to do where a decoder is not the one that belongs to latents."""

APART = "The decoder says that it was not trained together with the encoder, as --any-decoder allows."
"""What a reader must know of a decoder that was taken in spite of `refusal_of`."""

_TOLD = {
    "samples": "samples of",
    "data": "data with the fingerprint",
    "weights": "a model whose weights have the SHA-256",
}

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Decoding:
    """A decoder that fits a latent file.

    Attributes:
        session: The decoder.
        origin: Where the latents come from.
        kept_only: Whether it takes the kept dimensions alone.
        known: Whether it is known to belong to the latents, or was asked for all the same.
        notes: What a reader must know.
    """

    session: DecoderSession
    origin: LatentOrigin
    kept_only: bool
    known: bool = True
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
    path: Path, file: LatentFile, *, device: str, any_decoder: bool = False, otherwise: str = ""
) -> Decoding:
    """Open a decoder and check that it is the one of a latent file.

    Its hash says so where the latents were made with a decoder. Else encoder and decoder may say that one training made
    them, or two; where they do not, the decoding is not `known`, and images can tell (`decoder_check`).

    Args:
        path: The decoder file, or the folder of a training run.
        file: The latent file.
        device: Where the decoder runs.
        any_decoder: Take a decoder that is not the one that belongs to the file.
        otherwise: What to do where it is not, besides naming another.

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
    if origin.decoder_sha256 is None:
        return _by_training(Decoding(session, origin, kept_only), file, otherwise, any_decoder=any_decoder)
    if session.sha256 == origin.decoder_sha256:
        return Decoding(session, origin, kept_only)
    refusal = ContractError(
        f"the decoder {path} is not the one that the latent file {file.path} was written for",
        expected=f"a decoder with SHA-256 {origin.decoder_sha256[:12]}...",
        found=f"{session.sha256[:12]}...",
        remedy=f"name that decoder{otherwise}",
    )
    note = "The decoder is another than the one that the latent file was written for, as --any-decoder allows."
    return _another(Decoding(session, origin, kept_only), refusal, note, any_decoder=any_decoder)


def refusal_of(
    session: DecoderSession, trained: Mapping[str, str], encoder: str, otherwise: str
) -> ContractError | None:
    """Why a decoder is known to be of another training than an encoder; None: nothing says so.

    Args:
        session: The decoder.
        trained: What the encoder says of its training, as `ModelMetadata.trained`.
        encoder: The encoder, in words.
        otherwise: What to do besides naming another decoder.
    """
    own = session.trained
    name = next((name for name in _TOLD if name in own and trained.get(name, own[name]) != own[name]), None)
    if name is None:
        return None
    expected, found = (value if name == "samples" else f"{value[:12]}..." for value in (trained[name], own[name]))
    return ContractError(
        f"the decoder {session.path} was not trained together with {encoder}",
        expected=f"{_TOLD[name]} {expected}, as the encoder says",
        found=found,
        remedy=f"name the decoder that was{otherwise}",
    )


def _by_training(decoding: Decoding, file: LatentFile, otherwise: str, *, any_decoder: bool) -> Decoding:
    """Judge a decoder by what it and the encoder say of their training.

    Raises:
        ContractError: They were trained apart.
    """
    session, trained = decoding.session, decoding.origin.trained
    refusal = refusal_of(session, trained, f"the encoder of {file.path}", otherwise)
    if refusal is not None:
        return _another(decoding, refusal, APART, any_decoder=any_decoder)
    return decoding if "weights" in session.trained and "weights" in trained else replace(decoding, known=False)


def _another(decoding: Decoding, refusal: ContractError, note: str, *, any_decoder: bool) -> Decoding:
    """A decoder that does not belong to the latents: refused, or taken with a note."""
    if not any_decoder:
        raise refusal
    return replace(decoding, notes=(note,))
