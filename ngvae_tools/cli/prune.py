"""`ngvae-tools prune`: encoder and decoder files that have the informative dimensions only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.select_latents import parse_dimensions
from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal

if TYPE_CHECKING:
    from exporters.prune import PruneReport


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
    mu: Annotated[str | None, typer.Option(help="Output that holds mu, for models from elsewhere.")] = None,
    p: Annotated[str | None, typer.Option(help="Output that holds p (near 0 = informative).")] = None,
    logvar: Annotated[str | None, typer.Option(help="Output that holds the log-variance.")] = None,
    layout: Annotated[
        Literal["NHWC", "NCHW"] | None, typer.Option(help="Axes of the input, where the shape does not tell.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Write an encoder that computes the informative dimensions only, and a decoder that takes only them."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.inference.heads import HeadNames
    from ngvae_tools.inference.inputs import InputOptions
    from ngvae_tools.workflows.prune import default_output, prune

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
        input_options=InputOptions(layout),
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
    terminal.next("select-latents", result.encoder.path, result.data or "DATA")


def _described(report: PruneReport) -> str:
    kept = ", ".join(map(str, report.dimensions))
    return (
        f"{report.path}: {len(report.dimensions)} of {report.latent_dim_before} dimensions ({kept}), "
        f"{report.bytes:,} bytes instead of {report.bytes_before:,}, "
        f"largest difference to the whole model {report.max_abs_difference:.2g}"
    )
