"""select-latents: stream a data set through an encoder, say which dimensions are informative, keep those."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.selection import check_rule
from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import NgvaeToolsError
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.encode import EncodeOptions, default_output, encode_options_of, open_pass
from ngvae_tools.workflows.evidence import EvidenceSources, check_decoder_options
from ngvae_tools.workflows.given import as_before, check_given, earlier_record, kept_before
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.result import Choice, refuse_output, write_result
from ngvae_tools.workflows.shard_folder import ShardFolder, kept_shards
from ngvae_tools.workflows.storing import StoreOptions

if TYPE_CHECKING:
    from ngvae_tools.analysis.disentanglement import Settings

LEAST_IMAGES = 2
"""Encoded images below which shards are not worth keeping where no result comes of them."""


def select_latents(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    rule: str | None = None,
    threshold: float | None = None,
    dimensions: Sequence[int] | None = None,
    selection: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    storing: StoreOptions | None = None,
    verify: bool = False,
    any_decoder: bool = False,
    settings: Settings | None = None,
    options: EncodeOptions | None = None,
    **encode_options: Any,
) -> AnalysisRecord:
    """Find out which latent dimensions of an encoder are informative over a data set.

    Writes `selection.json` (the record), `latents.h5` (the informative dimensions) and, where something could
    not be used, `rejected.jsonl` into the output folder.

    Args:
        model: An encoder file, or the folder of a training run.
        data: A folder, file or store of images, a published data set, or a URL, see `open_dataset`.
        output: The folder to write to; one named after model and data in the current folder by default.
        rule: A name of `ngvae_tools.analysis.selection.RULES`; the one that the encoder's family is made for by
            default.
        threshold: Value of the rule's score that separates informative dimensions; the rule's own by default.
        dimensions: Keep these dimensions, whatever the rules say.
        selection: Keep the dimensions that an earlier result of the same encoder kept; its output folder.
        decoder: The decoder file, or a run's folder: measure what dropping dimensions costs.
        labels: Measure disentanglement against known factors: a CSV file keyed by relative path, or `auto` for the
            labels within the data set.
        verify: Decode a sample of the latent file, and say what quantisation cost; needs `decoder`.
        any_decoder: Take a decoder that says that it was not trained together with the encoder.
        storing: What goes into the latent file, and how exactly; the informative dimensions at a distortion of 1 %
            by default.
        settings: Of the supervised metrics; the definitions' own by default.
        options: How to read the model and the data, and who does the work; or give its fields as keyword arguments,
            such as `workers=4, resize="crop", overwrite=True`.
        **encode_options: Fields of `EncodeOptions`.

    Returns:
        The record, equal to what `selection.json` holds.

    Raises:
        ContractError: The encoder cannot be used, or the decoder cannot or is not that of the encoder.
        DatasetError: The data set cannot be opened, or none of its images can be used.
        OptionError: An option does not apply, or the output would replace the model or the data.
        OutputError: The result exists or cannot be written, or an unfinished one of another pass is there.
        TooManyRejectedError: More images were rejected than `max_rejected`.

    Example:
        >>> from ngvae_tools import select_latents
        >>> record = select_latents("encoder.onnx", "images/", "OUT")  # doctest: +SKIP
        >>> record.selection.indices  # doctest: +SKIP
        (0, 3, 4, 7, 9, 12)
    """
    started = time.perf_counter()
    options = encode_options_of(options, encode_options)
    model, data = Path(model), place_of(data)
    folder = Path(output) if output is not None else default_output(model, data)
    refuse_output(folder, model, data, overwrite=options.overwrite)
    storing = storing or StoreOptions()
    storing.check()
    check_decoder_options(decoder=decoder, verify=verify, any_decoder=any_decoder)
    check_given(rule=rule, threshold=threshold, dimensions=dimensions, selection=selection)
    earlier = None if selection is None else earlier_record(selection)
    heads, input_options = as_before(options.heads, options.input_options, earlier)
    options = dataclasses.replace(options, heads=heads, input_options=input_options)
    with open_pass(model, data, options) as opened:
        session = opened.session
        kept, said = kept_before(session, dimensions, earlier)
        choice = Choice(*check_rule(session.family, rule, threshold), kept, said, storing)
        sources = EvidenceSources(
            session,
            opened.dataset,
            decoder=decoder,
            labels=labels,
            settings=settings,
            device=options.device,
            verify=verify,
            any_decoder=any_decoder,
        )
        with locked(folder), kept_shards(ShardFolder(folder)) as shards:
            done = opened.run(shards, range(opened.encoding.plan.n_shards))
            try:
                record = write_result(
                    opened.encoding,
                    done.files,
                    folder,
                    choice,
                    measure=sources.measure,
                    timings=done.timings,
                    started=started,
                )
            except NgvaeToolsError:
                if done.n_images - done.n_rejected < LEAST_IMAGES:
                    shards.remove()
                raise
            shards.remove()
    return record
