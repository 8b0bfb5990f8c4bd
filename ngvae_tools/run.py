"""The record of a training run: its configuration, one line an epoch, and how it ended; stdlib only.

A run folder holds `config.json`, `history.jsonl`, `checkpoint.pt`, and, once the run has finished,
`encoder.onnx`, `decoder.onnx` and `summary.json`; or `diverged.json` where it diverged. `tensorboard/` holds event
files where they were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngvae_tools.errors import RecordError

FORMAT = "ngvae-tools/run"
VERSION = 1
CONFIG_NAME = "config.json"
HISTORY_NAME = "history.jsonl"
SUMMARY_NAME = "summary.json"
CHECKPOINT_NAME = "checkpoint.pt"
ENCODER_NAME = "encoder.onnx"
DECODER_NAME = "decoder.onnx"
DIVERGED_NAME = "diverged.json"
EVENTS_NAME = "tensorboard"
EVENTS_SUFFIX = ".ngvae-tools"
"""How the names of our event files end: others in their folder are the user's."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over images of one pass, in nats but for `mse`.

    Attributes:
        loss: What is minimised, constants dropped.
        distortion: Negative log-likelihood, its constant included.
        rate: Bound on the KL to the prior that the objective uses.
        mse: Mean squared error of a pixel, on the scale where images lie in [0, 1].
        penalty: What the objective charges beside the rate.
    """

    loss: float
    distortion: float
    rate: float
    mse: float
    penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of `history.jsonl`.

    Attributes:
        epoch: From 1.
        train: Means over the epoch's training steps.
        held_out: The same on the held-out images after the epoch; None where none are held out.
        rate_per_dimension: Training mean of the rate of each dimension, nats, shape (K,).
        p: Training mean of p of each dimension (near 0 = informative); None for Gaussian models.
        posterior_variance: Training mean of the posterior variance of each dimension, shape (K,).
        informative: Number of informative dimensions by the family's own rule.
        learning_rate: Learning rate of the epoch.
        seconds: How long the epoch took.
        sigma: Noise level after the epoch; None in histories of version 0.1.0.
    """

    epoch: int
    train: Figures
    held_out: Figures | None
    rate_per_dimension: tuple[float, ...]
    p: tuple[float, ...] | None
    posterior_variance: tuple[float, ...]
    informative: int
    learning_rate: float
    seconds: float
    sigma: float | None = None

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> EpochRecord:
        """Build from one parsed line."""
        fields = dict(raw)
        fields["train"] = Figures(**fields["train"])
        fields["held_out"] = None if fields["held_out"] is None else Figures(**fields["held_out"])
        for name in ("rate_per_dimension", "p", "posterior_variance"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A training run as it lies in its folder.

    Attributes:
        folder: The run's folder.
        config: Options, data set and versions, as in `config.json`.
        epochs: The history so far.
        summary: How the run ended, as in `summary.json`; None while it has not finished. `adapted`, of the objective
            `adaptive` alone, is the share of the change to learned prior weights that was done: 0 where the
            dimensions had not separated, 1 where it had ended.
        diverged: Where and how the training diverged, in words; None where it did not.
    """

    folder: Path
    config: Mapping[str, Any]
    epochs: tuple[EpochRecord, ...]
    summary: Mapping[str, Any] | None
    diverged: str | None = None

    @property
    def encoder(self) -> Path:
        """The exported encoder."""
        return self.folder / ENCODER_NAME

    @property
    def decoder(self) -> Path:
        """The exported decoder."""
        return self.folder / DECODER_NAME

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read a run folder, finished or not.

        A last line of the history without a newline is left out: its writer was killed in the middle.

        Raises:
            RecordError: The folder holds no run that can be read.
        """
        with _naming(folder, CONFIG_NAME):
            config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
            form, version = config.get("format"), config.get("version")
        if (form, version) != (FORMAT, VERSION):
            raise _unreadable(folder, f"format {form!r} version {version!r}", _NAME_ONE)
        with _naming(folder, HISTORY_NAME):
            history = folder / HISTORY_NAME
            lines = history.read_bytes().split(b"\n")[:-1] if history.exists() else []
            epochs = tuple(EpochRecord.from_json(json.loads(line)) for line in lines)
        with _naming(folder, SUMMARY_NAME):
            path = folder / SUMMARY_NAME
            summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        with _naming(folder, DIVERGED_NAME):
            diverged = _diverged(folder / DIVERGED_NAME)
        return cls(folder, config, epochs, summary, diverged)


_NAME_ONE = "name a folder that train of this version wrote"


@contextmanager
def _naming(folder: Path, name: str) -> Iterator[None]:
    """Turn what reading a file of a run raises into an error that names the file."""
    try:
        yield
    except OSError as error:
        raise _unreadable(folder, f"{name}: {error.strerror or error}", _NAME_ONE) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        restore = "restore it from a copy, or train anew with --overwrite"
        raise _unreadable(folder, f"a damaged {name} ({type(error).__name__}: {error})", restore) from None


def _diverged(path: Path) -> str | None:
    if not is_run_config(path):
        return None
    body = json.loads(path.read_text(encoding="utf-8"))
    return f"{body['problem']}: {body['found']}"


def is_run_config(path: Path) -> bool:
    """Whether a file is the `config.json`, or `diverged.json`, of a training run: other programs use such names too."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _unreadable(folder: Path, found: str, remedy: str) -> RecordError:
    return RecordError(
        f"{folder} is not a training run that can be read",
        expected=f"{CONFIG_NAME} of format {FORMAT!r} version {VERSION} and a history with one line an epoch",
        found=found,
        remedy=remedy,
    )
