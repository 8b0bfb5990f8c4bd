"""`ngvae-tools prune`: encoder and decoder files that have the informative dimensions only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ngvae_tools.cli.options import InputLayout, InputRange, Logvar, Mu, P, parse_dimensions
from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporters.prune import PruneReport
    from ngvae_tools.workflows.prune import PruneResult


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="An encoder (ONNX), or the folder of a training run.")],
    selection: Annotated[
        Path | None, typer.Option(help="The folder that select-latents wrote for this encoder.", metavar="FOLDER")
    ] = None,
    dimensions: Annotated[
        str | None, typer.Option(help="Dimensions to keep, instead of the selection's.", metavar="0,3,5")
    ] = None,
    decoder: Annotated[
        Path | None, typer.Option(help="Prune this decoder too [default: the run's own]; it needs --selection.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write [default: <model>-pruned].")
    ] = None,
    mu: Mu = None,
    p: P = None,
    logvar: Logvar = None,
    layout: InputLayout = None,
    input_range: InputRange = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Write an encoder that computes the informative dimensions only, and a decoder that takes only them."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.inference.heads import HeadNames
    from ngvae_tools.inference.inputs import InputOptions, parse_range
    from ngvae_tools.workflows.prune import default_output, prune

    low, high = parse_range(input_range)
    folder = output or default_output(model)
    if output is None:
        terminal.say(f"No output named: writing to {folder}.")
    result = prune(
        model,
        folder,
        selection=selection,
        dimensions=None if dimensions is None else parse_dimensions(dimensions),
        decoder=decoder,
        heads=HeadNames(mu, p, logvar),
        input_options=InputOptions(layout, low, high),
        overwrite=overwrite,
    )
    for report in (result.encoder, result.decoder):
        if report is not None:
            terminal.show(_described(report))
            if not report.in_weights:
                terminal.say(
                    f"{report.path} still computes all {report.latent_dim_before} dimensions inside: its graph does "
                    "not allow to take them out of the weights."
                )
    if model.is_dir() and result.decoder is None:
        terminal.say("The run's decoder was not pruned: that needs --selection, for the means of its dimensions.")
    terminal.next("select-latents", result.encoder.path, result.data or "DATA", *_options(result))


def _options(result: PruneResult) -> Iterator[str]:
    """What select-latents must be told to read the pruned encoder as the whole one was read."""
    told = result.encoder.input_options
    if told.layout is not None:
        yield f"--layout={told.layout}"
    if told.low is not None and told.high is not None:
        yield f"--input-range={told.low!r},{told.high!r}"
    if result.resize is not None:
        yield f"--resize={result.resize}"


def _described(report: PruneReport) -> str:
    from ngvae_tools.analysis.indices import indices

    return (
        f"{report.path}: {len(report.dimensions)} of {report.latent_dim_before} dimensions "
        f"({indices(report.dimensions)}), "
        f"{report.bytes:,} bytes instead of {report.bytes_before:,}, "
        f"largest difference to the whole model {report.max_abs_difference:.2g}"
    )
