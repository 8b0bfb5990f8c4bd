"""`ngvae-tools latents`: what a latent file is, its values elsewhere, images near each other in it, and more rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.terminal import (
    FINISHED_WITH_REJECTED,
    DatasetKey,
    LogFile,
    Overwrite,
    Quiet,
    Terminal,
    guarded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ngvae_tools.workflows.combining import Combined
    from ngvae_tools.workflows.describe_latents import DimensionCost, LatentsDescription

SHOWN = 40
"""Dimensions that are listed; --every lists all."""

Latents = Annotated[Path, typer.Argument(help="A latent file, or the output folder of select-latents.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout, nothing else.")]

app = typer.Typer(
    help="Describe, check, export, search and extend the latents that select-latents kept.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
@guarded
def info(
    context: typer.Context,
    latents: Latents,
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--every", help="Show every dimension, however many there are.")] = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Say what a latent file holds, where it comes from, and what each dimension costs."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.describe_latents import describe_latents

    found = describe_latents(latents)
    if as_json:
        _print_json(found)
    else:
        terminal.show(_described(found, every=every))


@app.command()
@guarded
def verify(
    context: typer.Context,
    latents: Latents,
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Read all of a latent file and compare it with its checksums; exit 2 where it is damaged."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.reporting.words import count, plain, plural
    from ngvae_tools.workflows.describe_latents import verify_latents

    found = verify_latents(latents)
    if as_json:
        _print_json(found)
        return
    labels = f", {plural(found.labels, 'label', 'labels')}" if found.labels else ""
    terminal.show(
        f"OK: {plain(found.path)}, {count(found.bytes)} bytes: {plural(found.rows, 'row', 'rows')} of "
        f"{plural(found.columns, 'code', 'codes')}{labels} and all identifiers were read, and the codes have the "
        f"SHA-256 {found.codes_sha256} of their header."
    )


@app.command()
@guarded
def export(
    context: typer.Context,
    latents: Latents,
    output: Annotated[
        Path,
        typer.Argument(help="The file to write: .npy, .npz, .parquet, .csv or .h5ad.", metavar="OUT"),
    ],
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Write the decoded latents in the format that the ending of OUT names."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.reporting.words import count, plain, plural
    from ngvae_tools.workflows.export_latents import export_latents

    found = export_latents(latents, output, overwrite=overwrite)
    if as_json:
        _print_json(found)
    labels = f" and {plural(found.labels, 'label', 'labels')}" if found.labels else ""
    terminal.say(
        f"Wrote {plain(found.path)}: {plural(found.rows, 'row', 'rows')} of "
        f"{plural(found.columns, 'column', 'columns')}{labels}, {count(found.bytes)} bytes."
    )
    for note in found.notes:
        terminal.say(f"Note: {note}")


@app.command()
@guarded
def index(
    context: typer.Context,
    latents: Latents,
    as_json: AsJson = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Build an index beside a latent file, with which `similar` searches millions of images faster."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.reporting.words import count, plain, plural
    from ngvae_tools.workflows.similar import index_latents

    found = index_latents(latents, overwrite=overwrite)
    if as_json:
        _print_json(found)
    terminal.say(
        f"Wrote {plain(found.path)}: {plural(found.rows, 'row', 'rows')} in {plural(found.cells, 'cell', 'cells')}, "
        f"{count(found.bytes)} bytes."
    )


@app.command()
@guarded
def similar(
    context: typer.Context,
    latents: Latents,
    image: Annotated[
        str, typer.Argument(help="An identifier of the latent file, or the path of an image.", metavar="ID|IMAGE")
    ],
    encoder: Annotated[
        Path | None,
        typer.Option(help="The encoder that made the latents (ONNX) or its run, for an image that is not among them."),
    ] = None,
    count: Annotated[int, typer.Option(help="How many images.", min=1)] = 10,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with all images, although there is an index.")
    ] = False,
    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Device of the encoder.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Name the images whose latents are nearest, in standard deviations of the posterior's noise."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from rich.table import Table
    from rich.text import Text

    from ngvae_tools.reporting.words import number, plain
    from ngvae_tools.workflows.similar import similar as find

    found = find(latents, image, encoder=encoder, count=count, exact=exact, device=device)
    for note in found.notes:
        terminal.say(f"Note: {note}")
    if as_json:
        _print_json(found)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("distance", justify="right")
    table.add_column("image", overflow="fold")
    for near in found.images:
        table.add_row(number(near.distance), Text(plain(near.identifier)))
    terminal.show(table)


@app.command()
@guarded
def append(
    context: typer.Context,
    latents: Latents,
    data: Annotated[str, typer.Argument(help="New images: a folder, file or store, or its URL.", metavar="DATA")],
    encoder: Annotated[Path, typer.Option(help="The encoder that made the file (ONNX), or its run.")],
    prefix: Annotated[str, typer.Option(help="Put before the new images' paths.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file [default: replace FILE].")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Workers [default: all processors].", min=1)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Device of the encoder.")] = "auto",
    dataset_key: DatasetKey = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Encode new images as those of a latent file were, and add them to it on the same steps."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.cli.encoding import encoding_progress, say_plan
    from ngvae_tools.workflows.combining import append_latents

    with encoding_progress(terminal) as on_progress:
        found = append_latents(
            latents,
            data,
            encoder,
            prefix=prefix,
            output=output,
            workers=workers,
            device=device,
            dataset_key=dataset_key,
            overwrite=overwrite,
            on_plan=lambda plan: say_plan(terminal, plan),
            on_progress=on_progress,
        )
    _say_combined(terminal, found)
    if found.n_rejected:
        from ngvae_tools.reporting.rejections import rejected_text

        terminal.say(f"{rejected_text(found.reasons, found.n_rejected)}; {found.rejected} lists each.")
        raise typer.Exit(FINISHED_WITH_REJECTED)


@app.command()
@guarded
def merge(
    context: typer.Context,
    latents: Annotated[list[Path], typer.Argument(help="Latent files or output folders.", metavar="FILE...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    prefix: Annotated[
        list[str] | None, typer.Option(help="Put before a file's paths; once for each file, '' for none.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Put latent files of one encoder together, on the steps of the first."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.combining import merge_latents

    _say_combined(terminal, merge_latents(latents, output, prefixes=prefix or (), overwrite=overwrite))


def _say_combined(terminal: Terminal, found: Combined) -> None:
    from ngvae_tools.reporting.words import plain, plural

    terminal.say(f"Wrote {plain(found.path)}: {plural(found.n_rows, 'row', 'rows')}, {found.n_added:,} of them added.")
    for note in found.notes:
        terminal.say(f"Note: {note}")


def _print_json(found: object) -> None:
    import dataclasses
    import json

    print(json.dumps(dataclasses.asdict(found), indent=2, allow_nan=False), flush=True)  # type: ignore[call-overload]


def _described(found: LatentsDescription, *, every: bool) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ngvae_tools.reporting.words import plain

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for label, value in _rows(found):
        grid.add_row(Text(label), Text(plain(value)))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for title in ("dimension", "bits", "entropy", "ratio", "step", "max error", "rms error / sd"):
        table.add_column(title, justify="right")
    shown = found.dimensions if every else found.dimensions[:SHOWN]
    for cost in shown:
        table.add_row(*_cells(cost))
    hidden = len(found.dimensions) - len(shown)
    more = [Text(f"{hidden} more dimensions: --every shows all.")] if hidden else []
    return Group(grid, Text(), table, *more) if shown else grid


def _cells(cost: DimensionCost) -> Iterator[str]:
    from ngvae_tools.reporting.words import number

    yield str(cost.dimension)
    yield number(cost.bits)
    yield number(cost.entropy)
    yield number(cost.ratio)
    yield number(cost.step)
    yield number(cost.max_error)
    yield number(cost.relative_error)


def _rows(found: LatentsDescription) -> Iterator[tuple[str, str]]:
    """A label and a value a line."""
    from ngvae_tools.analysis.indices import indices
    from ngvae_tools.reporting.words import count, listed, number, plural

    yield "file", found.path
    yield "rows", f"{count(found.rows)}, identified by {found.identifiers}"
    kept = [cost.dimension for cost in found.dimensions]
    places = f" at {plural(found.positions, 'position', 'positions')}" if found.positions > 1 else ""
    yield "dimensions", f"{len(kept)} of {found.latent_dim}{places}: {indices(kept)}"
    yield "codec", f"{found.codec}, codes of {found.code_type}"
    if found.distortion is None:
        rounded = any(cost.max_error for cost in found.dimensions)
        came = "rows that were rounded before they came into it" if rounded else "as the encoder gave it"
        yield "distortion", f"none in this file: float32, {came}"
    else:
        yield "distortion", f"{found.distortion:g} of the noise; steps follow the {found.steps_from}"
    rest = found.bytes - found.codes_bytes - found.identifiers_bytes - found.labels_bytes
    codes, names = count(found.codes_bytes), count(found.identifiers_bytes)
    own = f"HDF5's own and the header {count(rest)}, which hardly grow with the rows"
    yield "bytes", f"{count(found.bytes)}: codes {codes}, identifiers {names}, {own}"
    if found.labels:
        known = zip(found.labels, found.classes, strict=True)
        labels = ", ".join(f"{name} ({kind}{f': {listed(names)}' if names else ''})" for (name, kind), names in known)
        yield "labels", f"{labels}: {count(found.labels_bytes)} bytes"
    if found.bytes_per_image is not None:
        without = number(found.bytes_per_image_without_identifiers)
        yield "an image", f"{number(found.bytes_per_image)} bytes, {without} without identifiers and labels"
    if found.over_entropy is not None:
        yield "over entropy", f"{found.over_entropy:.3f} (the file less identifiers and labels, over that of its codes)"
    yield "rule", f"{found.rule}, threshold {found.threshold:g}"
    yield "family", found.family
    yield "encoder", found.encoder_sha256
    if found.decoder_sha256 is not None:
        yield "decoder", found.decoder_sha256
    for source in found.sources:
        yield "source", f"{source.path} ({source.kind}), {plural(source.n_rows, 'row', 'rows')}"
