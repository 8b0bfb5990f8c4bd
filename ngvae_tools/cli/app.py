"""The command `ngvae-tools`."""

from __future__ import annotations

import signal
import warnings
from typing import Annotated

import typer

import ngvae_tools
from ngvae_tools.cli import (
    benchmark,
    compare,
    doctor,
    explore,
    inspect,
    latents,
    merge,
    prune,
    reconstruct,
    report,
    select_latents,
    sprites,
    sweep,
    train,
)
from ngvae_tools.cli.processes import hush_followers
from ngvae_tools.cli.terminal import LogFile, Quiet, guarded

app = typer.Typer(
    name="ngvae-tools",
    help="Which latent dimensions of a trained variational auto-encoder carry information, and how many.",
    rich_markup_mode=None,  # plain help starts in half the time
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("train")(guarded(train.command))
app.command("select-latents")(guarded(select_latents.command))
app.command("merge")(guarded(merge.command))
app.command("inspect")(guarded(inspect.command))
app.command("sweep")(guarded(sweep.command))
app.command("benchmark")(guarded(benchmark.command))
app.command("report")(guarded(report.command))
app.command("explore")(guarded(explore.command))
app.command("compare")(guarded(compare.command))
app.command("prune")(guarded(prune.command))
app.add_typer(latents.app, name="latents")
app.command("reconstruct")(guarded(reconstruct.command))
app.command("sprites")(guarded(sprites.command))
app.command("doctor")(guarded(doctor.command))


def _version(value: bool) -> None:
    if value:
        print(f"ngvae-tools {ngvae_tools.__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Options that may stand before any command."""
    context.obj = {"quiet": quiet, "log_file": log_file}


def main() -> None:
    """Run the command line; a polite kill cleans up as Ctrl-C does."""
    hush_followers()
    # What is wrong with an image is recorded with its name; Pillow's remarks on it have none.
    warnings.filterwarnings("ignore", module="PIL")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()
