"""The command that would make an analysis again, put together from its record; stdlib only."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ngvae_tools.record import REPLICATES
from ngvae_tools.reporting.rules import GIVEN
from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord

LEGEND = (
    "Put together from the record, which does not hold the command that was typed. Left out is what does not change "
    "the result, such as workers, and how outputs of a model from elsewhere were named."
)


def equivalent(record: AnalysisRecord) -> str:
    """`ngvae-tools select-latents` with the model, the data and the choices of the record."""
    words = ["ngvae-tools", "select-latents", record.model.path, record.data.path]
    for option, value in _choices(record):
        words += [option] if value is None else [option, value]
    return plain(shlex.join(words))


def _choices(record: AnalysisRecord) -> list[tuple[str, str | None]]:
    """Options and their values; None for an option without one."""
    return [*_selecting(record), *_storing(record), *_measuring(record), *_reading(record)]


def _selecting(record: AnalysisRecord) -> list[tuple[str, str | None]]:
    chosen = record.selection
    if chosen.rule == GIVEN:
        return [("--dimensions", ",".join(map(str, chosen.indices)))]
    return [("--rule", chosen.rule), ("--threshold", repr(chosen.threshold))]


def _storing(record: AnalysisRecord) -> list[tuple[str, str | None]]:
    latents = record.latents
    lossless = latents.distortion is None
    found: list[tuple[str, str | None]] = [
        ("--lossless", None) if lossless else ("--distortion", repr(latents.distortion))
    ]
    if latents.dimensions != record.selection.indices:
        found.append(("--keep", "all"))
    if latents.codec != "deflate":
        found.append(("--codec", latents.codec))
    return found


def _measuring(record: AnalysisRecord) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    replicates = 0 if record.bootstrap is None else record.bootstrap.replicates
    if replicates != REPLICATES:
        found.append(("--bootstrap", str(replicates)))
    if record.truncation is not None:
        found.append(("--decoder", record.truncation.decoder))
        # The record's notes alone say that it was needed.
        if any("--any-decoder" in note for note in record.notes):
            found.append(("--any-decoder", None))
    if record.reconstruction is not None:
        found.append(("--verify", None))
    if record.supervised is not None:
        own = record.supervised.source.startswith(record.data.path)
        found.append(("--labels", "auto" if own else record.supervised.source))
    return found


def _reading(record: AnalysisRecord) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    if record.data.resize is not None:
        found.append(("--resize", record.data.resize))
    if record.model.input_range is not None:
        found.append(("--input-range", "{!r},{!r}".format(*record.model.input_range)))
    return found
