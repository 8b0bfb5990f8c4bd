"""`ngvae-tools select-latents`: which dimensions are informative; keep those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.encoding import encoding_progress, say_plan, show_selection
from ngvae_tools.cli.options import (
    AnyDecoder,
    CodecName,
    Decoder,
    Dimensions,
    Distortion,
    InputLayout,
    InputRange,
    Keep,
    Labels,
    Logvar,
    Lossless,
    Mu,
    P,
    Rule,
    Spatial,
    Threshold,
    Verify,
    parse_dimensions,
    parse_limit,
    parse_shard,
    refuse_with_shard,
    storing,
)
from ngvae_tools.cli.terminal import FINISHED_WITH_REJECTED, DatasetKey, LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.record import REPLICATES

if TYPE_CHECKING:
    from ngvae_tools.workflows.encode import EncodeOptions


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="An encoder (ONNX), or the folder of a training run.")],
    data: Annotated[str, typer.Argument(help="A folder, file or store of images, or its URL (see the README).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write [default: <model>-<data>].")
    ] = None,
    rule: Rule = None,
    threshold: Threshold = None,
    dimensions: Dimensions = None,
    selection: Annotated[
        Path | None,
        typer.Option(help="Keep what an earlier result of the same encoder kept: its output folder.", metavar="FOLDER"),
    ] = None,
    decoder: Decoder = None,
    any_decoder: AnyDecoder = False,
    labels: Labels = None,
    distortion: Distortion = None,
    lossless: Lossless = False,
    keep: Keep = "informative",
    codec: CodecName = "deflate",
    verify: Verify = False,
    bootstrap: Annotated[
        int, typer.Option(help="Replicates behind the intervals; 0 for none.", min=0, max=10000)
    ] = REPLICATES,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where to run the encoder.")
    ] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Images of one run of the encoder [default: 32; 256 on a GPU].", min=1)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Workers, each reading, decoding and encoding [default: all processors].", min=1)
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Who does the work: this machine, or a Ray cluster.")
    ] = "local",
    shard: Annotated[
        str | None,
        typer.Option(help="Encode only part i of n, anywhere; `ngvae-tools merge` makes the result.", metavar="i/n"),
    ] = None,
    max_rejected: Annotated[
        str | None,
        typer.Option(help="End where more images than this cannot be used: a number, or a share such as 1%."),
    ] = None,
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
    from ngvae_tools.workflows.encode import EncodeOptions, default_output
    from ngvae_tools.workflows.select import select_latents

    low, high = parse_range(input_range)
    named = None if dimensions is None else parse_dimensions(dimensions)
    options = EncodeOptions(
        device=device,
        batch_size=batch_size,
        workers=workers,
        engine=engine,
        dataset_key=dataset_key,
        resize=resize,
        heads=HeadNames(mu, p, logvar),
        input_options=InputOptions(layout, low, high, spatial),
        bootstrap=bootstrap,
        max_rejected=parse_limit(max_rejected),
        overwrite=overwrite,
        on_plan=lambda plan: say_plan(terminal, plan),
    )
    if shard is not None:
        chosen = {"rule": rule, "threshold": threshold, "dimensions": dimensions, "selection": selection}
        stored: dict[str, object] = {"distortion": distortion, "lossless": lossless or None}
        stored |= {"keep": keep if keep != "informative" else None, "codec": codec if codec != "deflate" else None}
        refuse_with_shard(
            **chosen,
            **stored,
            decoder=decoder,
            any_decoder=any_decoder or None,
            labels=labels,
            verify=verify or None,
            json=as_json or None,
        )
        _encode_part(terminal, model, data, output, shard, options)
        return
    kept = storing(distortion, lossless=lossless, keep=keep, codec=codec)
    folder = output or default_output(model, data)
    if output is None:
        terminal.say(f"No output named: writing to {folder}.")
    if labels is not None:
        terminal.say("Disentanglement is measured after the images are encoded; its boosted trees can take minutes.")
    with encoding_progress(terminal) as on_progress:
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
            storing=kept,
            verify=verify,
            any_decoder=any_decoder,
            options=options,
            on_progress=on_progress,
        )
    show_selection(terminal, record, folder, as_json=as_json)


def _encode_part(
    terminal: Terminal, model: Path, data: str, output: Path | None, shard: str, options: EncodeOptions
) -> None:
    from ngvae_tools.workflows.merge import encode_part

    number, of = parse_shard(shard)
    with encoding_progress(terminal) as on_progress:
        part = encode_part(model, data, output, number=number, of=of, options=options, on_progress=on_progress)
    from ngvae_tools.reporting.words import plural

    held = f"{plural(part.n_images, 'image', 'images')} in {plural(part.n_shards, 'shard', 'shards')}"
    if not part.n_shards:
        held = "no images, for the data set has fewer shards than parts"
    elif part.n_rejected:
        held += f", {part.n_rejected:,} of them rejected"
    terminal.say(f"Part {part.number} of {part.of} is in {part.folder}: {held}.")
    terminal.say(f"When all {part.of} parts are there: ngvae-tools merge PART... --output OUT")
    if part.n_rejected:
        raise typer.Exit(FINISHED_WITH_REJECTED)
