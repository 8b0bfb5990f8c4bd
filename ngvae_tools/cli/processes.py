"""Which of torchrun's processes this is: only the first one speaks, unless another has an error of its own."""

from __future__ import annotations

import os
import sys


def several() -> bool:
    """Whether torchrun, or another that follows its rules, started this process together with others."""
    return "MASTER_ADDR" in os.environ and _number("WORLD_SIZE", 1) > 1


def follows() -> bool:
    """Whether another process is the first of those that train together."""
    return several() and _number("RANK", 0) > 0


def _number(name: str, default: int) -> int:
    """An environment variable of torchrun; the default for what is no number, which train refuses."""
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default


def hush_followers() -> None:
    """Keep a process that is not the first from repeating what the first says of the command line."""
    if follows():
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open for the rest of the process


def let_speak() -> None:
    """From here on, an error is this process's own."""
    assert sys.__stderr__ is not None
    sys.stderr = sys.__stderr__
