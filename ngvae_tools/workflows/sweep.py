"""sweep: how many dimensions are informative at each noise level, and over which range the number holds."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.analysis.plateau import widest_plateaus
from ngvae_tools.datasets import open_dataset
from ngvae_tools.datasets.places import Place, location_of, name_of, place_of
from ngvae_tools.errors import NgvaeToolsError, OptionError, TrainingDivergedError
from ngvae_tools.files import refuse_existing, write_text
from ngvae_tools.reporting.rejections import rejected_by_run
from ngvae_tools.reporting.sweep_figure import write_figures
from ngvae_tools.run import RunRecord
from ngvae_tools.sweep_record import (
    FILE_NAME,
    PNG_NAME,
    SVG_NAME,
    Level,
    Scalar,
    SweepRecord,
    Trial,
    Verdict,
)
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.sweep_config import SweepConfig
from ngvae_tools.workflows.cells import CELLS, Cell, CellResult, CellsPlan, first_failure, run_cells
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.sweep_notes import sweep_notes
from ngvae_tools.workflows.versions import versions_of

if TYPE_CHECKING:
    from ngvae_tools.workflows.cell_pool import CellsProgress

RELEVANCE = "relevance"
"""The rule of an ARD-VAE's paper, by which its training counts."""

BY_LEVEL = ("sigma", "seed", "data_seed")
"""Options of a training that the sweep sets itself."""


def sweep(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    sigmas: Sequence[float] | None = None,
    restarts: int | None = None,
    config: TrainingConfig | None = None,
    dataset_key: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    on_plan: Callable[[CellsPlan], None] | None = None,
    on_progress: Callable[[CellsProgress], None] | None = None,
    **options: Any,
) -> SweepRecord:
    """Train at several noise levels and find the number of informative dimensions that holds over the widest range.

    The noise level decides how many dimensions a variational auto-encoder uses; a number that stays over a wide
    range of it belongs to the data. Each level is started cold, since a training that goes on from another level
    keeps that level's dimensions, and of its restarts, which share their split, the one of least held-out loss
    stands for it. Calling again goes on with what was interrupted. Writes `sweep.json`, `sweep.svg`, `sweep.png`
    and the trainings below `cells`.

    Args:
        data: A folder, file or store of images, a published data set, or a URL, see `open_dataset`.
        output: The folder to write to; one named after the data in the current folder by default.
        sigmas: Noise levels, two at least; those of `SweepConfig` by default.
        restarts: Trainings a level; those of `SweepConfig` by default.
        config: How to train; or give its fields as keyword arguments, where `epochs` is that of `SweepConfig` by
            default.
        dataset_key: Name of the images in a file or store that has several, see `open_dataset`.
        workers: Processes that train at the same time; as many as there are cores by default.
        overwrite: Replace a finished sweep; trainings that would be the same are kept.
        on_plan: Called once before the trainings start, with the time they will take.
        on_progress: Called whenever a training has gone on.
        **options: Fields of `TrainingConfig`, such as `latent_dim=15, epochs=60`.

    Returns:
        The record, equal to what `sweep.json` holds.

    Raises:
        DatasetError: The data set cannot be trained on.
        OptionError: An option cannot be used.
        OutputError: The result exists, another sweep is there, or it cannot be written; or another process is
            writing it.
        MissingDependencyError: torch is not installed.
        TrainingDivergedError: No training came to its end.

    Example:
        >>> from ngvae_tools import sweep
        >>> record = sweep("images/", "SWEEP", latent_dim=15)  # doctest: +SKIP
        >>> record.verdicts[0].answer  # doctest: +SKIP
        Plateau(count=6, low=0.245, high=0.5, levels=3)
    """
    started = time.perf_counter()
    defaults = SweepConfig()
    base = _config(config, options, defaults)
    levels = _levels(defaults.sigmas if sigmas is None else sigmas)
    restarts = defaults.restarts if restarts is None else restarts
    if restarts < 1:
        raise _unusable("--restarts", "a whole number above 0", str(restarts))
    path = place_of(data)
    folder = Path(output) if output is not None else default_sweep(path)
    cells = [_cell(path, base, sigma, base.seed + i, dataset_key) for sigma in levels for i in range(restarts)]
    with locked(folder):
        refuse_existing(folder / FILE_NAME, overwrite=overwrite, found="a finished sweep")
        if not (folder / CELLS).exists():  # else the figures are those of a sweep that was ended before its record
            for name in (SVG_NAME, PNG_NAME):
                refuse_existing(folder / name, overwrite=overwrite, found="a file of that name")

        def begin(plan: CellsPlan) -> None:
            # From here on the record would be of trainings that are no longer there.
            for name in (FILE_NAME, SVG_NAME, PNG_NAME):
                (folder / name).unlink(missing_ok=True)
            if on_plan is not None:
                on_plan(plan)

        results = run_cells(cells, folder, workers=workers, overwrite=overwrite, on_plan=begin, on_progress=on_progress)
        record = _record(path, base, levels, results, dataset_key)
        record = dataclasses.replace(record, timings=_timings(results, time.perf_counter() - started))
        write_figures(record, folder)
        write_text(folder / FILE_NAME, record.to_json())
    return record


