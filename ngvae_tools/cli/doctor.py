"""`ngvae-tools doctor`: what is installed and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from ngvae_tools.cli.terminal import LogFile, Quiet, Terminal


def command(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout, nothing else.")] = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Say versions, devices, execution providers, and what is missing."""
    Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.workflows.doctor import diagnose

    found = diagnose()
    if as_json:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    print(f"platform   {found.platform}, {found.cpus} processors")
    for name, version in found.versions.items():
        print(f"{name:<16} {version}")
    print(f"onnxruntime runs on {', '.join(found.providers) or 'nothing: it is not installed'}")
    print(f"torch trains on {', '.join(found.devices) or 'nothing: it is not installed'}")
    for sentence in found.missing or ("Nothing is missing.",):
        print(sentence)
