"""`ngvae-tools sprites`: make the paper's synthetic images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.errors import OptionError


def command(
    context: typer.Context,
    output: Annotated[Path, typer.Argument(help="The HDF5 file to write.", metavar="OUT.h5")],
    images: Annotated[
        int | None, typer.Option(help="How many [default: 10000, or every combination of a full grid].")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed makes the same file.")] = 0,
    factors: Annotated[
        Literal["continuous", "grid"],
        typer.Option(help="Draw factors continuously, or from the grid of 3 hues, 3 shapes, 12 x, 12 y, 4 depths."),
    ] = "continuous",
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Put one factor on a grid of so many values; may be repeated.", metavar="NAME=COUNT"),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make the paper's synthetic images: a sprite of some colour (hue), shape, x, y and depth."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.datasets import write_sprites

    with terminal.images_bar() as update:
        summary = write_sprites(
            output,
            images=10_000 if images is None and factors == "continuous" else images,
            size=size,
            seed=seed,
            factors=factors,
            grid=dict(_pair(text) for text in grid or []),
            overwrite=overwrite,
            progress=update,
        )
    terminal.say(
        f"Wrote {summary.images:,} sprites of {size}x{size} to {summary.path} ({summary.file_bytes / 1e6:.1f} MB)."
    )
    terminal.next("train", output)


def _pair(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not count.isdecimal():
        raise OptionError(
            "--grid cannot be read",
            expected="NAME=COUNT, such as x=12",
            found=repr(text),
            remedy="correct it",
        )
    return name, int(count)
