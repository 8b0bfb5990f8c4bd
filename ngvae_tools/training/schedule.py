"""When to lower the learning rate and when to stop."""

from __future__ import annotations


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
