"""When to lower the learning rate, when the dimensions have settled, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class PlateauSchedule:
    """Section IV: when five losses stay within 1 %, the learning rate is divided by ten; the second time it stops.

    The objective is told of the first plateau; where it changes then, the losses are watched anew and that plateau
    does not lower the learning rate. With a fixed number of epochs the learning rate stays, and the objective is
    told after 60 % of them: on a saddle of the loss, which looks like a plateau, there is time to wait.

    The paper's epochs have about 940 steps. Few images make short epochs, whose losses stay close because little
    has been learned in between; so our reading of "epoch" is one of 80 steps or more: shorter ones are pooled until
    they have as many, and their mean loss is one of the five.

    Args:
        epochs: A fixed number of epochs; None: the plateaus decide.
        max_epochs: Where the plateaus stop at the latest.
        nats: Let the five losses stay within so many nats instead of 1 %.
        earliest: Training steps before which no plateau counts, and the objective is not told of 60 % of the epochs
            unless no epoch would be left after them.
    """

    EPOCHS = 5
    STEPS = 80
    TOLERANCE = 0.01
    SETTLED = 0.6

    def __init__(
        self, epochs: int | None = None, max_epochs: int = 200, nats: float | None = None, *, earliest: int = 0
    ) -> None:
        self.epochs = epochs
        self.max_epochs = max_epochs
        self.nats = nats
        self.earliest = earliest
        self.pooled: list[float] = []
        self.losses: list[float] = []
        self.reached = False
        self.drops = 0

    @property
    def last(self) -> int:
        """The last epoch; at the latest, where the plateaus decide."""
        return self.max_epochs if self.epochs is None else self.epochs

    @property
    def stopped(self) -> bool:
        """Whether the second plateau has ended the training."""
        return self.drops == 2

    def done(self, epoch: int) -> bool:
        """Whether the training is over after so many epochs."""
        return self.stopped or epoch >= self.last

    def advance(
        self, epoch: int, loss: float, settle: Callable[[bool], bool], *, steps: int, changing: bool = False
    ) -> None:
        """Note an epoch's loss and tell the objective.

        Args:
            epoch: From 1.
            loss: Mean training loss of the epoch, nats.
            settle: Told whether the first plateau has been reached, or 60 % of the epochs; says whether the objective
                changes from here.
            steps: Training steps of an epoch, the same in all.
            changing: Whether the objective is on its way from one form to another: no plateau counts, and the losses
                are watched anew afterwards.
        """
        plateau = self.plateau(loss, steps, counts=not changing and epoch * steps >= self.earliest)
        self.reached = self.reached or plateau
        if settle(self.reached if self.epochs is None else self._late(epoch, steps)) or changing:
            self._watch_anew()
        elif plateau and self.epochs is None:
            self.drops += 1

    def plateau(self, loss: float, steps: int, *, counts: bool = True) -> bool:
        """Note an epoch's loss; True where the last five readings, all since the last plateau, are close enough.

        Args:
            loss: Mean training loss of the epoch, nats.
            steps: Training steps of an epoch, the same in all.
            counts: Whether there may be a plateau now.
        """
        self.pooled.append(loss)
        if len(self.pooled) * steps < self.STEPS:
            return False
        reading = sum(self.pooled) / len(self.pooled)
        self.pooled.clear()
        self.losses.append(reading)
        last = self.losses[-self.EPOCHS :]
        tolerance = self.TOLERANCE * abs(reading) if self.nats is None else self.nats
        if not counts or len(last) < self.EPOCHS or max(last) - min(last) >= tolerance:
            return False
        self._watch_anew()
        return True

    def _late(self, epoch: int, steps: int) -> bool:
        """Whether 60 % of a fixed number of epochs are done, and enough steps where there is time for them."""
        assert self.epochs is not None
        enough = math.ceil(self.earliest / steps)
        share = math.ceil(self.SETTLED * self.epochs)
        return epoch >= (max(share, enough) if enough < self.epochs else share)

    def _watch_anew(self) -> None:
        self.pooled.clear()
        self.losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "pooled": list(self.pooled),
            "losses": list(self.losses),
            "reached": self.reached,
            "drops": self.drops,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.pooled, self.losses = list(state["pooled"]), list(state["losses"])
        self.reached, self.drops = state["reached"], state["drops"]
