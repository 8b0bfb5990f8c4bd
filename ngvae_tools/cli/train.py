"""`ngvae-tools train`: train a model and export it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ngvae_tools.cli.processes import follows, let_speak, several
from ngvae_tools.cli.terminal import (
    FINISHED_WITH_REJECTED,
    INTERRUPTED,
    DatasetKey,
    LogFile,
    Overwrite,
    Quiet,
    Terminal,
    logger,
)
from ngvae_tools.errors import OptionError
from ngvae_tools.run import EVENTS_NAME
from ngvae_tools.training.config import TrainingConfig

if TYPE_CHECKING:
    from ngvae_tools.run import EpochRecord
    from ngvae_tools.training.loop import TrainingProgress

DEFAULTS = TrainingConfig()


def command(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder, file or store of images, or its URL (see the README) [default: sprites.h5, made here].",
            metavar="[DATA]",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run folder [default: run-<name of the data>].")
    ] = None,
    model: Annotated[
        Literal["ngvae", "vae", "beta-vae", "beta-tcvae", "factor-vae", "ard-vae"], typer.Option(help="What to train.")
    ] = "ngvae",
    objective: Annotated[
        Literal["adaptive", "mixture", "paper"] | None,
        typer.Option(
            help="For ngvae: the mixture with learned prior weights, the mixture with a fixed one, or Eq. 5-10 as "
            "printed [default: adaptive]."
        ),
    ] = None,
    gradient: Annotated[
        Literal["pathwise", "g-rep"],
        typer.Option(help="Gradient estimator of an ngvae; g-rep is the paper's (Eq. 12-15)."),
    ] = "pathwise",
    control_variate: Annotated[
        bool,
        typer.Option(help="With g-rep, subtract the other images' distortion from what the score term multiplies."),
    ] = DEFAULTS.control_variate,
    latent_dim: Annotated[int, typer.Option(help="Number K of latent dimensions.")] = DEFAULTS.latent_dim,
    sigma: Annotated[
        float,
        typer.Option(help="Noise level of the likelihood on images in [0, 1]; the paper's is 0.02."),
    ] = DEFAULTS.sigma,
    learn_sigma: Annotated[
        bool, typer.Option("--learn-sigma", help="Let sigma follow the training error (sigma-VAE), from --sigma on.")
    ] = False,
    beta: Annotated[
        float | None,
        typer.Option(
            help="Weight of the rate, for beta-tcvae of the total correlation [default: 4 for beta-vae, 6 for "
            "beta-tcvae, else 1]."
        ),
    ] = None,
    gamma: Annotated[float, typer.Option(help="Weight of a factor-vae's total correlation.")] = DEFAULTS.gamma,
    slope: Annotated[
        float, typer.Option(help="Slope r of Eq. 5, objective paper; the paper gives none.")
    ] = DEFAULTS.slope,
    prior_nats: Annotated[
        float, typer.Option(help="log(1/pi) of the informative law's prior weight, objectives adaptive and mixture.")
    ] = DEFAULTS.prior_nats,
    epochs: Annotated[
        int | None,
        typer.Option(help="Train for so many epochs [default: the paper's schedule decides when to stop]."),
    ] = None,
    max_epochs: Annotated[
        int, typer.Option(help="Where the paper's schedule stops at the latest.")
    ] = DEFAULTS.max_epochs,
    plateau_nats: Annotated[
        float | None,
        typer.Option(help="A plateau is five losses within so many nats [default: within 1 %, as in the paper]."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Images a step, over all processes of torchrun.")
    ] = DEFAULTS.batch_size,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = DEFAULTS.learning_rate,
    held_out: Annotated[float, typer.Option(help="Share of images held out.")] = DEFAULTS.held_out,
    seed: Annotated[int, typer.Option(help="The same seed trains the same weights.")] = DEFAULTS.seed,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")] = "auto",
    precision: Annotated[
        Literal["float32", "bf16"], typer.Option(help="Of the networks' arithmetic; exported files are float32.")
    ] = "float32",
    decoder: Annotated[
        Literal["paper", "broadcast"],
        typer.Option(help="The paper's decoder, or the spatial broadcast decoder (Watters et al. 2019)."),
    ] = "paper",
    coordconv: Annotated[
        bool,
        typer.Option(
            "--coordconv", help="Give the encoder's and the paper decoder's convolutions coordinate channels."
        ),
    ] = False,
    resize: Annotated[
        Literal["stretch", "crop", "pad"] | None, typer.Option(help="Bring images to --size x --size.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side after --resize, a multiple of 16.")] = DEFAULTS.size,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write event files for TensorBoard into the run folder (extra tensorboard)."
        ),
    ] = False,
    dataset_key: DatasetKey = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Train an NGVAE (or a baseline) and export its encoder and decoder to ONNX.

    A run that was interrupted goes on when the same command is given again.
    """
    follower = follows()
    terminal = Terminal(context, quiet=quiet or follower, log_file=None if follower else log_file)
    config = TrainingConfig(
        model=model,
        objective=objective,
        gradient=gradient,
        control_variate=control_variate,
        latent_dim=latent_dim,
        sigma=sigma,
        learn_sigma=learn_sigma,
        beta=beta,
        gamma=gamma,
        slope=slope,
        prior_nats=prior_nats,
        epochs=epochs,
        max_epochs=max_epochs,
        plateau_nats=plateau_nats,
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
    from ngvae_tools.reporting.rejections import rejected_by_run
    from ngvae_tools.reporting.words import plural, unfinished
    from ngvae_tools.training.allocator import keep_freed_memory
    from ngvae_tools.workflows.train import default_run, train

    keep_freed_memory()
    data = data or str(_made_here(terminal))
    folder = output or default_run(data)
    let_speak()
    terminal.say(f"Training on {data}; the run goes to {folder}.")
    if tensorboard:
        terminal.say(
            f"Event files go to {folder / EVENTS_NAME}: {shlex.join(['tensorboard', '--logdir', str(folder)])}"
        )
    try:
        with _progress(terminal, epochs_are_fixed=epochs is not None) as on_progress:
            run = train(
                data,
                folder,
                config=config,
                dataset_key=dataset_key,
                overwrite=overwrite,
                tensorboard=tensorboard,
                on_progress=on_progress,
            )
    except KeyboardInterrupt:
        if follower:
            raise typer.Exit(INTERRUPTED) from None
        raise KeyboardInterrupt(_kept(folder)) from None
    if follower:
        return
    assert run.summary is not None
    terminal.say(f"Trained for {plural(len(run.epochs), 'epoch', 'epochs')}. {_figures(run.epochs[-1])}")
    if run.summary["ended_by"] != "schedule":
        terminal.say(
            "Training stopped before the paper's schedule would have ended it: the number of informative dimensions "
            "may still change. Without --epochs the schedule decides."
        )
    if told := unfinished(run.summary.get("adapted")):
        terminal.say(told)
    for name, export in run.summary["exports"].items():
        terminal.say(
            f"Wrote {folder / name} ({export['bytes'] / 1e6:.2f} MB); torch and onnxruntime differ by at most "
            f"{export['max_abs_difference']:.1e}."
        )
    rejected = rejected_by_run(run.config)
    if rejected:
        terminal.say(f"{rejected}; {folder / 'config.json'} lists each.")
    key = [] if dataset_key is None else ["--dataset-key", dataset_key]
    terminal.next("select-latents", run.encoder, data, *key)
    if rejected:
        raise typer.Exit(FINISHED_WITH_REJECTED)


def _made_here(terminal: Terminal) -> Path:
    """The paper's sprites in the current folder."""
    from ngvae_tools.workflows.train import default_data

    if several():
        raise OptionError(
            "several processes cannot make the data",
            expected="a data set by name",
            found="none",
            remedy="name one, such as sprites.h5 made by ngvae-tools sprites",
        )
    data, made = default_data()
    terminal.say(
        f"No data named: made the paper's sprites in {data}." if made else f"No data named: using {data}, here."
    )
    return data


def _kept(folder: Path) -> str:
    """What an interrupted training has left."""
    from ngvae_tools.reporting.words import plural
    from ngvae_tools.run import CHECKPOINT_NAME, CONFIG_NAME, RunRecord

    if not (folder / CONFIG_NAME).exists():
        return "the training had not begun"
    run = RunRecord.read(folder)
    if run.summary is not None:
        return f"the finished run in {folder} is as it was"
    if not (folder / CHECKPOINT_NAME).exists():
        return "there is no checkpoint yet; the same command starts anew"
    done = plural(len(run.epochs), "epoch", "epochs")
    return f"{folder} keeps a checkpoint ({done} done); the same command goes on from there"


def _figures(epoch: EpochRecord) -> str:
    train = epoch.train
    text = (
        f"Loss {train.loss:.1f}, distortion {train.distortion:.1f}, rate {train.rate:.1f} nats; "
        f"informative {epoch.informative} of {len(epoch.rate_per_dimension)}"
    )
    if epoch.held_out is not None:
        text += f"; held out: loss {epoch.held_out.loss:.1f}, MSE {epoch.held_out.mse:.2e}"
    return text + "."


@contextmanager
def _progress(terminal: Terminal, *, epochs_are_fixed: bool) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar that moves in a terminal, a line an epoch elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=12),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    from ngvae_tools.reporting.words import plural

    said = 0
    said_resumed: list[tuple[int, int]] = []
    with Progress(*columns, console=terminal.err, disable=not terminal.interactive) as bar:
        task = bar.add_task("train", total=None, epoch="1", figures="")

        def on_progress(progress: TrainingProgress) -> None:
            nonlocal said
            last = progress.last
            if progress.resumed is not None and not said_resumed:
                said_resumed.append(progress.resumed)
                said, steps = progress.resumed
                within = f" and {plural(steps, 'step', 'steps')} of the next" if steps else ""
                terminal.say(f"Going on from the checkpoint after {plural(said, 'epoch', 'epochs')}{within}.")
            figures = f"loss {progress.loss:.1f}"
            if last is not None:
                figures += (
                    f" distortion {last.train.distortion:.1f} rate {last.train.rate:.1f} informative {last.informative}"
                )
            bar.update(
                task,
                completed=(progress.epoch - 1) * progress.steps + progress.step,
                # The paper's schedule ends a training long before its ceiling: a time left would be untrue.
                total=progress.epochs * progress.steps if epochs_are_fixed else None,
                epoch=f"{progress.epoch}/{progress.epochs}" if epochs_are_fixed else str(progress.epoch),
                figures=figures,
            )
            if last is not None and last.epoch > said:
                said = last.epoch
                logger.info("epoch %d: %s", last.epoch, _figures(last))
                if not terminal.interactive and not terminal.quiet:
                    terminal.err.print(f"Epoch {last.epoch}: {_figures(last)}", markup=False)

        yield on_progress
