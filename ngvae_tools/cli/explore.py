"""`ngvae-tools explore`: look around in the latents, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ngvae_tools.cli.options import AnyDecoder
from ngvae_tools.cli.terminal import LogFile, Quiet, Terminal


def command(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="The output folder of select-latents, or a latent file.", metavar="OUT")
    ],
    decoder: Annotated[
        Path | None,
        typer.Option(help="The decoder (ONNX), or the folder of a training run [default: the one of the record]."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(help="The encoder that made the latents, or its run [default: the one of the record]."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The images that the latents are of [default: those of the latent file].")
    ] = None,
    port: Annotated[int, typer.Option(help="Where the page is served; 0: any free port.", min=0, max=65535)] = 0,
    open_browser: Annotated[
        bool,
        typer.Option(
            "--open/--no-browser",
            help="Open the page in a browser; others who use this machine may then see its address.",
        ),
    ] = False,
    any_decoder: AnyDecoder = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where to run decoder and encoder.")
    ] = "auto",
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Serve a page, to this machine alone, where sliders drive the decoder and a map shows the images."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.explore.opening import open_explorer
    from ngvae_tools.workflows.explore.server import check_installed, serve

    def ready(address: str) -> None:
        print(address, flush=True)
        terminal.say("Open this address in a browser. It works on this machine only, until Ctrl-C.")
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    check_installed()
    with open_explorer(
        source, decoder=decoder, encoder=encoder, data=data, any_decoder=any_decoder, device=device
    ) as explorer:
        for note in explorer.notes:
            terminal.say(f"Note: {note}")
        try:
            serve(explorer, port=port, on_ready=ready)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the explorer has ended; it wrote nothing") from None
