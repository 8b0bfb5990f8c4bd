"""`ngvae-tools inspect`: what a model file is, and what is missing to use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ngvae_tools.cli.options import InputLayout, InputRange, Logvar, Mu, P, Spatial
from ngvae_tools.cli.terminal import LogFile, Quiet, Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ngvae_tools.workflows.inspect import Inspection

NOT_USABLE = 2
SHOWN = 12
"""Operators and outputs that are listed; --json has all."""


def command(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(help="A model (ONNX).")],
    mu: Mu = None,
    p: P = None,
    logvar: Logvar = None,
    layout: InputLayout = None,
    input_range: InputRange = None,
    spatial: Spatial = "channel",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, nothing else.")] = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Say what a model file is, what is assumed of it, and what is missing; exit 2 where it cannot be used."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.inference.heads import HeadNames
    from ngvae_tools.inference.inputs import InputOptions, parse_range
    from ngvae_tools.workflows.inspect import inspect

    low, high = parse_range(input_range)
    found = inspect(
        model, heads=HeadNames(mu, p, logvar), input_options=InputOptions(layout, low, high, spatial=spatial)
    )
    if as_json:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(found), indent=2, allow_nan=False), flush=True)
    else:
        terminal.show(_rendered(found))
    if not found.usable:
        raise typer.Exit(NOT_USABLE)


def _rendered(found: Inspection) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ngvae_tools.reporting.words import plain

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(max_width=16, overflow="fold")
    grid.add_column(overflow="fold")
    for label, value in _rows(found):
        grid.add_row(Text(label), Text(plain(value)))
    sentences = [f"Assumed: {note}" for note in found.notes] + [f"Missing: {sentence}" for sentence in found.missing]
    return Group(grid, *(Text(plain(sentence), overflow="fold") for sentence in [*sentences, _verdict(found)]))


def _verdict(found: Inspection) -> str:
    can = "can" if found.usable else "cannot"
    if found.role == "decoder":
        return f"This is a decoder (z to image): it {can} be used with select-latents --decoder."
    return f"It {can} be used as an encoder as it is."


def _rows(found: Inspection) -> Iterator[tuple[str, str]]:
    """A label and a value a line, those that are known."""
    from ngvae_tools.analysis.indices import indices

    yield "file", found.path
    beside = f" and {found.external_bytes:,} of weights beside it" if found.external_bytes else ""
    yield "bytes", f"{found.bytes:,}{beside}"
    yield "sha256", found.sha256
    yield "made by", f"{found.producer or 'not said'}, opset {found.opset or 'not said'}"
    yield "parameters", f"{found.parameters:,}"
    yield "operators", _listed([f"{name} {count}" for name, count in found.operators], ", ")
    yield "inputs", _listed(found.inputs, "; ")
    yield "outputs", _listed(found.outputs, "; ")
    yield "metadata", ", ".join(found.metadata[:SHOWN]) or "none"
    if found.heads is not None:
        yield "heads read", ", ".join(found.heads)
    if found.family is not None:
        yield "family", found.family
    if found.latent_dim is not None:
        origin = "" if found.kept is None else f", those of the whole model: {indices(found.kept)}"
        yield "dimensions", f"{found.latent_dim:,}{origin}"
    if found.positions is not None:
        yield "positions", f"{found.positions:,}"
    if found.image_shape is not None:
        height, width, channels = found.image_shape
        size = "of any size" if found.any_size else f"{height} x {width}"
        samples = "" if found.sample_type is None else f", {found.sample_type}"
        yield "images", f"{size}, {channels} channels, {found.layout}{samples}"
        if found.input_range is not None:
            where = "inside" if found.scales_inside else "before"
            yield "scaling", "{} the graph, from {:g} to {:g}".format(where, *found.input_range)
        if found.output_range is not None:
            yield "scale", "from {:g} to {:g}".format(*found.output_range)
        yield "batch", "any" if found.fixed_batch is None else str(found.fixed_batch)
    if found.seconds_per_image is not None:
        yield "trial", f"{1000 * found.seconds_per_image:.3g} ms an image"


def _listed(items: tuple[str, ...] | list[str], separator: str) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return separator.join(items[:SHOWN]) + more
