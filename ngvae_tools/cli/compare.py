"""`ngvae-tools compare`: do two data sets through the same encoder differ?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal

CONDITION_HOLDS = 5


def command(
    context: typer.Context,
    a: Annotated[Path, typer.Argument(help="The reference: an output folder of select-latents.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="The new data: another one, of the same encoder.", metavar="B")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the comparison as JSON.", metavar="FILE")
    ] = None,
    fail_if_different: Annotated[
        bool, typer.Option("--fail-if-different", help="Exit with 5 where the data sets differ.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the joint test's permutations.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, nothing else.")] = False,
    every: Annotated[bool, typer.Option("--every", help="Show every dimension, however many there are.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Say whether two data sets through the same encoder differ, and which images lie outside the range seen."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.reporting.drift import render
    from ngvae_tools.workflows.compare import compare

    drift = compare(a, b, output=output, seed=seed, overwrite=overwrite)
    if as_json:
        print(drift.to_json(), end="", flush=True)
    else:
        terminal.show(render(drift, every=every))
    if output is not None:
        terminal.say(f"Wrote {output}.")
    if a != b:
        terminal.next("report", a, b)
    if fail_if_different and drift.differs:
        raise typer.Exit(CONDITION_HOLDS)
