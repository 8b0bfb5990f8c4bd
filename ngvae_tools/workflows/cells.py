"""Cells: many trainings, each exported and analysed, in worker processes, kept one by one and started again.

A cell is one training of a data set by one configuration, its exported files, and their analysis with the decoder.
All cells of a folder lie in `cells/NAME/`: `request.json` (what it is, and its fingerprint), `run/` as train writes
it, `analysis/` as select-latents does, and last `cell.json`, which says that the cell is finished or why it failed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets import open_dataset
from ngvae_tools.datasets.base import ImageDataset
from ngvae_tools.datasets.places import Place, place_of
from ngvae_tools.errors import OptionError, OutputError, RecordError, TrainingDivergedError
from ngvae_tools.files import output_errors, write_text
from ngvae_tools.record import REPLICATES, AnalysisRecord
from ngvae_tools.run import RunRecord
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.supervised import open_labels
from ngvae_tools.workflows.train import require_torch

if TYPE_CHECKING:
    from ngvae_tools.workflows.cell_pool import CellsProgress

CELLS = "cells"
REQUEST_NAME = "request.json"
RESULT_NAME = "cell.json"
RUN_FOLDER = "run"
ANALYSIS_FOLDER = "analysis"

USUAL_EPOCHS = 65
"""Epochs after which the paper's schedule usually ends, for what is said beforehand of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training and what is measured of it.

    Attributes:
        name: Name of its folder; unique among the cells of a folder.
        data: A folder, file or store of images, a published data set, or a URL, see `open_dataset`.
        config: How to train.
        dataset_key: Name of the images in a file or store that has several, see `open_dataset`.
        labels: As `select_latents` takes them; None leaves out what needs them.
        predict: Whether DCI and SAP are among what is measured with labels; they take minutes.
        train: Whether to train and analyse; else `extra` does all.
        bootstrap: Replicates behind the intervals of the analysis.
        extra: `module:function`, called in the worker as `function(folder, cell)` after the analysis; what it
            returns must be JSON and is kept as the result's `extra`.
        options: JSON values that `extra` reads.
    """

    name: str
    data: Place
    config: TrainingConfig
    dataset_key: str | None = None
    labels: str | None = None
    predict: bool = True
    train: bool = True
    bootstrap: int = REPLICATES
    extra: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, `from_json` of which is equal."""
        return {**dataclasses.asdict(self), "data": str(self.data)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Cell:
        """Build from `to_json`."""
        return cls(**{**raw, "data": place_of(raw["data"]), "config": TrainingConfig(**raw["config"])})

    @property
    def expected_epochs(self) -> int:
        """Epochs that it will probably take."""
        return self.config.epochs or min(USUAL_EPOCHS, self.config.max_epochs)


@dataclass(frozen=True, slots=True)
class CellResult:
    """What became of a cell.

    Attributes:
        cell: The cell.
        folder: Where it lies.
        failed: Why it has no result; None where it has one.
        exit_code: Of the error, 0 without one.
        seconds: How long its last attempt took.
        extra: What the cell's `extra` returned.
    """

    cell: Cell
    folder: Path
    failed: str | None = None
    exit_code: int = 0
    seconds: float = 0.0
    extra: Any = None

    def run(self) -> RunRecord:
        """Its training."""
        return RunRecord.read(self.folder / RUN_FOLDER)

    def analysis(self) -> AnalysisRecord:
        """Its analysis."""
        return AnalysisRecord.read(self.folder / ANALYSIS_FOLDER)


@dataclass(frozen=True, slots=True)
class CellsPlan:
    """What is about to be done.

    Attributes:
        total: Number of cells.
        kept: Those that are finished already.
        workers: Worker processes.
        seconds: How long it will take, from steps timed on this machine with every worker busy.
    """

    total: int
    kept: int
    workers: int
    seconds: float


def run_cells(
    cells: Sequence[Cell],
    folder: Path,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    on_plan: Callable[[CellsPlan], None] | None = None,
    on_progress: Callable[[CellsProgress], None] | None = None,
) -> tuple[CellResult, ...]:
    """Run cells in worker processes, each with one thread; a cell that fails does not stop the others.

    Finished cells are kept, and diverged ones too, which would diverge again; unfinished ones go on where they
    were, other failed ones are tried again.

    Args:
        cells: What to run.
        folder: Where `cells/` lies.
        workers: Worker processes; as many as this process may use cores by default.
        overwrite: Throw away cells of the same name that are other trainings.
        on_plan: Called once before the first cell starts; not called where all are finished.
        on_progress: Called whenever a worker says how far it is.

    Returns:
        A result a cell, in the order of `cells`.

    Raises:
        OptionError: Two cells have one name, or there are fewer than one worker.
        OutputError: A cell of the folder is another one, or the folder cannot be written.
        MissingDependencyError: torch is not installed.
        DatasetError: A data set cannot be opened or trained on.
        DeviceError: The device cannot be used, or not in the precision asked for.
        KeyboardInterrupt: It was interrupted; no worker runs any more, and calling again goes on.
    """
    if len({cell.name for cell in cells}) < len(cells):
        raise OptionError(
            "two cells cannot have one name", expected="a name each", found="one twice", remedy="name them apart"
        )
    if workers is not None and workers < 1:
        raise OptionError(
            "--workers cannot be used",
            expected="a whole number above 0",
            found=str(workers),
            remedy="pass another --workers, or leave it out",
        )
    require_torch()
    requests = _requests(cells)
    places = [folder / CELLS / cell.name for cell in cells]
    others = [_holds_another(place, request, overwrite) for place, request in zip(places, requests, strict=True)]
    found = [
        None if other else _finished(cell, place) for cell, place, other in zip(cells, places, others, strict=True)
    ]
    todo = [index for index, result in enumerate(found) if result is None]
    if todo:
        from ngvae_tools.workflows.cell_pool import CellPool

        shapes = [_shape(cells[index]) for index in todo]
        with output_errors(folder):
            for index in todo:
                if others[index]:
                    shutil.rmtree(places[index])
                places[index].mkdir(parents=True, exist_ok=True)
                (places[index] / RESULT_NAME).unlink(missing_ok=True)
                write_text(places[index] / REQUEST_NAME, json.dumps(requests[index], indent=2) + "\n")
        count = min(workers or _cores(), len(todo))
        with CellPool([cells[index] for index in todo], [places[index] for index in todo], shapes, count) as pool:
            seconds = pool.estimate()
            if on_plan is not None:
                on_plan(CellsPlan(len(cells), len(cells) - len(todo), count, seconds))
            for index, result in zip(todo, pool.run(on_progress), strict=True):
                found[index] = result
    return tuple(result for result in found if result is not None)


def write_result(result: CellResult) -> None:
    """Write `cell.json`, the last file of a cell."""
    body = {"failed": result.failed, "exit_code": result.exit_code, "seconds": result.seconds, "extra": result.extra}
    write_text(result.folder / RESULT_NAME, json.dumps(body, indent=2, allow_nan=False) + "\n")


def read_result(cell: Cell, folder: Path) -> CellResult | None:
    """What became of a cell at its last attempt; None where it has not ended."""
    try:
        body = json.loads((folder / RESULT_NAME).read_text(encoding="utf-8"))
        return CellResult(cell, folder, body["failed"], body["exit_code"], body["seconds"], body["extra"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def first_failure(results: Sequence[CellResult]) -> str | None:
    """Name and reason of the first cell that failed; None where none did."""
    return next((f"{r.cell.name}: {r.failed}" for r in results if r.failed is not None), None)


def epochs_done(folder: Path) -> int:
    """Epochs that an unfinished cell's run has behind it."""
    try:
        return len(RunRecord.read(folder / RUN_FOLDER).epochs)
    except RecordError:
        return 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _requests(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What each cell is, with its fingerprint: the same for the same configuration and the same data."""
    data: dict[tuple[Place, str | None, str | None], tuple[str, str | None]] = {}
    requests = []
    for cell in cells:
        key = (cell.data, cell.dataset_key, cell.labels)
        if key not in data:
            with open_dataset(cell.data, dataset_key=cell.dataset_key) as dataset:
                data[key] = dataset.fingerprint(), _labels(cell, dataset)
        what = {**cell.to_json(), **dict(zip(("data", "labels"), data[key], strict=True))}
        # Tuples come back from JSON as lists.
        what = json.loads(json.dumps(what, sort_keys=True))
        fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        requests.append({"fingerprint": fingerprint, "what": what})
    return requests


def _labels(cell: Cell, dataset: ImageDataset) -> str | None:
    """Identifies the labels' content; None where there are none."""
    labels = None if cell.labels is None else open_labels(cell.labels, dataset)
    if labels is None:
        return None
    factors = labels.factors
    named = [factors.classes] if any(factors.classes) else []
    digest = hashlib.sha256(json.dumps([factors.names, factors.kinds, factors.values.shape, *named]).encode())
    digest.update(labels.index.tobytes())
    digest.update(np.ascontiguousarray(factors.values).tobytes())
    return digest.hexdigest()


def _shape(cell: Cell) -> tuple[int, int, int, int]:
    """Number of images, and (H, W, C) as they are trained on."""
    from ngvae_tools.training.devices import training_device
    from ngvae_tools.training.networks import check_image_shape
    from ngvae_tools.training.precision import check_precision

    check_precision(cell.config.precision, training_device(cell.config.device))
    with open_dataset(cell.data, dataset_key=cell.dataset_key) as dataset:
        height, width, channels = dataset.image_shape
        if cell.config.resize is not None:
            height = width = cell.config.size
        check_image_shape((height, width, channels), None if cell.config.resize else dataset.shape_from)
        return len(dataset), height, width, channels


def _holds_another(place: Path, request: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether another training lies there, that `overwrite` allows to be thrown away.

    Raises:
        OutputError: There is one, and nothing allows it.
    """
    try:
        before = json.loads((place / REQUEST_NAME).read_text(encoding="utf-8"))
        same = before["fingerprint"] == request["fingerprint"]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, KeyError, TypeError):
        before, same = {"fingerprint": "that cannot be read"}, False
    if same or overwrite:
        return not same
    ours, theirs = _flat(request["what"]), _flat(before.get("what", {}))
    other = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    differ = f" (other: {', '.join(other)})" if other else ""
    raise OutputError(
        f"{place} holds another training",
        expected=f"fingerprint {request['fingerprint'][:16]}",
        found=f"fingerprint {str(before['fingerprint'])[:16]}{differ}",
        remedy="name another --output, or pass --overwrite to throw away what is there",
    )


def _flat(what: Mapping[str, Any]) -> dict[str, Any]:
    config = what.get("config", {})
    return {**{key: value for key, value in what.items() if key != "config"}, **config}


def _finished(cell: Cell, place: Path) -> CellResult | None:
    result = read_result(cell, place)
    if result is None or result.failed is None or result.exit_code == TrainingDivergedError.exit_code:
        return result
    return None
