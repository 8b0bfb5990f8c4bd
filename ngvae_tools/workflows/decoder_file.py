"""The decoder that an analysis tells of, found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ngvae_tools.errors import ContractError, MissingDependencyError
from ngvae_tools.files import sha256_of
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.reporting.words import plain
from ngvae_tools.run import CONFIG_NAME, DECODER_NAME, is_run_config
from ngvae_tools.workflows.decoding import Decoding, open_decoding
from ngvae_tools.workflows.originals import is_there


def decoder_of_record(record: AnalysisRecord, file: LatentFile, *, device: str) -> tuple[Decoding | None, str]:
    """The decoder where the record says that it was, or beside its encoder; else why there is none, in words.

    A record's word alone does not make a decoder the right one: its hash does, or that of the encoder in its run.

    Raises:
        DeviceError: The device cannot run it.
    """
    known = record.truncation is not None or file.header.origin.decoder_sha256 is not None
    places = [path for path in _places(record) if is_there(path)]
    if not known and not _in_run_of(record):
        return None, "no decoder is known"
    if not places:
        named = Path(DECODER_NAME) if record.truncation is None else record.truncation.decoder
        return None, f"the decoder {plain(named)} is not there"
    why = ""
    for place in places:
        try:
            return open_decoding(place, file, device=device), ""
        except ContractError as error:
            why = why or f"{plain(error.problem)} (expected {plain(error.expected)}, found {plain(error.found)})"
        except MissingDependencyError as error:
            # A page is made without onnxruntime, too.
            why = why or f"{error.problem} ({error.remedy})"
    return None, why


def _places(record: AnalysisRecord) -> Iterator[Path]:
    beside = Path(record.model.path).parent
    if record.truncation is not None:
        named = Path(record.truncation.decoder)
        yield named
        # It was named from the folder that the command ran in.
        if beside / named.name != named:
            yield beside / named.name
    else:
        yield beside / DECODER_NAME


def _in_run_of(record: AnalysisRecord) -> bool:
    """Whether the encoder lies, unchanged, in the folder of a training run."""
    encoder = Path(record.model.path)
    config = encoder.parent / CONFIG_NAME
    if not (is_there(encoder) and is_there(config) and is_run_config(config)):
        return False
    try:
        return sha256_of(encoder) == record.model.sha256
    except OSError:
        return False
