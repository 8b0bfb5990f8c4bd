"""The training loop: Adam, the schedule, a history line and a checkpoint an epoch, more of them in long epochs."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ngvae_tools.analysis.selection import default_threshold
from ngvae_tools.contract import P
from ngvae_tools.errors import ProcessesError, TrainingDivergedError
from ngvae_tools.files import write_text
from ngvae_tools.posteriors import family_of
from ngvae_tools.run import CHECKPOINT_NAME, HISTORY_NAME, EpochRecord, Figures
from ngvae_tools.training.accumulator import Accumulator
from ngvae_tools.training.checkpoint import unusable, write_checkpoint
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import TrainingImages
from ngvae_tools.training.devices import training_device
from ngvae_tools.training.distributed import Ranks
from ngvae_tools.training.divergence import DivergenceWatch
from ngvae_tools.training.evaluation import evaluate, on_device
from ngvae_tools.training.model import BatchParts, VariationalAutoencoder, weights_sha256
from ngvae_tools.training.precision import check_precision
from ngvae_tools.training.schedule import PlateauSchedule

REPORT_EVERY = 10
"""Steps between two reports of progress and two looks at the loss; each look waits for the device."""

CHECKPOINT_SECONDS = 180.0
"""Between two checkpoints within an epoch."""

AUXILIARY_ADAM = {"lr": 1e-4, "betas": (0.5, 0.9)}
"""Of the second optimiser: FactorVAE's discriminator (Kim and Mnih 2018, appendix)."""


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
        resumed: Epochs and steps of the next one that a checkpoint brought; None in a training from the start.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    last: EpochRecord | None
    resumed: tuple[int, int] | None = None


OnProgress = Callable[[TrainingProgress], None]


