"""When a training has gone wrong: losses that are not finite, or far above the best one."""

from __future__ import annotations

import math
from typing import Any


class DivergenceWatch:
    """Watches the losses of single steps, every few of them.

    A loss has blown up where it lies a thousand times the best one's size above it, or thirty times at ten checks
    in a row. The size is at least 0.01 nat a pixel, so that a loss near 0 is no yardstick. Both are far beyond a
    healthy training, whose losses jump by a few times their size in single steps and come back.

    Args:
        pixels: Number D of values of an image.
    """

    EXPLODED = 1000.0
    HIGH = 30.0
    PATIENCE = 10
    LEAST_SIZE = 0.01

    def __init__(self, pixels: int) -> None:
        self.least_size = self.LEAST_SIZE * pixels
        self.restart()

    def restart(self) -> None:
        """Forget what was seen, because the loss now means something else."""
        self.best = math.inf
        self.high = 0

    def check(self, loss: float) -> str | None:
        """Note the loss of a step, in nats; what was found where the training has diverged, else None."""
        if not math.isfinite(loss):
            return f"a training loss of {loss}"
        self.best = min(self.best, loss)
        times = (loss - self.best) / max(abs(self.best), self.least_size)
        self.high = self.high + 1 if times > self.HIGH else 0
        if times > self.EXPLODED or self.high >= self.PATIENCE:
            return f"a training loss of {loss:.4g} after one of {self.best:.4g}"
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "high": self.high}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.best, self.high = state["best"], state["high"]
