"""Event files for TensorBoard: what the history says, as scalars and histograms, and some images reconstructed."""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt
import torch

from ngvae_tools.run import EVENTS_SUFFIX, EpochRecord
from ngvae_tools.training.evaluation import on_device
from ngvae_tools.training.precision import at_least_float

if TYPE_CHECKING:
    from collections.abc import Generator

    from ngvae_tools.training.loop import Trainer

IMAGES = 8
"""Images that are shown with their reconstructions."""


class EventFiles:
    """Event files that follow a training's history: one a start of the training, of which the last alone holds events.

    A resumed training writes the whole history again instead of adding to the file it left: a killed process may have
    written less than its checkpoint holds, or more, and no step must be there twice. The files left are emptied and
    not removed, so that a TensorBoard that reads one goes on to the next, which tells it to forget what it has read.
    Images are those of epochs trained since.

    Args:
        folder: Where the files go; other files in there stay.

    Raises:
        OSError: They cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        for path in folder.glob(f"*{EVENTS_SUFFIX}"):
            os.truncate(path, 0)
        self._writer: Any = SummaryWriter(folder, purge_step=1, filename_suffix=EVENTS_SUFFIX)
        self._written: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()

    def __call__(self, trainer: Trainer) -> None:
        """Write the epochs of the history that are not written yet, and images where one was trained just now."""
        history = trainer.history
        now = time.time()
        begun, start = self._written is not None, self._written or 0
        for place in range(start, len(history)):
            # When the epoch ended, had the training not been interrupted.
            self._figures(history[place], now - sum(later.seconds for later in history[place + 1 :]))
        if begun and len(history) > start:
            self._images(trainer, history[-1].epoch, now)
        self._written = len(history)
        self._writer.flush()

    def _figures(self, record: EpochRecord, when: float) -> None:
        for part, figures in (("train", record.train), ("held_out", record.held_out)):
            for name, value in () if figures is None else dataclasses.asdict(figures).items():
                self._scalar(f"{name}/{part}", value, record.epoch, when)
        for name in ("informative", "learning_rate", "sigma", "seconds"):
            self._scalar(f"training/{name}", getattr(record, name), record.epoch, when)
        for name in ("p", "posterior_variance", "rate_per_dimension"):
            values = getattr(record, name)
            if values is None:
                continue
            digits = len(str(len(values) - 1))
            for k, value in enumerate(values):
                self._scalar(f"{name}/{k:0{digits}}", value, record.epoch, when)
            known = np.array(values)[np.isfinite(values)]
            if len(known):  # the writer fails with none
                self._writer.add_histogram(name, known, record.epoch, walltime=when)

    def _scalar(self, name: str, value: float | None, epoch: int, when: float) -> None:
        if value is not None:
            self._writer.add_scalar(name, value, epoch, walltime=when)

    def _images(self, trainer: Trainer, epoch: int, when: float) -> None:
        """Images in one row and their reconstructions from mu in the next, clipped to [0, 1]."""
        images, model = trainer.images, trainer.model
        if model.image_shape[2] not in {1, 3}:
            return
        source = images.held_out(IMAGES) if images.n_held_out else images.epoch(1, IMAGES)
        with closing(cast("Generator[npt.NDArray[Any]]", source)) as batches:
            samples = next(batches)
        model.eval()  # the next epoch sets it to train again
        with torch.no_grad():
            originals = model.encoder.images(on_device(samples, trainer.device))
            heads = (at_least_float(head) for head in model.encoder(originals))
            decoded = at_least_float(model.decode(model.objective.mean(*heads)))
        rows = [torch.cat(list(row), dim=2) for row in (originals, decoded)]
        picture = torch.cat(rows, dim=1).clamp(0, 1).cpu()
        self._writer.add_image("images and reconstructions", picture, epoch, walltime=when)
