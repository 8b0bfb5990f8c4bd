"""A selection that was made before: dimensions that the user names, or those of an earlier result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ngvae_tools.analysis.selection import given
from ngvae_tools.errors import OptionError
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.record import FILE_NAME, AnalysisRecord, Selection
from ngvae_tools.workflows.encoding_pass import model_info


def check_given(**options: object) -> None:
    """Refuse options that name the dimensions to keep twice.

    Raises:
        OptionError: More than one of dimensions, selection, and rule or threshold is given.
    """
    named = [f"--{name}" for name, value in options.items() if value is not None]
    if len(named) > 1 and set(named) != {"--rule", "--threshold"}:
        raise OptionError(
            "the dimensions to keep are named twice",
            expected="one of --dimensions, --selection, or --rule with --threshold",
            found=" and ".join(sorted(named)),
            remedy="leave out all but one",
        )


def earlier_record(selection: str | os.PathLike[str]) -> AnalysisRecord:
    """The record of an output folder of select-latents, or of the selection.json in it.

    Raises:
        RecordError: There is none that can be read.
    """
    path = Path(selection)
    return AnalysisRecord.read(path.parent if path.name == FILE_NAME else path)


def as_before(
    heads: HeadNames | None, input_options: InputOptions | None, earlier: AnalysisRecord | None
) -> tuple[HeadNames | None, InputOptions | None]:
    """How to read the model: as the user says, and where nothing is said as the earlier analysis did."""
    if earlier is None:
        return heads, input_options
    if heads in {None, HeadNames()}:
        heads = HeadNames(**earlier.model.heads)
    options = input_options or InputOptions()
    if earlier.model.input_range is not None and options.low is options.high is None:
        options = replace(options, low=earlier.model.input_range[0], high=earlier.model.input_range[1])
    return heads, options


def kept_before(
    session: EncoderSession, dimensions: Sequence[int] | None, earlier: AnalysisRecord | None
) -> tuple[Selection | None, tuple[str, ...]]:
    """The selection that was made before, and a sentence on where it comes from; None where a rule decides.

    Raises:
        OptionError: The dimensions do not fit, or the earlier selection is that of another encoder, or of the same
            read differently.
    """
    if dimensions is not None:
        return given(dimensions, session.latent_dim), ("The dimensions kept were named by the user.",)
    if earlier is None:
        return None, ()
    if earlier.model.sha256 != session.sha256:
        raise OptionError(
            "the earlier selection is that of another encoder",
            expected=f"an encoder with SHA-256 {earlier.model.sha256}",
            found=f"{session.path} with {session.sha256}",
            remedy="name the encoder that the selection was made with, or pass --dimensions",
        )
    now = model_info(session)
    if earlier.model.reading != now.reading:
        raise OptionError(
            "the earlier selection reads the encoder differently",
            expected=earlier.model.reading,
            found=now.reading,
            remedy="pass the same --spatial, --mu, --p, --logvar and --input-range as for that selection",
        )
    said = f"The dimensions kept were selected on {earlier.data.path}."
    return given(earlier.selection.indices, session.latent_dim), (said,)