def default_sweep(data: str | os.PathLike[str]) -> Path:
    """The folder of a sweep when none is named: after the data, in the current folder."""
    return Path(f"sweep-{name_of(place_of(data))}")


def log_spaced(low: float, high: float, levels: int) -> tuple[float, ...]:
    """Levels from `low` to `high`, evenly spaced on a logarithmic axis, to four digits.

    Raises:
        OptionError: The ends are no positive numbers in order or too close, or there are fewer than two levels.
    """
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise _unusable("--from and --to", "two numbers above 0, the lesser first", f"{low:g} and {high:g}")
    if levels < 2:
        raise _unusable("--levels", "two levels or more", str(levels))
    step = math.log(high / low) / (levels - 1)
    found = tuple(float(f"{low * math.exp(i * step):.4g}") for i in range(levels))
    if len(set(found)) < levels:
        raise _unusable("--from and --to", f"ends far enough apart for {levels} levels", f"{low:g} and {high:g}")
    return found


def _config(config: TrainingConfig | None, options: dict[str, Any], defaults: SweepConfig) -> TrainingConfig:
    names = {field.name for field in dataclasses.fields(TrainingConfig)} - set(BY_LEVEL) | {"seed"}
    unknown = sorted(set(options) - names)
    if unknown:
        raise OptionError(
            "sweep has no such option",
            expected=f"fields of TrainingConfig ({', '.join(sorted(names))})",
            found=", ".join(unknown),
            remedy="pass noise levels as sigmas" if "sigma" in unknown else "correct the name",
        )
    if config is None:
        options = {"epochs": None if "max_epochs" in options else defaults.epochs, **options}
    result = dataclasses.replace(config or TrainingConfig(), **options)
    if result.learn_sigma:
        raise _unusable("--learn-sigma", "fixed noise levels in a sweep", "a sigma that changes in training")
    return result


def _levels(sigmas: Sequence[float]) -> tuple[float, ...]:
    levels = tuple(sorted(float(sigma) for sigma in sigmas))
    if len(levels) < 2 or len(set(levels)) < len(levels) or not all(math.isfinite(s) and s > 0 for s in levels):
        found = ", ".join(f"{sigma:g}" for sigma in levels) or "none"
        raise _unusable("--sigmas", "at least two different numbers above 0", found)
    return levels


def _cell(data: Place, base: TrainingConfig, sigma: float, seed: int, dataset_key: str | None) -> Cell:
    config = dataclasses.replace(base, sigma=sigma, seed=seed, data_seed=base.seed)
    return Cell(name=f"sigma-{sigma!r}-seed-{seed}", data=data, config=config, dataset_key=dataset_key)


