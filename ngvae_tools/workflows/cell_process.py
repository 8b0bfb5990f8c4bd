"""The worker process that runs cells: one thread each of torch and onnxruntime, JSON lines in and out.

Its argument is the number of workers, which share the memory for training data.
It ends when its standard input does, so that it never outlives the process that started it.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.errors import NgvaeToolsError
from ngvae_tools.files import write_text
from ngvae_tools.run import RunRecord
from ngvae_tools.workflows.cells import ANALYSIS_FOLDER, RUN_FOLDER, Cell, CellResult, write_result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.loop import TrainingProgress

ERROR_NAME = "error.log"

TIMED_SECONDS = 1.5
"""How long steps are timed for what is said beforehand; at least two after the first."""

REPORTS = 0.2
"""Seconds between two reports of progress."""

Answer = dict[str, Any]


def main() -> None:
    """Answer requests until the standard input ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Whatever else prints must not get between the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: Answer) -> None:
        channel.write(json.dumps(value) + "\n")
        channel.flush()

    try:
        import torch

        from ngvae_tools.training.allocator import keep_freed_memory
        from ngvae_tools.training.data import share_memory

        keep_freed_memory()
        share_memory(int(sys.argv[1]))
        torch.set_num_threads(1)
        for request in _requests():
            if "time" in request:
                answer({"seconds": [_seconds_a_step(kind) for kind in request["time"]]})
            else:
                answer(_run(Cell.from_json(request["cell"]), Path(request["folder"]), answer))
    except KeyboardInterrupt:
        sys.exit(130)


def _requests() -> Iterator[Answer]:
    waiting: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_follow_parent, args=(waiting,), daemon=True).start()
    while True:
        yield json.loads(waiting.get())


def _follow_parent(waiting: queue.Queue[str]) -> None:
    rest = b""
    # os.read, not sys.stdin: a thread that waits inside a buffered reader stops the interpreter's end.
    while data := os.read(0, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            waiting.put(line.decode())
    os._exit(1)


def _run(cell: Cell, folder: Path, answer: Callable[[Answer], None]) -> Answer:
    """Train, analyse, measure the extra: the answer that ends the cell."""
    start = time.perf_counter()
    try:
        if cell.train:
            _train_and_analyse(cell, folder, answer)
        extra = None
        if cell.extra is not None:
            answer({"stage": "measuring"})
            module, function = cell.extra.split(":")
            extra = getattr(importlib.import_module(module), function)(folder, cell)
        seconds = time.perf_counter() - start
        write_result(CellResult(cell, folder, seconds=seconds, extra=extra))
    except NgvaeToolsError as error:
        return {"failed": str(error), "exit_code": error.exit_code, "seconds": time.perf_counter() - start}
    except Exception as error:  # noqa: BLE001 - the border of the process: the others go on
        write_text(folder / ERROR_NAME, traceback.format_exc())
        reason = f"{type(error).__name__}: {error} (details in {folder / ERROR_NAME})"
        return {"failed": reason, "exit_code": 1, "seconds": time.perf_counter() - start}
    return {"failed": None, "exit_code": 0, "seconds": seconds, "extra": extra}


def _train_and_analyse(cell: Cell, folder: Path, answer: Callable[[Answer], None]) -> None:
    from ngvae_tools.analysis.disentanglement import Settings
    from ngvae_tools.workflows.select import select_latents
    from ngvae_tools.workflows.train import train

    said = 0.0

    def on_progress(progress: TrainingProgress) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said < REPORTS and progress.step < progress.steps:
            return
        said = now
        done = progress.epoch - 1 + progress.step / progress.steps
        informative = None if progress.last is None else progress.last.informative
        answer({"stage": "training", "epochs": done, "loss": progress.loss, "informative": informative})

    run = _trained(folder / RUN_FOLDER)
    if run is None:
        run = train(
            cell.data,
            folder / RUN_FOLDER,
            config=cell.config,
            dataset_key=cell.dataset_key,
            on_progress=on_progress,
        )
    answer({"stage": "analysis"})
    select_latents(
        run.folder,
        cell.data,
        folder / ANALYSIS_FOLDER,
        decoder=run.folder,
        labels=cell.labels,
        settings=Settings(predict=cell.predict),
        bootstrap=cell.bootstrap,
        dataset_key=cell.dataset_key,
        device=cell.config.device,
        workers=1,
        overwrite=True,
    )


def _trained(folder: Path) -> RunRecord | None:
    """A run that has finished."""
    if not folder.exists():
        return None
    try:
        run = RunRecord.read(folder)
    except NgvaeToolsError:
        return None
    return run if run.summary is not None else None


def _seconds_a_step(kind: Answer) -> float:
    """Seconds of a training step on images of noise."""
    import torch

    from ngvae_tools.contract import InputScale
    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.devices import training_device
    from ngvae_tools.training.model import VariationalAutoencoder

    config: TrainingConfig = TrainingConfig(**kind["config"])
    device = training_device(config.device)
    model = VariationalAutoencoder(config, tuple(kind["image_shape"]), InputScale()).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    generator = torch.Generator(device).manual_seed(0)
    shape = (min(config.batch_size, kind["n_images"]), *kind["image_shape"])
    samples = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    steps, start = -1, 0.0
    while True:
        optimiser.zero_grad(set_to_none=True)
        parts = model(samples, generator)
        model.surrogate(parts).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        float(model.loss(parts).detach())
        steps += 1
        if steps == 0:
            start = time.perf_counter()  # the first step allocates
        elif steps >= 2 and time.perf_counter() - start > TIMED_SECONDS:
            return (time.perf_counter() - start) / steps


if __name__ == "__main__":
    main()
