"""`ngvae-tools sweep`: how many dimensions the data needs, over a range of noise levels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ngvae_tools.cli.terminal import FINISHED_WITH_REJECTED, DatasetKey, LogFile, Overwrite, Quiet, Terminal
from ngvae_tools.errors import OptionError
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.sweep_config import SweepConfig

DEFAULTS = TrainingConfig()
SWEEP = SweepConfig()


def command(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, file or store of images, or its URL (see the README).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write to [default: sweep-<name of the data>].")
    ] = None,
    sigmas: Annotated[
        str | None,
        typer.Option(
            help=f"Noise levels, for images in [0, 1] [default: {','.join(f'{s:g}' for s in SWEEP.sigmas)}].",
            metavar="SIGMA,SIGMA,...",
        ),
    ] = None,
    low: Annotated[float | None, typer.Option("--from", help="Least level, in place of --sigmas.")] = None,
    high: Annotated[float | None, typer.Option("--to", help="Greatest level.")] = None,
    levels: Annotated[
        int | None, typer.Option(help="Levels from --from to --to, evenly spaced in their logarithm [default: 5].")
    ] = None,
    restarts: Annotated[int, typer.Option(help="Trainings a level; the one of least loss counts.")] = SWEEP.restarts,
    epochs: Annotated[int, typer.Option(help="Epochs of each training.")] = SWEEP.epochs,
    workers: Annotated[
        int | None, typer.Option(help="Trainings at the same time, a core each [default: the number of cores].")
    ] = None,
    model: Annotated[
        Literal["ngvae", "vae", "beta-vae", "beta-tcvae", "factor-vae", "ard-vae"], typer.Option(help="What to train.")
    ] = "ngvae",
    objective: Annotated[
        Literal["adaptive", "mixture", "paper"] | None, typer.Option(help="For ngvae, as train takes it.")
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="Number K of latent dimensions.")] = DEFAULTS.latent_dim,
    gradient: Annotated[
        Literal["pathwise", "g-rep"], typer.Option(help="Gradient estimator of an ngvae, as train takes it.")
    ] = "pathwise",
    beta: Annotated[
        float | None, typer.Option(help="As train takes it [default: 4 for beta-vae, 6 for beta-tcvae, else 1].")
    ] = None,
    gamma: Annotated[float, typer.Option(help="Weight of a factor-vae's total correlation.")] = DEFAULTS.gamma,
    slope: Annotated[float, typer.Option(help="Slope r of Eq. 5, objective paper.")] = DEFAULTS.slope,
    prior_nats: Annotated[
        float, typer.Option(help="log(1/pi) of the informative law's prior weight, objectives adaptive and mixture.")
    ] = DEFAULTS.prior_nats,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = DEFAULTS.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = DEFAULTS.learning_rate,
    held_out: Annotated[float, typer.Option(help="Share of images held out.")] = DEFAULTS.held_out,
    seed: Annotated[int, typer.Option(help="Of the first restart and of the split; the others count up.")] = (
        DEFAULTS.seed
    ),
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    precision: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Of the networks' arithmetic, as train takes it.")
    ] = "float32",
    decoder: Annotated[Literal["paper", "broadcast"], typer.Option(help="As train takes it.")] = "paper",
    coordconv: Annotated[bool, typer.Option("--coordconv", help="As train takes it.")] = False,
    resize: Annotated[
        Literal["stretch", "crop", "pad"] | None, typer.Option(help="Bring images to --size x --size.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side after --resize, a multiple of 16.")] = DEFAULTS.size,
    dataset_key: DatasetKey = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record to stdout, nothing else.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Train at several noise levels and name the number of dimensions that holds over the widest range."""
    terminal = Terminal(context, quiet=quiet, log_file=log_file)
    config = TrainingConfig(
        model=model,
        objective=objective,
        latent_dim=latent_dim,
        gradient=gradient,
        beta=beta,
        gamma=gamma,
        slope=slope,
        prior_nats=prior_nats,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        held_out=held_out,
        seed=seed,
        device=device,
        precision=precision,
        decoder=decoder,
        coordconv=coordconv,
        resize=resize,
        size=size,
    )
    chosen = _sigmas(sigmas, low, high, levels)
    from ngvae_tools.cli.cells import cells_progress, say_plan
    from ngvae_tools.reporting.sweep_view import sweep_view
    from ngvae_tools.sweep_record import FILE_NAME, PNG_NAME, SVG_NAME
    from ngvae_tools.workflows.sweep import default_sweep, sweep

    folder = output or default_sweep(data)
    terminal.say(f"Sweeping over {', '.join(f'{s:g}' for s in chosen)} on {data}; the results go to {folder}.")
    try:
        with cells_progress(terminal) as on_progress:
            record = sweep(
                data,
                folder,
                sigmas=chosen,
                restarts=restarts,
                config=config,
                dataset_key=dataset_key,
                workers=workers,
                overwrite=overwrite,
                on_plan=lambda plan: say_plan(terminal, plan),
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{folder} keeps what was done; the same command goes on from there") from None
    if as_json:
        print(record.to_json(), end="")
    else:
        terminal.show(sweep_view(record))
    terminal.say(f"Wrote {folder / FILE_NAME}, {SVG_NAME} and {PNG_NAME}.")
    answer = record.verdicts[0].answer
    inside = [lv for lv in record.levels if answer is not None and answer.low <= lv.sigma <= answer.high and lv.kept]
    if inside:
        trial = inside[len(inside) // 2].kept
        assert trial is not None
        terminal.next("report", folder / "cells" / trial.cell / "analysis")
    trials = [trial for level in record.levels for trial in level.trials]
    if any(trial.failed is not None for trial in trials) or record.data["n_rejected"]:
        raise typer.Exit(FINISHED_WITH_REJECTED)


def _sigmas(sigmas: str | None, low: float | None, high: float | None, levels: int | None) -> tuple[float, ...]:
    """The levels that the options name.

    Raises:
        OptionError: They cannot be read, or do not go together.
    """
    if low is None and high is None and levels is None:
        return SWEEP.sigmas if sigmas is None else _listed(sigmas)
    if sigmas is not None or low is None or high is None:
        raise OptionError(
            "the noise levels cannot be told",
            expected="either --sigmas, or --from and --to with or without --levels",
            found="--sigmas and a range" if sigmas is not None else "a part of a range",
            remedy="name them one way",
        )
    from ngvae_tools.workflows.sweep import log_spaced

    return log_spaced(low, high, len(SWEEP.sigmas) if levels is None else levels)


def _listed(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            "--sigmas cannot be read",
            expected="numbers with commas between them, such as 0.12,0.245,0.5",
            found=repr(text),
            remedy="correct --sigmas",
        ) from None
