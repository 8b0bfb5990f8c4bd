"""`ngvae-tools reconstruct`: images from a latent file and its decoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.options import AnyDecoder
from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.errors import OptionError

if TYPE_CHECKING:
    from ngvae_tools.analysis.image_quality import Quality


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A latent file, or the output folder of select-latents.")],
    decoder: Annotated[Path, typer.Option(help="The decoder (ONNX), or the folder of a training run.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder for PNGs, or an HDF5 file.", metavar="DIR|FILE.h5")
    ],
    rows: Annotated[str | None, typer.Option(help="Only these rows, from 0, B left out.", metavar="A:B")] = None,
    identifier: Annotated[
        list[str] | None, typer.Option("--id", help="Only this image; may be given several times.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The original images, to measure the quality.")] = None,
    encoder: Annotated[Path | None, typer.Option(help="The encoder that made the latents; with --data.")] = None,
    compare: Annotated[int, typer.Option(help="Images whose quality is measured.", min=1)] = 256,
    as_float: Annotated[bool, typer.Option("--float", help="Write float32 from 0 to 1; HDF5 only.")] = False,
    any_decoder: AnyDecoder = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where to run the decoder.")
    ] = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Decode the images of a latent file; with the originals, say how close they are."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.reconstruct import reconstruct

    with terminal.images_bar() as on_progress:
        result = reconstruct(
            file,
            output,
            decoder=decoder,
            rows=None if rows is None else _parse_rows(rows),
            ids=identifier or None,
            data=data,
            encoder=encoder,
            compare=compare,
            as_float=as_float,
            any_decoder=any_decoder,
            device=device,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    for note in result.notes:
        terminal.say(f"Note: {note}")
    if result.quality is not None:
        found = result.quality
        print(f"Quality on {found.n_images:,} images:")
        print(_line("quantised against the originals", found.quantised))
        print(_line("unquantised against the originals", found.unquantised))
        print(_line("quantised against unquantised", found.both))
    terminal.say(f"Wrote {result.n_images:,} images to {result.output}.")


def _line(what: str, found: Quality) -> str:
    psnr = f"{found.psnr:.2f} dB" if math.isfinite(found.psnr) else "infinite, they are equal"
    return f"  {what:<34}PSNR {psnr}, SSIM {found.ssim:.4f}"


def _parse_rows(text: str) -> tuple[int | None, int | None]:
    try:
        first, last = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError:
        raise OptionError(
            "--rows cannot be read",
            expected="two whole numbers with a colon between, such as 0:100",
            found=repr(text),
            remedy="correct it",
        ) from None
    return first, last
