"""Run a benchmark and write its record and its table."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.benchmark_record import FILE_NAME, TABLE_NAME, BenchmarkRecord, rows_of
from ngvae_tools.errors import OptionError
from ngvae_tools.files import write_text
from ngvae_tools.reporting.benchmark import markdown
from ngvae_tools.reporting.rejections import rejected_by_run
from ngvae_tools.reporting.words import plural
from ngvae_tools.run import RunRecord
from ngvae_tools.workflows.benchmark.figures import cell_figures
from ngvae_tools.workflows.benchmark.plan import Plan, make_plan
from ngvae_tools.workflows.benchmark.presets import Preset, PresetName, chosen, find_preset
from ngvae_tools.workflows.cells import CELLS, CellsPlan, read_result, run_cells
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.train import require_torch
from ngvae_tools.workflows.versions import versions_of

if TYPE_CHECKING:
    from ngvae_tools.workflows.cell_pool import CellsProgress


def benchmark(
    output: str | os.PathLike[str],
    *,
    preset: PresetName = "quick",
    models: Sequence[str] | None = None,
    latent_dims: Sequence[int] | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    data: Sequence[str | os.PathLike[str]] = (),
    dataset_key: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    on_plan: Callable[[CellsPlan], None] | None = None,
    on_progress: Callable[[CellsProgress], None] | None = None,
) -> BenchmarkRecord:
    """Train every model of a preset on data with known factors, export, analyse, and compare.

    Writes `benchmark.json`, `table.md`, the generated data below `data` and every training below `cells` into the
    folder. Calling again goes on with what was interrupted; with all cells done it makes record and table again.

    Args:
        output: The folder.
        preset: `quick`, `paper` or `full`.
        models: Names of models in place of the preset's.
        latent_dims: Numbers K of latent dimensions in place of the preset's.
        seeds: Number of seeds in place of the preset's.
        epochs: Epochs of every training in place of the paper's schedule, for a try.
        data: Files or folders in place of the preset's generated data: HDF5, folders of images, and the files of
            known data sets that `open_dataset` reads.
        dataset_key: Name of the images in files among them that have several, see `open_dataset`.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that train at the same time; as many as there are cores by default.
        overwrite: Throw away cells of the same name that are other trainings.
        on_plan: Called once before the trainings start, with the time they will take.
        on_progress: Called whenever a training has gone on.

    Returns:
        The record, equal to what `benchmark.json` holds. Cells that failed are in it, with their reason.

    Raises:
        DatasetError: A data set cannot be used.
        OptionError: An option cannot be used.
        OutputError: Another training lies where a cell goes, another process is writing there, or the folder cannot
            be written.
        MissingDependencyError: torch is not installed.

    Example:
        >>> from ngvae_tools import benchmark
        >>> record = benchmark("BENCHMARK", preset="quick")  # doctest: +SKIP
        >>> record.rows[0].figures["count"]  # doctest: +SKIP
        Summary(mean=8.0, sd=0.0, n=2)
    """
    names = None if models is None else tuple(models)
    dims = None if latent_dims is None else tuple(latent_dims)
    chosen_preset = chosen(find_preset(preset), models=names, latent_dims=dims, seeds=seeds)
    command = ["ngvae-tools", "benchmark", "--preset", preset]
    command += [] if names is None else ["--models", ",".join(names)]
    command += [] if dims is None else ["--latent-dims", ",".join(map(str, dims))]
    for option, value in (("--seeds", seeds), ("--epochs", epochs), ("--dataset-key", dataset_key)):
        command += [] if value is None else [option, str(value)]
    command += [word for path in data for word in ("--data", os.fspath(path))]
    return run_preset(
        chosen_preset,
        Path(output),
        command=shlex.join([*command, "--output", f"{os.fspath(output)}"]),
        epochs=epochs,
        data=data,
        dataset_key=dataset_key,
        device=device,
        workers=workers,
        overwrite=overwrite,
        on_plan=on_plan,
        on_progress=on_progress,
    )


def run_preset(
    preset: Preset,
    folder: Path,
    *,
    command: str,
    epochs: int | None = None,
    data: Sequence[str | os.PathLike[str]] = (),
    dataset_key: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    overwrite: bool = False,
    on_plan: Callable[[CellsPlan], None] | None = None,
    on_progress: Callable[[CellsProgress], None] | None = None,
) -> BenchmarkRecord:
    """Run any preset; see `benchmark`."""
    if epochs is not None and epochs < 1:
        raise OptionError(
            "--epochs cannot be used",
            expected="a whole number above 0",
            found=str(epochs),
            remedy="pass another --epochs, or leave it out",
        )
    if dataset_key is not None and not data:
        raise OptionError(
            "--dataset-key would do nothing in this run",
            expected="--data with it",
            found="the preset's own data",
            remedy="leave --dataset-key out, or name a file with --data",
        )
    require_torch()
    from ngvae_tools.training.devices import training_device, training_devices

    used = training_device(device).type
    words = next(name for name in training_devices() if name.startswith(used))
    with locked(folder):
        plan = make_plan(
            preset,
            folder,
            command=command,
            device=words,
            data=data,
            dataset_key=dataset_key,
            epochs=epochs,
            training_device=device,
        )

        def begin(cells: CellsPlan) -> None:
            # Not before: a benchmark that is refused must not stand for the one that is there.
            plan.write(folder)
            if on_plan is not None:
                on_plan(cells)

        run_cells(plan.cells, folder, workers=workers, overwrite=overwrite, on_plan=begin, on_progress=on_progress)
        plan.write(folder)
        return tabulate(folder)


def tabulate(output: str | os.PathLike[str]) -> BenchmarkRecord:
    """Make record and table of a benchmark again from its cells, as far as it has run.

    Args:
        output: The benchmark's folder.

    Returns:
        The record, equal to what `benchmark.json` holds; cells that have not run are in it as such.

    Raises:
        RecordError: The folder holds no benchmark.
        OutputError: The files cannot be written.
    """
    folder = Path(output)
    record = _record(Plan.read(folder), folder)
    write_text(folder / FILE_NAME, record.to_json())
    write_text(folder / TABLE_NAME, markdown(record))
    return record


def _record(plan: Plan, folder: Path) -> BenchmarkRecord:
    data = {each.name: each for each in plan.data}
    results = [read_result(cell, folder / CELLS / cell.name) for cell in plan.cells]
    cells = tuple(
        cell_figures(cell, result, data[cell.options["data"]]) for cell, result in zip(plan.cells, results, strict=True)
    )
    record = BenchmarkRecord(
        preset=plan.preset,
        command=plan.command,
        data=plan.data,
        models=plan.models,
        cells=cells,
        rows=rows_of(cells, plan.models),
        device=plan.device,
        timings={"cell_seconds": sum(result.seconds for result in results if result is not None)},
        versions=versions_of("torch", "numpy", "scikit-learn", "onnxruntime"),
    )
    runs = [
        (cell.name, result.run())
        for cell, result in zip(plan.cells, results, strict=True)
        if cell.train and result is not None and result.failed is None
    ]
    return dataclasses.replace(record, notes=(*_notes(plan, record), *_notes_on_runs(plan, runs)))


def _notes_on_runs(plan: Plan, runs: Sequence[tuple[str, RunRecord]]) -> Iterator[str]:
    by_schedule = {cell.name for cell in plan.cells if cell.config.epochs is None}
    early = [name for name, run in runs if name in by_schedule and (run.summary or {}).get("ended_by") != "schedule"]
    if early:
        yield f"The paper's schedule had not ended after the greatest number of epochs: {', '.join(early)}."
    for name in ("torch", "numpy"):
        used = sorted({str(run.config["versions"].get(name)) for _, run in runs})
        if len(used) > 1:
            yield f"Trainings were made by different versions of {name}: {', '.join(used)}."
    devices = sorted({str(run.config["identity"]["device"]) for _, run in runs})
    if len(devices) > 1 or (devices and not plan.device.startswith(devices[0])):
        yield f"Trainings ran on {' and '.join(devices)}, whatever the last call ran on."
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for _, run in runs:
        by_path.setdefault(run.config["data"]["path"], []).append(run.config)
    for path, configs in by_path.items():
        worst = max(configs, key=lambda config: len(config["data"]["rejected"]))
        if rejected := rejected_by_run(worst):
            yield f"{path}: {rejected}; config.json of each training lists them."


def _notes(plan: Plan, record: BenchmarkRecord) -> tuple[str, ...]:
    notes = []
    trained = [cell.config for cell in plan.cells if cell.train]
    if any(config.epochs is not None for config in trained):
        length = plural(trained[0].epochs or 0, "epoch", "epochs")
        notes.append(
            f"Every model was trained for {length}, not to the end of the paper's schedule; its counts may yet change."
        )
    stretched = [
        each.name
        for each in plan.data
        if any(cell.config.resize is not None for cell in plan.cells if cell.options["data"] == each.name)
    ]
    if stretched:
        notes.append(f"Images of {', '.join(stretched)} were stretched to 64x64, a size that the networks take.")
    unknown = [each.name for each in plan.data if each.intrinsic is None]
    if unknown:
        notes.append(f"No factors are known of {', '.join(unknown)}: no metric against them, no interval of the count.")
    failed = sum(len(row.failures) for row in record.rows)
    if failed:
        notes.append(f"{failed} of {len(record.cells)} cells have no result; the table says why.")
    not_run = sum(row.not_run for row in record.rows)
    if not_run:
        notes.append(f"{not_run} of {len(record.cells)} cells have not run yet; the same command goes on.")
    return tuple(notes)
