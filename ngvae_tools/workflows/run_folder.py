"""What lies in a run folder before a training, and whether it goes on from there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ngvae_tools.errors import OutputError, TrainingDivergedError
from ngvae_tools.files import output_errors, refuse_existing, write_text
from ngvae_tools.run import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    DECODER_NAME,
    DIVERGED_NAME,
    ENCODER_NAME,
    EVENTS_NAME,
    EVENTS_SUFFIX,
    FORMAT,
    HISTORY_NAME,
    SUMMARY_NAME,
    VERSION,
    is_run_config,
)
from ngvae_tools.training.config import TrainingConfig

PREVIOUS = "previous"
"""Folder inside a run that keeps the run it replaces, until it has finished."""

# The summary last: while files are moved, the run it makes a finished one is where it is.
RUN_FILES = (CONFIG_NAME, HISTORY_NAME, CHECKPOINT_NAME, ENCODER_NAME, DECODER_NAME, SUMMARY_NAME)


def identity(config: TrainingConfig, *, data_fingerprint: str, device: str, processes: int) -> dict[str, Any]:
    """What decides the result of a training: equal for two that end in the same weights.

    Args:
        config: How to train.
        data_fingerprint: Of the data set.
        device: `cpu` or `cuda`, as resolved.
        processes: How many train together.
    """
    resolved = {"objective": config.resolved_objective, "beta": config.resolved_beta}
    resolved |= {"data_seed": config.resolved_data_seed, "device": device}
    return {**dataclasses.asdict(config), **resolved, "data": data_fingerprint, "processes": processes}


def fingerprint_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def refuse_finished(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a finished run, or files that no run has left.

    Raises:
        OutputError: It does, and may not be overwritten; or a `config.json` of another program, which never is.
    """
    previous = folder / PREVIOUS
    with output_errors(folder):
        begun, ended = (folder / CONFIG_NAME).exists(), (folder / SUMMARY_NAME).exists()
    _refuse_foreign(folder)
    if overwrite:
        _refuse_foreign(previous)
        if previous.is_symlink() or (previous.exists() and not previous.is_dir()):
            raise OutputError(
                f"{previous} already exists",
                expected="an unused name, for the run that is replaced",
                found="something of that name that is no folder",
                remedy="move it away, or name another --output",
            )
    if begun and not ended:
        return
    found = "a finished run" if begun else "a file of that name"
    for name in RUN_FILES:
        refuse_existing(folder / name, overwrite=overwrite, found=found)
    for name in RUN_FILES:
        # The end of this run would remove them.
        refuse_existing(previous / name, overwrite=overwrite, found="a file of a run")


def _refuse_foreign(folder: Path) -> None:
    path = folder / CONFIG_NAME
    if path.exists() and not is_run_config(path):
        raise OutputError(
            f"{path} already exists",
            expected="an unused name, or what a training wrote",
            found="a file of that name that no training wrote",
            remedy="move it away, or name another --output",
        )


def goes_on(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether the folder holds an unfinished run of this identity.

    Raises:
        OutputError: It holds an unfinished run of another, which may not be overwritten.
    """
    if not (folder / CONFIG_NAME).exists() or (folder / SUMMARY_NAME).exists():
        return False
    try:
        found = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        there, before = found["fingerprint"], found["identity"]
    except (OSError, ValueError, KeyError, TypeError):
        there, before = "none", {}
    here = fingerprint_of(identity)
    if there == here:
        return True
    if overwrite:
        return False
    other = [
        f"{name} was {before[name]}" for name, value in identity.items() if name in before and before[name] != value
    ]
    raise OutputError(
        f"{folder} holds a run that did not finish, of other options or data",
        expected=f"one with the fingerprint {here[:16]}, to go on with",
        found=f"{there[:16]} ({', '.join(other) or 'of another version'})",
        remedy="give the options and data it began with, name another --output, or pass --overwrite to replace it",
    )


def refuse_changed_data(folder: Path, data: Mapping[str, Any]) -> None:
    """Refuse to go on with data that are read otherwise than when the run began; its fingerprint samples them.

    Args:
        folder: The run folder.
        data: What `config.json` says of the data, as they are read now.

    Raises:
        OutputError: They are.
    """
    then = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["data"]
    now = json.loads(json.dumps(data))
    # Another image may say which shape all have, as long as it is the same shape.
    names = [name for name in now if name not in {"path", "shape_from"}]
    other = [f"{name} {now[name]}" for name in names if now[name] != then.get(name)]
    if other:
        raise OutputError(
            f"{folder} holds a run that began with other data",
            expected=f"the data as {CONFIG_NAME} describes them",
            found="; ".join(other)[:300],
            remedy="restore the data, or name another --output",
        )


def set_aside(folder: Path) -> None:
    """Keep a run that is there in a folder of its own until the new one has finished."""
    for name in RUN_FILES:
        (folder / f"{name}.part").unlink(missing_ok=True)
    previous = folder / PREVIOUS
    kept = [folder / name for name in RUN_FILES if (folder / name).exists()]
    finished = folder / SUMMARY_NAME in kept
    if (previous / SUMMARY_NAME).exists() and not finished:
        # An attempt to replace a finished run did not finish: the finished one is worth keeping.
        for path in (*_event_files(folder), *kept):
            path.unlink()
        return
    if (previous / SUMMARY_NAME).exists() or not finished:
        # Else files of the finished run may have been moved there before a kill.
        remove_previous(folder)
    if kept:
        previous.mkdir(exist_ok=True)
    for path in _event_files(folder):
        (previous / EVENTS_NAME).mkdir(parents=True, exist_ok=True)
        path.replace(previous / EVENTS_NAME / path.name)
    for path in kept:
        path.replace(previous / path.name)


def _event_files(folder: Path) -> list[Path]:
    return sorted((folder / EVENTS_NAME).glob(f"*{EVENTS_SUFFIX}"))


def note_divergence(folder: Path, error: TrainingDivergedError) -> None:
    """Leave in the run folder how a training diverged, for those who watch it; a full disk does not hide the error."""
    path = folder / DIVERGED_NAME
    if path.exists() and not is_run_config(path):
        return
    with suppress(OutputError):
        write_json(path, {"format": FORMAT, "version": VERSION, "problem": error.problem, "found": error.found})


def forget_divergence(folder: Path) -> None:
    """Remove what `note_divergence` left of an earlier attempt."""
    if is_run_config(folder / DIVERGED_NAME):
        (folder / DIVERGED_NAME).unlink()


def remove_previous(folder: Path) -> None:
    """Remove the run that was set aside, and its folder if nothing else lies in there."""
    previous = folder / PREVIOUS
    foreign = (previous / CONFIG_NAME).exists() and not is_run_config(previous / CONFIG_NAME)
    if foreign or previous.is_symlink() or not previous.is_dir():
        return
    with suppress(OSError):
        for path in _event_files(previous):
            path.unlink()
        if (previous / EVENTS_NAME).is_dir():
            (previous / EVENTS_NAME).rmdir()
    with suppress(OSError):
        for name in RUN_FILES:
            (previous / name).unlink(missing_ok=True)
        previous.rmdir()


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write a JSON file in one step.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, json.dumps(body, indent=2, allow_nan=False) + "\n")
