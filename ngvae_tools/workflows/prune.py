"""prune: encoder and decoder files that have the informative dimensions only."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ngvae_tools.errors import OptionError, RecordError
from ngvae_tools.files import output_errors, refuse_existing, replacing
from ngvae_tools.inference.heads import HeadNames
from ngvae_tools.inference.inputs import InputOptions
from ngvae_tools.inference.onnx_file import read_bytes, read_model
from ngvae_tools.record import FILE_NAME, AnalysisRecord
from ngvae_tools.run import DECODER_NAME, ENCODER_NAME
from ngvae_tools.workflows.given import as_before
from ngvae_tools.workflows.opening import encoder_of

if TYPE_CHECKING:
    from exporters.prune import PruneReport


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What was written.

    Attributes:
        folder: Where the files lie.
        encoder: The pruned encoder.
        decoder: The pruned decoder; None where none was named.
        data: The data set that the selection was made on; None without a selection.
        resize: How its images were brought to the encoder's size; None if they were not, or without a selection.
    """

    folder: Path
    encoder: PruneReport
    decoder: PruneReport | None
    data: str | None
    resize: str | None


def prune(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    selection: str | os.PathLike[str] | None = None,
    dimensions: Sequence[int] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    heads: HeadNames | None = None,
    input_options: InputOptions | None = None,
    overwrite: bool = False,
) -> PruneResult:
    """Write an encoder that computes the informative dimensions only, and a decoder that takes only them.

    Both are held against the whole models before they appear under their names, `encoder.onnx` and
    `decoder.onnx`; either all files are written or none.

    Args:
        model: An encoder file, or the folder of a training run, whose decoder is then pruned too.
        output: The folder to write to; `<model>-pruned` in the current folder by default.
        selection: Output folder of `select-latents` for this encoder: which dimensions, and their means.
        dimensions: Keep these dimensions; with `selection`, instead of its own.
        decoder: The decoder file; it needs `selection`, for the means at which the other dimensions are held.
        heads: Names of the encoder's outputs, for models from elsewhere; those that the selection read by default.
        input_options: Layout and range of the encoder's input, for models from elsewhere; those of the selection
            by default.
        overwrite: Replace files that are there.

    Returns:
        What was written.

    Raises:
        ContractError: A model cannot be used.
        ExportError: A pruned model does not compute what the whole one computes.
        OptionError: The dimensions cannot be used, or are missing.
        OutputError: A file exists or cannot be written.
        RecordError: The selection cannot be read, or is one of another encoder.

    Example:
        >>> from ngvae_tools.workflows.prune import prune
        >>> prune("encoder.onnx", "pruned", selection="OUT", decoder="decoder.onnx")  # doctest: +SKIP
    """
    from exporters.prune import prune_decoder, prune_encoder

    encoder_path = encoder_of(Path(model))
    decoder_path = _decoder_of(Path(model), decoder, with_means=selection is not None)
    record = None if selection is None else _record(Path(selection), encoder_path)
    kept = dimensions if dimensions is not None else _selected(record)
    folder = default_output(Path(model)) if output is None else Path(output)
    places = [folder / ENCODER_NAME] if decoder_path is None else [folder / ENCODER_NAME, folder / DECODER_NAME]
    for place, source in zip(places, (encoder_path, decoder_path), strict=False):
        refuse_existing(place, overwrite=overwrite, found="a model")
        _refuse_itself(place, source)
    heads, input_options = as_before(heads, input_options, record)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, [place for place in (folder, *folder.parents) if not place.exists()])
        parts = [stack.enter_context(replacing(place)) for place in places]
        reports = [
            prune_encoder(
                encoder_path,
                kept,
                parts[0],
                heads=heads,
                input_options=input_options,
                image_shape=None if record is None else record.data.image_shape,
                latent_dim=None if record is None else record.model.latent_dim,
            )
        ]
        if decoder_path is not None and record is not None:
            means = [row.mu_mean for row in record.dimensions]
            reports.append(prune_decoder(decoder_path, kept, means, parts[1]))
    named = [dataclasses.replace(report, path=place) for report, place in zip(reports, places, strict=True)]
    data = None if record is None else record.data
    return PruneResult(
        folder,
        named[0],
        named[1] if len(named) > 1 else None,
        None if data is None else data.path,
        None if data is None else data.resize,
    )


def default_output(model: Path) -> Path:
    """The folder that pruned models go to when none is named: after the model, in the current folder."""
    return Path(f"{model.resolve().stem}-pruned")


def _decoder_of(model: Path, decoder: str | os.PathLike[str] | None, *, with_means: bool) -> Path | None:
    """The decoder to prune: the one that is named, or that of a run whose selection is named."""
    if decoder is None:
        own = model / DECODER_NAME
        return own if with_means and own.exists() else None
    if not with_means:
        raise OptionError(
            "the decoder cannot be pruned with --dimensions alone",
            expected="a selection, whose means the dropped dimensions are held at",
            found="none",
            remedy="pass --selection with the folder that select-latents wrote",
        )
    path = Path(decoder)
    return path / DECODER_NAME if path.is_dir() else path


def _record(selection: Path, encoder: Path) -> AnalysisRecord:
    """The record of a selection that was made with this very encoder."""
    record = AnalysisRecord.read(selection.parent if selection.name == FILE_NAME else selection)
    sha256 = read_model(encoder, read_bytes(encoder)).sha256
    if record.model.sha256 != sha256:
        raise RecordError(
            f"the selection {selection} is not of this encoder",
            expected=f"one of {encoder} (SHA-256 {sha256[:12]})",
            found=f"one of {record.model.path} (SHA-256 {record.model.sha256[:12]})",
            remedy="name that encoder, or select its dimensions anew with select-latents",
        )
    return record


def _selected(record: AnalysisRecord | None) -> tuple[int, ...]:
    if record is None:
        raise OptionError(
            "it is not said which dimensions to keep",
            expected="--selection or --dimensions",
            found="neither",
            remedy="pass --selection with the folder that select-latents wrote",
        )
    if not record.selection.count:
        raise OptionError(
            "no dimension would be left",
            expected="a selection with at least one informative dimension",
            found=f"none of {record.model.latent_dim} by the rule {record.selection.rule}",
            remedy="select with another rule or threshold, or name dimensions with --dimensions",
        )
    return record.selection.indices


def _remove_empty(folders: Sequence[Path]) -> None:
    """Take folders away that were made for nothing; one that holds something stays, and those around it."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _refuse_itself(place: Path, source: Path | None) -> None:
    """A pruned model never replaces the whole one it was made of, --overwrite or not."""
    with output_errors(place):
        same = source is not None and place.exists() and source.exists() and place.samefile(source)
    if same:
        raise OptionError(
            "the output would replace the model itself",
            expected="another folder",
            found=str(place.parent),
            remedy="name another with --output",
        )
