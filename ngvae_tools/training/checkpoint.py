"""The checkpoint file of a run: written in one step, read back, refused where it does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch

from ngvae_tools.errors import RecordError
from ngvae_tools.files import replacing

VERSION = 2


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training's state so that the file holds the old or the new one, at whatever moment it is killed.

    Raises:
        OutputError: It cannot be written.
    """
    with replacing(path) as part:
        torch.save({"version": VERSION, **state}, part)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in a file, on the CPU; None where there is no file.

    Raises:
        RecordError: The file cannot be read, or another version wrote it.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, BadZipFile, pickle.UnpicklingError) as error:
        raise unusable(path, str(error).partition("\n")[0]) from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise unusable(path, "another file")
    return state


def unusable(path: Path, found: str) -> RecordError:
    """The error of a checkpoint that a training cannot go on from."""
    return RecordError(
        f"cannot go on from {path}",
        expected="a checkpoint that this version of train wrote for this model",
        found=found,
        remedy="remove the file to start the run anew",
    )
