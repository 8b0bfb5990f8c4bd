"""`ngvae-tools benchmark`: every model on data with known factors, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ngvae_tools.benchmark_record import FILE_NAME, TABLE_NAME
from ngvae_tools.cli.terminal import FINISHED_WITH_REJECTED, DatasetKey, LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.errors import OptionError

OF_TRAININGS = (
    "preset",
    "models",
    "latent_dims",
    "seeds",
    "epochs",
    "data",
    "dataset_key",
    "device",
    "workers",
    "overwrite",
)
"""Options that --table-only leaves without effect."""


def command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that keeps data, trainings and table.")],
    preset: Annotated[
        Literal["quick", "paper", "full"],
        typer.Option(
            help="quick: 32x32, under half an hour on two cores; paper: Section IV as printed; full: every data set "
            "and model, K = 10, 15, 30."
        ),
    ] = "quick",
    models: Annotated[
        str | None, typer.Option(help="These models in place of the preset's.", metavar="NAME,NAME,...")
    ] = None,
    latent_dims: Annotated[
        str | None, typer.Option(help="These numbers K in place of the preset's.", metavar="K,K,...")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds [default: the preset's].", min=1)] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of every training, for a try [default: the paper's schedule].", min=1)
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Your own data in place of the preset's, such as dSprites or 3dshapes; may be repeated."),
    ] = None,
    dataset_key: DatasetKey = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Trainings at the same time, a core each [default: the number of cores].")
    ] = None,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Make the table again from what has run, and train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record to stdout, nothing else.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Train every model on data with known factors, several seeds, and compare them in one table."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    from ngvae_tools.cli.cells import cells_progress, say_plan
    from ngvae_tools.reporting.benchmark import view
    from ngvae_tools.workflows.benchmark.run import benchmark, tabulate

    if table_only:
        given = [name for name in OF_TRAININGS if _given(context, name)]
        if given:
            raise OptionError(
                "--table-only trains nothing",
                expected="--output alone with it",
                found=", ".join("--" + name.replace("_", "-") for name in given),
                remedy="leave them out, or --table-only",
            )
        record = tabulate(output)
    else:
        terminal.say(f"Benchmark {preset}; everything goes to {output}.")
        try:
            with cells_progress(terminal) as on_progress:
                record = benchmark(
                    output,
                    preset=preset,
                    models=None if models is None else [name.strip() for name in models.split(",")],
                    latent_dims=None if latent_dims is None else _numbers(latent_dims),
                    seeds=seeds,
                    epochs=epochs,
                    data=data or (),
                    dataset_key=dataset_key,
                    device=device,
                    workers=workers,
                    overwrite=overwrite,
                    on_plan=lambda plan: say_plan(terminal, plan),
                    on_progress=on_progress,
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{output} keeps what was done; the same command goes on from there, and --table-only shows it"
            ) from None
    if as_json:
        print(record.to_json(), end="", flush=True)
    else:
        terminal.show(view(record))
    terminal.say(f"Wrote {output / FILE_NAME} and {output / TABLE_NAME}.")
    if any(row.failures or row.not_run for row in record.rows):
        raise typer.Exit(FINISHED_WITH_REJECTED)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise OptionError(
            "--latent-dims cannot be read",
            expected="whole numbers with commas between them",
            found=repr(text),
            remedy="pass others, such as 15,30",
        ) from None