def _record(
    data: Place,
    base: TrainingConfig,
    sigmas: Sequence[float],
    results: Sequence[CellResult],
    dataset_key: str | None,
) -> SweepRecord:
    done = next((result for result in results if result.failed is None), None)
    if done is None:
        raise _all_failed(results)
    analysis = done.analysis()
    rule = RELEVANCE if _relevance(done.run()) is not None else analysis.selection.rule
    trials = [_trial(result) for result in results]
    size = len(results) // len(sigmas)
    levels = tuple(_level(sigma, trials[i * size : (i + 1) * size]) for i, sigma in enumerate(sigmas))
    verdicts = tuple(
        Verdict(name, widest_plateaus(sigmas, [level.count(name) for level in levels], base.latent_dim))
        for name in (rule, "information")
    )
    with open_dataset(data, dataset_key=dataset_key) as dataset:
        about: dict[str, Scalar] = {
            "path": location_of(data),
            "fingerprint": dataset.fingerprint(),
            "n_images": len(dataset),
            "n_rejected": len(done.run().config["data"]["rejected"]),
            "rejected": rejected_by_run(done.run().config),
        }
    options = {
        **dataclasses.asdict(base),
        "objective": base.resolved_objective,
        "beta": base.resolved_beta,
    }
    record = SweepRecord(
        data=about,
        options={name: value for name, value in options.items() if name not in BY_LEVEL},
        latent_dim=base.latent_dim,
        rule=rule,
        levels=levels,
        verdicts=verdicts,
        timings={},
        versions=versions_of("torch", "numpy", "onnxruntime"),
    )
    return dataclasses.replace(record, notes=sweep_notes(record))


def _trial(result: CellResult) -> Trial:
    cell = result.cell
    if result.failed is not None:
        return Trial(cell.name, cell.config.seed, failed=result.failed)
    run, analysis = result.run(), result.analysis()
    last = run.epochs[-1]
    figures = last.held_out or last.train
    information = [row.information for row in analysis.dimensions]
    p = [row.p_mean for row in analysis.dimensions]
    intrinsic = analysis.intrinsic_dimension
    counts = {rule.rule: rule.count for rule in analysis.rules}
    relevance = _relevance(run)
    if relevance is not None:
        counts = {RELEVANCE: relevance["count"], **counts}
    return Trial(
        cell.name,
        cell.config.seed,
        held_out=last.held_out is not None,
        loss=figures.loss,
        distortion=figures.distortion,
        rate=figures.rate,
        mse=figures.mse,
        counts=counts,
        informative=analysis.selection.indices if relevance is None else tuple(relevance["relevant"]),
        p=_all_known(p),
        information=_all_known(information),
        two_nn=None if intrinsic is None else intrinsic.two_nn,
        two_nn_interval=None if intrinsic is None else intrinsic.two_nn_interval,
        epochs=last.epoch,
        settled=_settled([epoch.informative for epoch in run.epochs]),
        adapted=(run.summary or {}).get("adapted"),
    )


def _relevance(run: RunRecord) -> Mapping[str, Any] | None:
    """What an ARD-VAE's own rule says; None for other models."""
    found: Mapping[str, Any] | None = (run.summary or {}).get("relevance")
    return found


def _all_known(values: Sequence[float | None]) -> tuple[float, ...] | None:
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def _settled(counts: Sequence[int]) -> int:
    """How many of the last counts are equal."""
    changed = [i for i, count in enumerate(counts) if count != counts[-1]]
    return len(counts) - (changed[-1] + 1 if changed else 0)


def _level(sigma: float, trials: Sequence[Trial]) -> Level:
    losses = [math.inf if trial.loss is None else trial.loss for trial in trials]
    least = min(losses)
    return Level(sigma, tuple(trials), None if least == math.inf else losses.index(least))


def _timings(results: Sequence[CellResult], total: float) -> dict[str, float]:
    return {"total_seconds": total, "training_seconds": sum(result.seconds for result in results)}


def _all_failed(results: Sequence[CellResult]) -> NgvaeToolsError:
    diverged = all(result.exit_code == TrainingDivergedError.exit_code for result in results)
    kind = TrainingDivergedError if diverged else OptionError
    return kind(
        "no training of the sweep came to its end",
        expected="at least one that does",
        found=f"{len(results)} that failed, such as {first_failure(results)}".rstrip("."),
        remedy="mend that, or try one training with ngvae-tools train",
    )


def _unusable(option: str, expected: str, found: str) -> OptionError:
    return OptionError(f"{option} cannot be used", expected=expected, found=found, remedy=f"pass another {option}")
