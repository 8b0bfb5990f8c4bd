"""The pool of worker processes that runs cells, and what it says of their progress."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ngvae_tools.errors import OptionError
from ngvae_tools.workflows.cells import Cell, CellResult, epochs_done, write_result

OVERHEAD = 15.0
"""Seconds of a cell beside its steps: export, analysis, the decoder; for what is said beforehand."""

GRACE = 5.0
"""Seconds that a worker has to end when it is told to."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker does now.

    Attributes:
        cell: Name of its cell.
        stage: `starting`, `training`, `analysis` or `measuring`.
        epochs: Epochs done, with the share of the running one.
        expected_epochs: How many there will probably be.
        begun: Epochs that were done when the worker took the cell.
        loss: Of the last step; None before the first.
        informative: Informative dimensions after the last epoch; None in the first.
    """

    cell: str
    stage: str = "starting"
    epochs: float = 0.0
    expected_epochs: int = 0
    begun: float = 0.0
    loss: float | None = None
    informative: int | None = None


@dataclass(frozen=True, slots=True)
class CellsProgress:
    """Where the cells stand.

    Attributes:
        done: Cells that ended since the start, failed ones among them.
        total: Cells to run since the start.
        workers: What each busy worker does.
        seconds_left: Estimate of the time that remains.
        ended: The cell that ended just now, if one did.
    """

    done: int
    total: int
    workers: tuple[WorkerState, ...]
    seconds_left: float
    ended: CellResult | None = None


class CellPool:
    """Worker processes, and the cells they are to run; a context manager that ends them.

    Args:
        cells: What to run, in this order.
        places: The folder of each cell.
        shapes: Number of images and (H, W, C) of each cell's data.
        workers: Number of processes.
    """

    def __init__(
        self, cells: Sequence[Cell], places: Sequence[Path], shapes: Sequence[tuple[int, ...]], workers: int
    ) -> None:
        self._cells, self._places, self._shapes = cells, places, shapes
        self._events: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()
        self._workers: list[_Worker] = []
        self._count = workers
        self._cost = [1.0] * len(cells)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        end(self._workers)

    def estimate(self) -> float:
        """Seconds that all will take, from a few steps of each kind of cell timed while every worker is busy.

        Raises:
            OptionError: A worker could not train at all.
        """
        kinds = [_kind(cell, shape) for cell, shape in zip(self._cells, self._shapes, strict=True)]
        distinct = list({json.dumps(kind, sort_keys=True): kind for kind in kinds}.values())
        self._workers = [_Worker(self._events, self._count) for _ in range(self._count)]
        for worker in self._workers:
            worker.ask({"time": distinct})
        seconds: dict[_Worker, list[float]] = {}
        while len(seconds) < self._count:
            worker, event = self._next()
            if event is None:
                raise OptionError(
                    "the workers cannot train",
                    expected="a process that trains a few steps",
                    found=worker.last_words(),
                    remedy="try one training with ngvae-tools train, or fewer --workers",
                )
            seconds[worker] = event["seconds"]
        slowest = [max(values) for values in zip(*seconds.values(), strict=True)]
        for index, (cell, kind) in enumerate(zip(self._cells, kinds, strict=True)):
            n_train = kind["n_images"] - round(kind["n_images"] * cell.config.held_out)
            steps = math.ceil(n_train / cell.config.batch_size)
            epochs = max(cell.expected_epochs - epochs_done(self._places[index]), 0)
            self._cost[index] = OVERHEAD + epochs * steps * slowest[distinct.index(kind)]
        return max(sum(self._cost) / self._count, *self._cost)

    def run(self, on_progress: Callable[[CellsProgress], None] | None = None) -> list[CellResult]:
        """Run all cells to their end; a result a cell."""
        results: dict[int, CellResult] = {}
        waiting = list(range(len(self._cells)))[::-1]
        start = time.monotonic()
        for worker in self._workers:
            self._give(worker, waiting)
        while len(results) < len(self._cells):
            worker, event = self._next()
            index = worker.index
            ended = None
            if event is None or "failed" in event:
                if index is not None:
                    ended = results[index] = self._result(index, event, worker)
                if event is None:
                    worker = self._replace(worker)
                self._give(worker, waiting)
            elif worker.state is not None:
                worker.state = dataclasses.replace(worker.state, **event)
            if on_progress is not None:
                left = self._seconds_left(results, time.monotonic() - start)
                states = tuple(w.state for w in self._workers if w.state is not None)
                on_progress(CellsProgress(len(results), len(self._cells), states, left, ended))
        return [results[index] for index in range(len(self._cells))]

    def _next(self) -> tuple[_Worker, dict[str, Any] | None]:
        while True:
            # A wait without an end cannot be interrupted on Windows.
            with suppress(queue.Empty):
                return self._events.get(timeout=1.0)

    def _give(self, worker: _Worker, waiting: list[int]) -> None:
        worker.index = worker.state = None
        if waiting:
            worker.index = waiting.pop()
            cell, place = self._cells[worker.index], self._places[worker.index]
            epochs = float(epochs_done(place))
            worker.state = WorkerState(cell.name, epochs=epochs, expected_epochs=cell.expected_epochs, begun=epochs)
            worker.ask({"cell": cell.to_json(), "folder": str(place)})

    def _replace(self, worker: _Worker) -> _Worker:
        end([worker])
        fresh = _Worker(self._events, self._count)
        self._workers[self._workers.index(worker)] = fresh
        return fresh

    def _result(self, index: int, event: dict[str, Any] | None, worker: _Worker) -> CellResult:
        cell, place = self._cells[index], self._places[index]
        if event is None:
            event = {"failed": f"its process ended: {worker.last_words()}", "exit_code": 1, "seconds": 0.0}
        result = CellResult(cell, place, event["failed"], event["exit_code"], event["seconds"], event.get("extra"))
        if result.failed is not None:
            write_result(result)
        return result

    def _seconds_left(self, results: Iterable[int], elapsed: float) -> float:
        """What remains by estimated cost, at the speed seen since the start."""
        total, done = sum(self._cost), sum(self._cost[index] for index in results)
        for worker in self._workers:
            if worker.index is not None and worker.state is not None and worker.state.expected_epochs:
                # The cost is that of the epochs that were left when it began.
                left = max(worker.state.expected_epochs - worker.state.begun, 1.0)
                share = min((worker.state.epochs - worker.state.begun) / left, 1.0)
                done += share * max(self._cost[worker.index] - OVERHEAD, 0.0)
        planned = total / self._count
        # At the start, the plan is the better guess.
        speed = (done + 0.05 * total) / (elapsed + 0.05 * planned) if planned else 1.0
        return (total - done) / speed if speed else 0.0


class _Worker:
    """A process of a pool of `count`, a thread that reads what it says, and the cell it works on."""

    def __init__(self, events: queue.Queue[tuple[_Worker, dict[str, Any] | None]], count: int) -> None:
        self.index: int | None = None
        self.state: WorkerState | None = None
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours and a number
            [sys.executable, "-m", "ngvae_tools.workflows.cell_process", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env={**os.environ, **dict.fromkeys(_THREADS, "1")},
            start_new_session=True,  # a Ctrl-C in the terminal is for the parent, which then ends its workers
        )
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request; a process that has ended is told of by the thread that reads."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def last_words(self) -> str:
        """How the process ended, and the last line it wrote."""
        code = self.process.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"signal {-code}, out of memory perhaps" if code < 0 else f"exit code {code} ({last[:300]})"

    def close(self) -> None:
        """Let go of the pipes of a process that has ended."""
        for stream in (self.process.stdin, self.process.stdout, self._words):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read(self, events: queue.Queue[tuple[_Worker, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):  # closed while we read: nobody listens any more
            for line in self.process.stdout:
                events.put((self, json.loads(line)))
        events.put((self, None))


def end(workers: Sequence[_Worker]) -> None:
    """End processes, by force those that do not within a grace."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        worker.close()


def _kind(cell: Cell, shape: tuple[int, ...]) -> dict[str, Any]:
    """What decides how long a step takes."""
    config = dataclasses.asdict(dataclasses.replace(cell.config, seed=0, sigma=0.245))
    return {"config": config, "n_images": shape[0], "image_shape": list(shape[1:])}