class Trainer:
    """A training and its state: the model, the optimisers, the generator, the schedule, the history, the sums.

    Args:
        model: The model; it is moved to the configuration's device and trained in place.
        images: What to train on.
        config: How to train.
        folder: Where `history.jsonl` and `checkpoint.pt` are written after every epoch, and the checkpoint every
            few minutes.
        on_progress: Called every few steps.
        ranks: The processes that train together; each has its copy of the model and calls the same methods.
        on_history: Called in the first process when the history has been written: at the start and after every epoch.

    Raises:
        DeviceError: The device cannot be used, or not in the precision asked for.
        OptionError: The processes cannot share the batches.
    """

    def __init__(
        self,
        model: VariationalAutoencoder,
        images: TrainingImages,
        config: TrainingConfig,
        folder: Path,
        on_progress: OnProgress | None = None,
        ranks: Ranks | None = None,
        on_history: Callable[[Trainer], None] | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.batch_size = self.ranks.share_of(config.batch_size)
        self.device = training_device(config.device, self.ranks.local_rank)
        check_precision(config.precision, self.device)
        self.model = model.to(self.device)
        self.images = images
        self.config = config
        self.folder = folder
        self.on_progress = on_progress
        self.on_history = on_history
        self.auxiliary = model.objective.auxiliary_parameters()
        apart = {id(weights) for weights in self.auxiliary}
        self.weights = [weights for weights in model.parameters() if id(weights) not in apart]
        self.optimiser = torch.optim.Adam(self.weights, lr=config.learning_rate, fused=True)
        self.second_optimiser = (
            torch.optim.Adam(self.auxiliary, **AUXILIARY_ADAM, fused=True)  # type: ignore[arg-type]
            if self.auxiliary
            else None
        )
        self.generator = torch.Generator(self.device).manual_seed(_seed_of(config.seed, self.ranks.rank))
        self.schedule = PlateauSchedule(
            config.epochs, config.max_epochs, config.plateau_nats, earliest=model.objective.EARLIEST
        )
        self.watch = DivergenceWatch(math.prod(model.image_shape))
        self.history: list[EpochRecord] = []
        self.resumed: tuple[int, int] | None = None
        self.step = 0
        self.total = Accumulator(model)
        self.begun = self.saved = time.perf_counter()

    @property
    def ended_by(self) -> str:
        """What ended the training: `schedule`, or `epochs`, before a schedule found it done."""
        return "schedule" if self.schedule.stopped else "epochs"

    def fit(self) -> list[EpochRecord]:
        """Train to the end, from where the state is; one record an epoch.

        Raises:
            OutputError: The checkpoint cannot be written.
            TrainingDivergedError: A loss or a weight is no longer finite, or the loss has blown up; the last good
                checkpoint stays.
            ProcessesError: The processes have lost each other, or their weights differ.
        """
        self._write_history()
        while not self.schedule.done(len(self.history)):
            self._train_epoch()
            self.save_checkpoint()
            self._write_history()
        return self.history

    def save_checkpoint(self) -> None:
        """Write the state in one step; the first process does.

        Raises:
            OutputError: It cannot be written.
        """
        generators = self.ranks.gather(self.generator.get_state())
        sums = self.ranks.gather(self.total.state_dict())
        if not self.ranks.first:
            return
        state = {
            "epoch": len(self.history),
            "step": self.step,
            "seconds": time.perf_counter() - self.begun,
            "config": dataclasses.asdict(self.config),
            "image_shape": self.model.image_shape,
            "scale": dataclasses.asdict(self.model.scale),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "second_optimiser": None if self.second_optimiser is None else self.second_optimiser.state_dict(),
            "generators": generators,
            "sums": sums,
            "schedule": self.schedule.state_dict(),
            "watch": self.watch.state_dict(),
            "history": self._lines(),
        }
        write_checkpoint(self.folder / CHECKPOINT_NAME, state)
        self.saved = time.perf_counter()

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `save_checkpoint` wrote.

        Raises:
            RecordError: It belongs to another model or another number of processes.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.second_optimiser is not None:
                self.second_optimiser.load_state_dict(state["second_optimiser"])
            self.generator.set_state(state["generators"][self.ranks.rank])
            self.schedule.load_state_dict(state["schedule"])
            self.watch.load_state_dict(state["watch"])
            self.history = [EpochRecord.from_json(json.loads(line)) for line in state["history"].splitlines()]
            self._begin_epoch()
            self.total.load_state_dict(state["sums"][self.ranks.rank])
            self.step = state["step"]
            self.begun -= state["seconds"] if self.step else 0.0
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise unusable(self.folder / CHECKPOINT_NAME, str(error).partition("\n")[0]) from None
        self.resumed = (len(self.history), self.step)

    def _begin_epoch(self) -> None:
        self.step = 0
        self.total = Accumulator(self.model)
        self.begun = self.saved = time.perf_counter()

    def _train_epoch(self) -> None:
        number = len(self.history) + 1
        self._steps(number)
        total = self.total.over(self.ranks)
        train = total.figures()
        held_out = evaluate(self.model, self.images, self.config, self.ranks)
        self._check_finite(number, total, held_out)
        rate, second, variance = total.per_dimension()
        objective = self.model.objective
        p = tuple(second.tolist()) if objective.second_head == P else None
        rule, score = ("variance", tuple(variance.tolist())) if p is None else ("p", p)
        family = family_of(objective.family, self.model.latent_dim, objective.hyperparameters())
        threshold = default_threshold(family, rule)
        record = EpochRecord(
            epoch=number,
            train=train,
            held_out=held_out,
            rate_per_dimension=tuple(rate.tolist()),
            p=p,
            posterior_variance=tuple(variance.tolist()),
            informative=sum(value < threshold for value in score),
            learning_rate=self.optimiser.param_groups[0]["lr"],
            seconds=time.perf_counter() - self.begun,
            sigma=float(self.model.sigma),
        )
        self.history.append(record)
        self.schedule.advance(
            number,
            train.loss,
            lambda plateau: self._settle(second, plateau=plateau),
            steps=self.step,
            changing=objective.changing,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate / 10**self.schedule.drops
        self._check_equal(number)
        self._begin_epoch()

    def _settle(self, second: Tensor, *, plateau: bool) -> bool:
        changed = self.model.objective.settle(
            second, plateau=plateau, steps=self.step, watching=self.config.epochs is None
        )
        if changed:
            self.watch.restart()
        return changed

    def _steps(self, epoch: int) -> None:
        self.model.train()
        ranks = self.ranks
        steps = self.images.steps(self.batch_size, world=ranks.world)
        batches = self.images.epoch(epoch, self.batch_size, rank=ranks.rank, world=ranks.world, skip=self.step)
        with closing(cast("Generator[npt.NDArray[Any]]", batches)):
            for batch in batches:
                parts = self._train_step(batch)
                self.step += 1
                if self.step % REPORT_EVERY == 0 or self.step == steps:
                    self._look(epoch, steps, parts)
                del parts  # its memory serves the next step

    def _train_step(self, batch: npt.NDArray[Any]) -> BatchParts:
        model, objective = self.model, self.model.objective
        parts: BatchParts = model(on_device(batch, self.device), self.generator)
        self.optimiser.zero_grad(set_to_none=True)
        model.surrogate(parts).backward()  # type: ignore[no-untyped-call]
        self.ranks.average(_gradients(self.weights), len(batch))
        self.optimiser.step()
        if self.second_optimiser is not None:
            # The penalty has left gradients here too, which are not the second optimiser's.
            self.second_optimiser.zero_grad(set_to_none=True)
            objective.auxiliary_loss(parts.z.detach(), self.generator).backward()  # type: ignore[no-untyped-call]
            self.ranks.average(_gradients(self.auxiliary), len(batch))
            self.second_optimiser.step()
        with torch.no_grad():
            observed = objective.observe(parts.mu, parts.raw, parts.z)
            if observed is not None:
                self.ranks.average([observed], len(batch))
                objective.absorb(observed)
        self.total.add(parts)
        return parts

    def _look(self, epoch: int, steps: int, parts: BatchParts) -> None:
        """Look at the loss of the step just done; report; save where the first process's clock says it is time to."""
        loss = self.model.loss(parts).detach().double()
        due = float(self.ranks.first and time.perf_counter() - self.saved >= CHECKPOINT_SECONDS)
        if self.ranks.world > 1:
            both = self.ranks.add_up(torch.stack((loss / self.ranks.world, loss.new_tensor(due))))
            value, due = both.tolist()
        else:
            value = float(loss)
        found = self.watch.check(value)
        if found is not None:
            raise self._diverged(f"epoch {epoch}, step {self.step}", found)
        if self.on_progress is not None:
            last = self.history[-1] if self.history else None
            progress = TrainingProgress(epoch, self.schedule.last, self.step, steps, value, last, self.resumed)
            self.on_progress(progress)
        if due and self.step < steps:
            self._check_weights(f"epoch {epoch}, step {self.step}")
            self.save_checkpoint()

    def _check_finite(self, epoch: int, total: Accumulator, held_out: Figures | None) -> None:
        # The losses of the steps do not show what the last step did to the weights.
        where = f"epoch {epoch}"
        self._check_weights(where)
        if not bool(torch.isfinite(total.sums).all()):
            raise self._diverged(where, "training figures that are not finite")
        if held_out is not None and not math.isfinite(held_out.loss):
            raise self._diverged(where, f"a held-out loss of {held_out.loss}")

    def _check_weights(self, where: str) -> None:
        if not all(bool(torch.isfinite(weights).all()) for weights in self.model.parameters()):
            raise self._diverged(where, "weights that are not finite")

    def _check_equal(self, epoch: int) -> None:
        if self.ranks.world == 1:
            return
        if len(set(self.ranks.gather(weights_sha256(self.model)))) > 1:
            raise ProcessesError(
                f"the processes' models differ after epoch {epoch}",
                expected=f"the same weights in all {self.ranks.world} processes",
                found="different ones",
                remedy="use the same versions and kind of device in every process; the last checkpoint is kept",
            )

    def _diverged(self, where: str, found: str) -> TrainingDivergedError:
        remedy = f"train anew with a smaller --learning-rate, such as {self.config.learning_rate / 3:.1g}, or a larger "
        remedy += "--sigma (other options are another run: name another --output, or pass --overwrite)"
        if (self.folder / CHECKPOINT_NAME).exists():
            done = f"epoch {len(self.history)}"
            remedy += f"; the last good checkpoint, of {done} or later, is kept in {self.folder}"
        return TrainingDivergedError(
            f"training diverged in {where}",
            expected="finite weights and a loss near its best",
            found=found,
            remedy=remedy,
        )

    def _lines(self) -> str:
        return "".join(json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n" for record in self.history)

    def _write_history(self) -> None:
        if self.ranks.first:
            write_text(self.folder / HISTORY_NAME, self._lines())
            if self.on_history is not None:
                self.on_history(self)


def _seed_of(seed: int, rank: int) -> int:
    """The run's seed in the first process, and others that are far from every run's in the others."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, 2, rank]).generate_state(1, np.uint64)[0] >> 1)


def _gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    return [values.grad for values in weights if values.grad is not None]
