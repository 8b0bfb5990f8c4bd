"""The options of a sweep; apart from its record, so that `--help` loads little."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConfig:
    """What a sweep does unless told otherwise.

    Attributes:
        sigmas: Noise levels, on the scale where images lie in [0, 1]; each is started cold.
        restarts: Trainings a level, from different starts.
        epochs: Epochs of each training.
    """

    sigmas: tuple[float, ...] = (0.06, 0.12, 0.245, 0.35, 0.5)
    restarts: int = 2
    epochs: int = 60
