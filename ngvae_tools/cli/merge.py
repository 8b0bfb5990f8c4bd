"""`ngvae-tools merge`: one result of the parts that `select-latents --shard` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ngvae_tools.cli.encoding import show_selection
from ngvae_tools.cli.options import (
    AnyDecoder,
    CodecName,
    Decoder,
    Dimensions,
    Distortion,
    Keep,
    Labels,
    Lossless,
    Rule,
    Threshold,
    Verify,
    parse_dimensions,
    storing,
)
from ngvae_tools.cli.terminal import LogFile, Overwrite, Quiet, Terminal


def command(
    context: typer.Context,
    parts: Annotated[list[Path], typer.Argument(help="Folders that select-latents --shard wrote.", metavar="PART...")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    rule: Rule = None,
    threshold: Threshold = None,
    dimensions: Dimensions = None,
    decoder: Decoder = None,
    any_decoder: AnyDecoder = False,
    labels: Labels = None,
    distortion: Distortion = None,
    lossless: Lossless = False,
    keep: Keep = "informative",
    codec: CodecName = "deflate",
    verify: Verify = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print selection.json to stdout, nothing else.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make one result of all parts of a data set; it equals that of a single run bit for bit."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.merge import merge

    record = merge(
        parts,
        output,
        rule=rule,
        threshold=threshold,
        dimensions=None if dimensions is None else parse_dimensions(dimensions),
        decoder=decoder,
        labels=labels,
        storing=storing(distortion, lossless=lossless, keep=keep, codec=codec),
        verify=verify,
        any_decoder=any_decoder,
        overwrite=overwrite,
    )
    show_selection(terminal, record, output, as_json=as_json)
