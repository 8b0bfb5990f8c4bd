"""The training loop: Adam, the paper's schedule, a history line and a checkpoint an epoch."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ngvae_tools.analysis.selection import default_threshold
from ngvae_tools.contract import P
from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.files import replacing
from ngvae_tools.posteriors import family_of
from ngvae_tools.run import CHECKPOINT_NAME, HISTORY_NAME, EpochRecord, Figures
from ngvae_tools.training.accumulator import Accumulator
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.devices import training_device
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.schedule import PlateauSchedule

REPORT_EVERY = 10
"""Steps between two reports of progress and two checks that the loss is finite."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        epoch: The running epoch, from 1.
        epochs: How many there will be; at the latest, with the paper's schedule.
        step: Steps done in this epoch.
        steps: Steps of an epoch.
        loss: Loss of the last step.
        last: The epoch before, None in the first.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    last: EpochRecord | None


OnProgress = Callable[[TrainingProgress], None]


class Trainer:
    """A training and its state: the model, the optimiser, the random generators, the schedule, the history.

    Args:
        model: The model; it is moved to the configuration's device and trained in place.
        images: What to train on.
        config: How to train.
        folder: Where `history.jsonl` and `checkpoint.pt` are written after every epoch.
        on_progress: Called every few steps.

    Raises:
        DeviceError: The device cannot be used.
    """

    def __init__(
        self,
        model: VariationalAutoencoder,
        images: TrainingImages,
        config: TrainingConfig,
        folder: Path,
        on_progress: OnProgress | None = None,
    ) -> None:
        device = training_device(config.device)
        self.model = model.to(device)
        self.images = images
        self.config = config
        self.folder = folder
        self.on_progress = on_progress
        self.optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.order = np.random.default_rng(np.random.SeedSequence([config.seed, 1]))
        self.schedule = PlateauSchedule() if config.epochs is None else None
        self.epochs = config.epochs or config.max_epochs
        self.history: list[EpochRecord] = []

    def fit(self) -> list[EpochRecord]:
        """Train to the end; one record an epoch.

        Raises:
            OutputError: The checkpoint cannot be written.
            TrainingDivergedError: A loss or a weight is no longer finite; the last good checkpoint stays.
        """
        with (self.folder / HISTORY_NAME).open("w", encoding="utf-8") as lines:
            while len(self.history) < self.epochs:
                record = self.epoch()
                lines.write(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n")
                lines.flush()
                self.adjust(record)
                self.save_checkpoint()
        return self.history

    def epoch(self) -> EpochRecord:
        """One pass over the training share.

        Raises:
            TrainingDivergedError: A loss or a weight is no longer finite.
        """
        start = time.perf_counter()
        number = len(self.history) + 1
        train = self._steps(number)
        held_out = evaluate(self.model, self.images, self.config)
        _check_finite(self.model, number, train.figures(), held_out)
        rate, second, variance = train.per_dimension()
        objective = self.model.objective
        p = second if objective.second_head == P else None
        rule, score = ("variance", variance) if p is None else ("p", p)
        family = family_of(objective.family, self.model.latent_dim, objective.hyperparameters())
        threshold = default_threshold(family, rule)
        record = EpochRecord(
            epoch=number,
            train=train.figures(),
            held_out=held_out,
            rate_per_dimension=rate,
            p=p,
            posterior_variance=variance,
            informative=sum(value < threshold for value in score),
            learning_rate=self.optimiser.param_groups[0]["lr"],
            seconds=time.perf_counter() - start,
        )
        self.history.append(record)
        return record

    def adjust(self, record: EpochRecord) -> None:
        """Let the schedule lower the learning rate, or end the training."""
        if self.schedule is None or not self.schedule.plateau(record.train.loss):
            return
        if self.schedule.drops == 2:
            self.epochs = record.epoch
        for group in self.optimiser.param_groups:
            group["lr"] /= 10

    @property
    def ended_by(self) -> str:
        """What ended the training: `schedule`, or `epochs`, before a schedule found it done."""
        return "schedule" if self.schedule is not None and self.schedule.drops == 2 else "epochs"

    def save_checkpoint(self) -> None:
        """Write the state in one step.

        Raises:
            OutputError: It cannot be written.
        """
        with replacing(self.folder / CHECKPOINT_NAME) as part:
            torch.save(
                {
                    "epoch": len(self.history),
                    "config": dataclasses.asdict(self.config),
                    "image_shape": self.model.image_shape,
                    "scale": dataclasses.asdict(self.model.scale),
                    "model": self.model.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "generator": self.generator.get_state(),
                    "order": self.order.bit_generator.state,
                },
                part,
            )

    def _steps(self, epoch: int) -> Accumulator:
        self.model.train()
        total = Accumulator(self.model)
        permuted = self.order.permutation(self.images.train)
        size = self.config.batch_size
        steps = math.ceil(len(permuted) / size)
        for step in range(1, steps + 1):
            samples = _batch(self.images, permuted[(step - 1) * size : step * size], self.generator)
            parts = self.model(samples, self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            self.model.surrogate(parts).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total.add(parts)
            if step % REPORT_EVERY == 0 or step == steps:
                value = float(self.model.loss(parts).detach())
                if not math.isfinite(value):
                    raise _diverged(epoch, f"epoch {epoch}, step {step}", f"a training loss of {value}")
                if self.on_progress is not None:
                    last = self.history[-1] if self.history else None
                    self.on_progress(TrainingProgress(epoch, self.epochs, step, steps, value, last))
        return total


def _check_finite(model: VariationalAutoencoder, epoch: int, train: Figures, held_out: Figures | None) -> None:
    # The losses of the steps do not show what the last step did to the weights.
    where = f"epoch {epoch}"
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise _diverged(epoch, where, "weights that are not finite")
    for name, figures in (("training", train), ("held-out", held_out)):
        if figures is not None and not math.isfinite(figures.loss):
            raise _diverged(epoch, where, f"a {name} loss of {figures.loss}")


def evaluate(model: VariationalAutoencoder, images: TrainingImages, config: TrainingConfig) -> Figures | None:
    """Figures on the held-out images, with the same samples of z each time; None where none are held out."""
    if len(images.held_out) == 0:
        return None
    model.eval()
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(config.seed)
    total = Accumulator(model)
    with torch.no_grad():
        for start in range(0, len(images.held_out), 256):
            total.add(model(_batch(images, images.held_out[start : start + 256], generator), generator))
    return total.figures()


def _batch(images: TrainingImages, indices: npt.NDArray[np.int64], generator: torch.Generator) -> Tensor:
    return torch.from_numpy(images.samples[indices]).to(generator.device)


def _diverged(epoch: int, where: str, found: str) -> TrainingDivergedError:
    kept = f"; the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else ""
    return TrainingDivergedError(
        f"training diverged in {where}",
        expected="finite losses and weights",
        found=found,
        remedy=f"train with a smaller --learning-rate or a larger --sigma{kept}",
    )
