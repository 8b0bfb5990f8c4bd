"""`ngvae-tools select-latents`: which dimensions are informative; keep those."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.options import InputLayout, InputRange, Logvar, Mu, P, Spatial, parse_dimensions
from ngvae_tools.cli.terminal import FINISHED_WITH_REJECTED, DatasetKey, LogFile, Overwrite, Quiet, Terminal, logger
from ngvae_tools.record import REPLICATES

if TYPE_CHECKING:
    from ngvae_tools.workflows.select import SelectionProgress


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="An encoder (ONNX), or the folder of a training run.")],
    data: Annotated[str, typer.Argument(help="A folder, file or store of images, or its URL (see the README).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write [default: <model>-<data>].")
    ] = None,
    rule: Annotated[
        Literal["p", "variance", "active", "rate", "information", "type", "snr"] | None,
        typer.Option(help="Criterion that decides [default: p where the encoder has it, else variance]."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Threshold of the rule [default: the rule's own, see the README].")
    ] = None,
    dimensions: Annotated[
        str | None, typer.Option(help="Keep these dimensions, whatever the rules say.", metavar="0,3,5")
    ] = None,
    selection: Annotated[
        Path | None,
        typer.Option(help="Keep what an earlier result of the same encoder kept: its output folder.", metavar="FOLDER"),
    ] = None,
    decoder: Annotated[
        Path | None, typer.Option(help="Decoder (ONNX) or run: measure what dropping dimensions costs.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Disentanglement against known factors: a CSV, or auto for labels in the data set."),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Replicates behind the intervals; 0 for none.", min=0, max=10000)
    ] = REPLICATES,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to run the encoder.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images of one run of the encoder [default: 32; 256 on a GPU].", min=1)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the encoder [default: all].", min=1)] = None,
    resize: Annotated[
        Literal["stretch", "crop", "pad"] | None,
        typer.Option(help="Bring images to the encoder's size [default: as in training]."),
    ] = None,
    dataset_key: DatasetKey = None,
    mu: Mu = None,
    p: P = None,
    logvar: Logvar = None,
    layout: InputLayout = None,
    input_range: InputRange = None,
    spatial: Spatial = "channel",
    as_json: Annotated[bool, typer.Option("--json", help="Print selection.json to stdout, nothing else.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Stream a data set through an encoder; report the informative dimensions and keep their latents."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.inference.inputs import InputOptions, parse_range
    from ngvae_tools.inference.session import HeadNames
    from ngvae_tools.workflows.select import default_output, select_latents

    low, high = parse_range(input_range)
    named = None if dimensions is None else parse_dimensions(dimensions)
    folder = output or default_output(model, data)
    if output is None:
        terminal.say(f"No output named: writing to {folder}.")
    if labels is not None:
        terminal.say("Disentanglement is measured after the images are encoded; its boosted trees can take minutes.")
    with _progress(terminal) as on_progress:
        record = select_latents(
            model,
            data,
            folder,
            rule=rule,
            threshold=threshold,
            dimensions=named,
            selection=selection,
            decoder=decoder,
            labels=labels,
            bootstrap=bootstrap,
            device=device,
            batch_size=batch_size,
            threads=threads,
            dataset_key=dataset_key,
            resize=resize,
            heads=HeadNames(mu, p, logvar),
            input_options=InputOptions(layout, low, high, spatial),
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if as_json:
        print(record.to_json(), end="", flush=True)
    else:
        from ngvae_tools.report.sources import open_sources
        from ngvae_tools.report.terminal import render

        terminal.show(render(open_sources([folder])))
    if record.data.n_rejected:
        terminal.say(
            f"{record.data.n_rejected:,} of {record.data.n_images:,} images could not be used; "
            f"{folder / 'rejected.jsonl'} says why."
        )
    terminal.next("report", folder, "--html", folder / "report.html")
    if record.data.n_rejected:
        raise typer.Exit(FINISHED_WITH_REJECTED)


@contextmanager
def _progress(terminal: Terminal) -> Iterator[Callable[[SelectionProgress], None]]:
    with terminal.images_bar() as update:

        def on_progress(progress: SelectionProgress) -> None:
            update(progress.done, progress.total, f", {progress.rejected:,} rejected" if progress.rejected else "")
            if progress.done == progress.total:
                logger.info("%d images seen, %d rejected", progress.done, progress.rejected)

        yield on_progress
