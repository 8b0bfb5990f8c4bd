"""When to lower the learning rate, when the dimensions have settled, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


class PlateauSchedule:
    """Section IV: when five losses stay within 1 %, the learning rate is divided by ten; the second time it stops.

    The objective is told of the first plateau; where it changes then, the losses are watched anew and that plateau
    does not lower the learning rate. With a fixed number of epochs the learning rate stays, and the objective is
    told at the first plateau or after 60 % of the epochs, whichever comes first.

    Args:
        epochs: A fixed number of epochs; None: the plateaus decide.
        max_epochs: Where the plateaus stop at the latest.
        nats: Let the five losses stay within so many nats instead of 1 %.
    """

    EPOCHS = 5
    TOLERANCE = 0.01
    SETTLED = 0.6

    def __init__(self, epochs: int | None = None, max_epochs: int = 200, nats: float | None = None) -> None:
        self.epochs = epochs
        self.max_epochs = max_epochs
        self.nats = nats
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

    def advance(self, epoch: int, loss: float, settle: Callable[[bool], bool]) -> None:
        """Note an epoch's loss and tell the objective.

        Args:
            epoch: From 1.
            loss: Mean training loss of the epoch, nats.
            settle: Told whether the first plateau has been reached; says whether the objective changes from here.
        """
        plateau = self.plateau(loss)
        self.reached = self.reached or plateau
        late = self.epochs is not None and epoch >= math.ceil(self.SETTLED * self.epochs)
        if settle(self.reached or late):
            self.losses.clear()
        elif plateau and self.epochs is None:
            self.drops += 1

    def plateau(self, loss: float) -> bool:
        """Note a loss; True where the last five, all since the last plateau, are as close as asked for."""
        self.losses.append(loss)
        last = self.losses[-self.EPOCHS :]
        tolerance = self.TOLERANCE * abs(loss) if self.nats is None else self.nats
        if len(last) < self.EPOCHS or max(last) - min(last) >= tolerance:
            return False
        self.losses.clear()
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"losses": list(self.losses), "reached": self.reached, "drops": self.drops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.losses, self.reached, self.drops = list(state["losses"]), state["reached"], state["drops"]
