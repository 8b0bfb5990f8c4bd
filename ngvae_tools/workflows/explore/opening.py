"""Opening what the explorer shows: a latent file, and the decoder, encoder and images that belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import NgvaeToolsError, OptionError
from ngvae_tools.latents.reader import LatentFile, open_latents
from ngvae_tools.record import FILE_NAME, AnalysisRecord
from ngvae_tools.reporting.costs import doubt_of
from ngvae_tools.workflows.decoder_check import checked_by_images
from ngvae_tools.workflows.decoder_file import decoder_of_record
from ngvae_tools.workflows.decoding import OR_ANY, Decoding, open_decoding
from ngvae_tools.workflows.explore.explorer import Explorer
from ngvae_tools.workflows.image_encoder import ImageEncoder
from ngvae_tools.workflows.latent_sample import check_latents
from ngvae_tools.workflows.originals import Originals, is_there, places_of

PathLike = str | os.PathLike[str]


@contextmanager
def open_explorer(
    source: PathLike,
    *,
    decoder: PathLike | None = None,
    encoder: PathLike | None = None,
    data: PathLike | None = None,
    any_decoder: bool = False,
    device: str = "auto",
) -> Iterator[Explorer]:
    """Open an analysis to look around in.

    What is not named is taken from where the record and the latent file say that it was, if it is there and
    unchanged; what is named must be usable.

    Args:
        source: The output folder of select-latents, or a latent file.
        decoder: The decoder file, or the folder of a training run.
        encoder: The encoder that made the latents, or the folder of its run.
        data: The data set that the latents are of.
        any_decoder: Take a decoder that is not the one that the file names.
        device: Where decoder and encoder run.

    Raises:
        ContractError: A model cannot be used, or does not belong to the latents.
        DatasetError: The data set is not the one that the latents are of.
        OptionError: There is no decoder, or the latents are spatial.
        RecordError: The record or the latent file cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_latents(source, dtype=np.float64))
        positions = file.header.origin.positions
        if positions > 1:
            raise OptionError(
                "spatial latents cannot be explored",
                expected="a latent file with one value of each dimension for an image",
                found=f"one with {positions} positions",
                remedy="see them with: ngvae-tools reconstruct",
            )
        record = _record_of(Path(source), file)
        decoding = _decoding_of(file, record, decoder, any_decoder=any_decoder, device=device)
        notes: list[str] = []
        images = _encoder_of(file, record, encoder, device, notes)
        originals = _originals_of(file, data, stack, notes)
        if decoder is not None:
            decoding = checked_by_images(decoding, file, originals, otherwise=OR_ANY, any_decoder=any_decoder)
        notes[:0] = [*decoding.notes, *decoding.session.notes, *_doubts(record, decoding)]
        yield Explorer(file, decoding, record=record, encoder=images, originals=originals, notes=notes)


def _record_of(source: Path, file: LatentFile) -> AnalysisRecord | None:
    """The record of an output folder; None for a latent file alone."""
    if not (source / FILE_NAME).is_file():
        return None
    record = AnalysisRecord.read(source)
    check_latents(file.path, record)
    return record


def _decoding_of(
    file: LatentFile, record: AnalysisRecord | None, named: PathLike | None, *, any_decoder: bool, device: str
) -> Decoding:
    if named is not None:
        return open_decoding(Path(named), file, device=device, any_decoder=any_decoder, otherwise=OR_ANY)
    found, why = (None, "no record names one") if record is None else decoder_of_record(record, file, device=device)
    if found is None:
        raise OptionError(
            f"there is no decoder to explore {file.path} with",
            expected="a decoder file",
            found=f"none: {why}",
            remedy="pass --decoder",
        )
    return found


def _doubts(record: AnalysisRecord | None, decoding: Decoding) -> list[str]:
    """What the analysis itself found against the decoder."""
    measured = None if record is None else record.truncation
    if measured is None or measured.decoder_sha256 != decoding.session.sha256:
        return []
    return [doubt] if (doubt := doubt_of(measured)) else []


def _encoder_of(
    file: LatentFile, record: AnalysisRecord | None, named: PathLike | None, device: str, notes: list[str]
) -> ImageEncoder | None:
    if named is not None:
        return ImageEncoder(file, Path(named), device=device)
    if record is None or not is_there(Path(record.model.path)):
        notes.append("Images cannot be encoded, for the encoder is not at hand; pass --encoder.")
        return None
    try:
        return ImageEncoder(file, Path(record.model.path), device=device)
    except NgvaeToolsError as error:
        notes.append(f"Images cannot be encoded: {error}")
        return None


def _originals_of(file: LatentFile, named: PathLike | None, stack: ExitStack, notes: list[str]) -> Originals | None:
    try:
        originals = stack.enter_context(Originals(file, places_of(file, named)))
    except NgvaeToolsError as error:
        if named is not None:
            raise
        notes.append(f"Originals are not shown: {error}")
        return None
    if named is not None and (refused := originals.refusal(place_of(named))) is not None:
        raise refused
    if not originals:
        notes.append(f"Originals are not shown: {originals.why or 'the data set is not at hand; pass --data.'}")
        return None
    return originals
