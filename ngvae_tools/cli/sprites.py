"""`ngvae-tools sprites`: make the paper's synthetic images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.errors import OptionError

T = TypeVar("T", int, float)


def command(
    context: typer.Context,
    output: Annotated[Path, typer.Argument(help="The HDF5 file to write.", metavar="OUT.h5")],
    images: Annotated[
        int | None, typer.Option(help="How many [default: 10000, or every combination of a full grid].")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed makes the same file.")] = 0,
    image_set: Annotated[
        Literal["paper", "dsprites-like", "3dshapes-like", "3dshapes-shifted"],
        typer.Option(
            "--set",
            help="The paper's 5 factors; shape, scale, orientation, x, y of a white shape; three hues, scale, shape "
            "and orientation of an object in a room; the same with its x.",
        ),
    ] = "paper",
    factors: Annotated[
        Literal["continuous", "grid"],
        typer.Option(
            help="Draw factors continuously, or the paper's from the grid of 3 hues, 3 shapes, 12 x, 12 y, 4 depths."
        ),
    ] = "continuous",
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Put one factor on a grid of so many values; may be repeated.", metavar="NAME=COUNT"),
    ] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="Give one factor the same value in all images; may be repeated.", metavar="NAME=VALUE"),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make images whose factors are known: the paper's sprites of some hue, shape, x, y and depth, or another set."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.datasets import write_sprites

    with terminal.images_bar() as update:
        summary = write_sprites(
            output,
            images=10_000 if images is None and factors == "continuous" else images,
            size=size,
            seed=seed,
            image_set=image_set,
            factors=factors,
            grid=_by_name("--grid", map(_count, grid or [])),
            fixed=_by_name("--fix", map(_value, fix or [])),
            overwrite=overwrite,
            progress=update,
        )
    terminal.say(
        f"Wrote {summary.images:,} sprites of {size}x{size} to {summary.path} ({summary.file_bytes / 1e6:.1f} MB)."
    )
    terminal.next("train", output)


def _by_name(option: str, given: Iterable[tuple[str, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in given:
        if name in found:
            raise OptionError(
                f"{option} names a factor twice",
                expected="each factor once",
                found=f"{name} as {found[name]:g} and {value:g}",
                remedy="leave one out",
            )
        found[name] = value
    return found


def _count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not count.isdecimal():
        raise _unreadable("--grid", "NAME=COUNT, such as x=12", text)
    return name, int(count)


def _value(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise _unreadable("--fix", "NAME=VALUE, such as x=0.2", text) from None


def _unreadable(option: str, expected: str, text: str) -> OptionError:
    return OptionError(f"{option} cannot be read", expected=expected, found=repr(text), remedy="correct it")
