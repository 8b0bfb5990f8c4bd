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
import torch
from torch import Tensor

from ngvae_tools.analysis.selection import THRESHOLDS
from ngvae_tools.contract import P
from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.files import replacing
from ngvae_tools.run import CHECKPOINT_NAME, HISTORY_NAME, EpochRecord, Figures
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.devices import training_device
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder

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


class PlateauSchedule:
    """Section IV: when five losses stay within 1 %, the learning rate is divided by ten; then it stops."""

    EPOCHS = 5
    TOLERANCE = 0.01

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.drops = 0

    def plateau(self, loss: float) -> bool:
        """Note an epoch's loss; True where the last five, all since the last drop, vary by under 1 %."""
        self.losses.append(loss)
        last = self.losses[-self.EPOCHS :]
        if len(last) < self.EPOCHS or max(last) - min(last) >= self.TOLERANCE * abs(last[-1]):
            return False
        self.losses.clear()
        self.drops += 1
        return True


class Accumulator:
    """Sums over the batches of a pass, kept on the device."""

    def __init__(self, model: VariationalAutoencoder) -> None:
        self.model = model
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, parts: BatchParts) -> None:
        """Add a batch."""
        terms = (parts.nll, parts.squared_error, parts.rate, parts.second, parts.posterior_variance)
        sums = [term.detach().double().sum(dim=0) for term in terms]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else sums
        self.count += len(parts.nll)

    def figures(self) -> Figures:
        """Means over the images added."""
        nll, squared_error, rate = (total / self.count for total in self.sums[:3])
        return Figures(
            loss=float(nll + self.model.beta * rate.sum()),
            distortion=float(nll) + self.model.nll_constant,
            rate=float(rate.sum()),
            mse=float(squared_error) / math.prod(self.model.image_shape),
        )

    def per_dimension(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Mean rate, second head and posterior variance of each dimension."""
        rate, second, variance = (tuple((total / self.count).tolist()) for total in self.sums[2:])
        return rate, second, variance


def fit(
    model: VariationalAutoencoder,
    images: TrainingImages,
    config: TrainingConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> list[EpochRecord]:
    """Train a model in place.

    Args:
        model: The model; it is moved to the configuration's device.
        images: What to train on.
        config: How to train.
        folder: Where `history.jsonl` and `checkpoint.pt` are written after every epoch.
        on_progress: Called every few steps and at the end of an epoch.

    Returns:
        One record an epoch.

    Raises:
        DeviceError: The device cannot be used.
        TrainingDivergedError: The loss is no longer finite; the last good checkpoint stays.
    """
    device = training_device(config.device)
    model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    generator = torch.Generator(device).manual_seed(config.seed)
    order = np.random.default_rng(np.random.SeedSequence([config.seed, 1]))
    schedule = PlateauSchedule() if config.epochs is None else None
    epochs = config.epochs or config.max_epochs
    history: list[EpochRecord] = []
    with (folder / HISTORY_NAME).open("w", encoding="utf-8") as lines:
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            train = _train_epoch(
                model,
                images,
                config,
                optimiser=optimiser,
                generator=generator,
                order=order,
                epoch=epoch,
                epochs=epochs,
                last=history[-1] if history else None,
                on_progress=on_progress,
            )
            record = _record(
                model,
                images,
                config,
                train=train,
                epoch=epoch,
                learning_rate=optimiser.param_groups[0]["lr"],
                start=start,
            )
            _check_finite(model, record)
            history.append(record)
            lines.write(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n")
            lines.flush()
            if schedule is not None and schedule.plateau(record.train.loss):
                if schedule.drops == 2:
                    epochs = epoch
                for group in optimiser.param_groups:
                    group["lr"] /= 10
            _save_checkpoint(
                folder / CHECKPOINT_NAME,
                model,
                optimiser=optimiser,
                generator=generator,
                config=config,
                epoch=epoch,
            )
            if epoch == epochs:
                break
    return history


def _train_epoch(
    model: VariationalAutoencoder,
    images: TrainingImages,
    config: TrainingConfig,
    *,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    order: np.random.Generator,
    epoch: int,
    epochs: int,
    last: EpochRecord | None,
    on_progress: OnProgress | None,
) -> Accumulator:
    model.train()
    total = Accumulator(model)
    permuted = order.permutation(images.train)
    steps = math.ceil(len(permuted) / config.batch_size)
    for step in range(steps):
        parts = model(
            _batch(images, permuted[step * config.batch_size : (step + 1) * config.batch_size], generator),
            generator,
        )
        loss = model.surrogate(parts)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total.add(parts)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == steps:
            value = float(model.loss(parts).detach())
            if not math.isfinite(value):
                raise _diverged(f"epoch {epoch}, step {step + 1}", f"a training loss of {value}")
            if on_progress is not None:
                on_progress(TrainingProgress(epoch, epochs, step + 1, steps, value, last))
    return total


def _record(
    model: VariationalAutoencoder,
    images: TrainingImages,
    config: TrainingConfig,
    *,
    train: Accumulator,
    epoch: int,
    learning_rate: float,
    start: float,
) -> EpochRecord:
    rate, second, variance = train.per_dimension()
    p = second if model.objective.second_head == P else None
    score, threshold = (variance, THRESHOLDS["variance"]) if p is None else (p, THRESHOLDS["p"])
    return EpochRecord(
        epoch=epoch,
        train=train.figures(),
        held_out=evaluate(model, images, config),
        rate_per_dimension=rate,
        p=p,
        posterior_variance=variance,
        informative=sum(value < threshold for value in score),
        learning_rate=learning_rate,
        seconds=time.perf_counter() - start,
    )


def _check_finite(model: VariationalAutoencoder, record: EpochRecord) -> None:
    # The losses of the steps do not show what the last step did to the weights.
    where = f"epoch {record.epoch}"
    if not all(bool(torch.isfinite(weights).all()) for weights in model.parameters()):
        raise _diverged(where, "weights that are not finite")
    for name, figures in (("training", record.train), ("held-out", record.held_out)):
        if figures is not None and not math.isfinite(figures.loss):
            raise _diverged(where, f"a {name} loss of {figures.loss}")


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


def _batch(images: TrainingImages, indices: np.ndarray, generator: torch.Generator) -> Tensor:
    return torch.from_numpy(images.samples[indices]).to(generator.device)


def _save_checkpoint(
    path: Path,
    model: VariationalAutoencoder,
    *,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
    config: TrainingConfig,
    epoch: int,
) -> None:
    with replacing(path) as part:
        torch.save(
            {
                "epoch": epoch,
                "config": dataclasses.asdict(config),
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "generator": generator.get_state(),
            },
            part,
        )


def _diverged(where: str, found: str) -> TrainingDivergedError:
    return TrainingDivergedError(
        f"training diverged in {where}",
        expected="finite losses and weights",
        found=found,
        remedy="train with a smaller --learning-rate or a larger --sigma; the last good checkpoint is kept",
    )
