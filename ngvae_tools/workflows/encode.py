"""A pass of a data set through an encoder: opened, cut into shards, run by an engine, taken up again after an end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.datasets.places import Place, name_of, place_of
from ngvae_tools.errors import OptionError, TooManyRejectedError
from ngvae_tools.inference.local import Done, run_shards
from ngvae_tools.inference.providers import CPU, available_cpus
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.inference.shards import ShardSettings
from ngvae_tools.record import REPLICATES
from ngvae_tools.reporting.rejections import RejectionTally, reasons_text
from ngvae_tools.workflows.encoding_pass import EncodingPass
from ngvae_tools.workflows.opening import encoder_of, fit_floats, open_images, shape_of
from ngvae_tools.workflows.shard_folder import ShardFolder

Engine = Literal["local", "ray"]

DESCRIPTION_BYTES = 16 * 2**10
"""What of a result does not grow with the images."""


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """What a pass is about to do.

    Attributes:
        n_images: Images it will see, those of shards that are there already included.
        n_done: Images of the shards that are there already.
        shard_bytes: Disk that the shards take until the result is written.
        result_bytes: Disk that the result takes at most, less the names of images.
        free_bytes: Disk that is free.
        notes: What makes it slow, a sentence each.
    """

    n_images: int
    n_done: int
    shard_bytes: int
    result_bytes: int
    free_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Where a pass stands: images done and rejected, of how many; `n_before` of them by an earlier run."""

    done: int
    rejected: int
    total: int
    n_before: int = 0


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How to read the model and the data, and who does the work.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `tensorrt`.
        batch_size: Images of one run of the encoder; None for 32, or 256 on a GPU.
        workers: Workers; None for one a processor.
        engine: `local`, or `ray` for a Ray cluster.
        dataset_key: Name of the images in a file.
        resize: How to bring images to the encoder's size; None as in training.
        heads: Names of the encoder's outputs, for models from elsewhere.
        input_options: Layout and range of its input, for models from elsewhere.
        float_samples: What an earlier pass said of its float samples; these are then given to the model alike.
        bootstrap: Replicates of the bootstrap.
        max_rejected: More rejected images than this end the pass: a number, or below 1 a share as a float.
        overwrite: Replace what is there.
        on_plan: Called before the first image is read.
        on_progress: Called whenever images were encoded.
    """

    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    engine: Engine = "local"
    dataset_key: str | None = None
    resize: Resize | None = None
    heads: HeadNames | None = None
    input_options: InputOptions | None = None
    float_samples: tuple[str, ...] = ()
    bootstrap: int = REPLICATES
    max_rejected: float | None = None
    overwrite: bool = False
    on_plan: Callable[[EncodePlan], None] | None = None
    on_progress: Callable[[EncodeProgress], None] | None = None

    @property
    def local_workers(self) -> int:
        """Workers on this machine."""
        return self.workers or available_cpus()

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            OptionError: There is one.
        """
        for option, value in (("--batch-size", self.batch_size), ("--workers", self.workers)):
            if value is not None and value < 1:
                raise _unusable(option, "a whole number above 0", str(value))
        limit = self.max_rejected
        if limit is not None and not (limit >= 0 and (limit < 1 or limit == int(limit))):
            raise _unusable("--max-rejected", "a number of images, or a share from 0 to 1", str(limit))
        if self.engine not in {"local", "ray"}:
            raise _unusable("--engine", "local or ray", repr(self.engine))


@dataclass(frozen=True, slots=True)
class Encoded:
    """Shards that are finished.

    Attributes:
        files: Their files, in order.
        n_images: Images in them.
        n_rejected: Those that could not be used.
        timings: What of it was done now, and how fast, for the record.
    """

    files: list[Path]
    n_images: int
    n_rejected: int
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class OpenPass:
    """An encoder and a data set, open, and the pass that they make."""

    session: EncoderSession
    dataset: ImageDataset
    encoding: EncodingPass
    options: EncodeOptions
    model: Path
    data: Place

    def run(self, folder: ShardFolder, shards: range) -> Encoded:
        """Make all shards that are not there.

        Raises:
            OutputError: The folder holds another pass, or cannot be written.
            TooManyRejectedError: More images were rejected than `max_rejected`; finished shards stay.
        """
        there = folder.begin(self.encoding, overwrite=self.options.overwrite)
        missing = [number for number in shards if number not in there]
        plan = self.encoding.plan
        total = sum(plan.shard(n).stop - plan.shard(n).start for n in shards)
        n_before = total - sum(plan.shard(n).stop - plan.shard(n).start for n in missing)
        n_rejected = sum(there.get(number, 0) for number in shards)
        progress = _Progress(self.options, EncodeProgress(n_before, n_rejected, total, n_before))
        if self.options.on_plan is not None:
            self.options.on_plan(self._plan(folder, total, n_before))
        started = time.perf_counter()
        progress.check()
        try:
            self._run(folder, missing, progress)
        except KeyboardInterrupt:
            kept = len(set(folder.numbers()) & set(shards))
            raise KeyboardInterrupt(
                f"{kept} of {len(shards)} shards are finished and kept in {folder.path}; "
                "the same command goes on from them"
            ) from None
        seconds = time.perf_counter() - started
        timings = {"encoding_seconds": seconds, "images_per_second": (total - n_before) / max(seconds, 1e-9)}
        return Encoded([folder.file(number) for number in shards], total, progress.now.rejected, timings)

    def _run(self, folder: ShardFolder, missing: list[int], progress: _Progress) -> None:
        if self.options.engine == "ray":
            from ngvae_tools.workflows.ray_engine import run_on_ray

            run_on_ray(self, missing, keep=folder.keep, on_done=progress.add)
            return
        run_shards(
            self.dataset,
            self.session,
            self.encoding.plan,
            missing,
            self.encoding.settings,
            workers=self.options.local_workers,
            keep=folder.keep,
            on_done=progress.add,
        )

    def _plan(self, folder: ShardFolder, total: int, n_before: int) -> EncodePlan:
        from shutil import disk_usage

        model = self.encoding.model
        values = model.latent_dim * model.positions
        advice = self.dataset.layout_advice()
        return EncodePlan(
            n_images=total,
            n_done=n_before,
            shard_bytes=total * (4 * values + 8),
            result_bytes=total * 4 * values + DESCRIPTION_BYTES,
            free_bytes=disk_usage(folder.output).free,
            notes=() if advice is None else (advice,),
        )


@contextmanager
def open_pass(model: Path, data: Place, options: EncodeOptions) -> Iterator[OpenPass]:
    """Open an encoder and a data set.

    Raises:
        ContractError: The encoder cannot be used.
        DatasetError: The data set cannot be opened.
        DeviceError: The device cannot run the encoder.
        OptionError: An option does not apply.
    """
    options.check()
    session = EncoderSession(
        encoder_of(model),
        device=options.device,
        threads=1,
        at_once=options.local_workers,
        heads=options.heads,
        input_options=options.input_options,
        image_shape=lambda: shape_of(data, options.dataset_key),
    )
    with open_images(session, data, options.dataset_key, options.resize) as dataset:
        said = fit_floats(session, dataset, options.float_samples)
        batch_size = options.batch_size or default_batch_size(session)
        if session.provider != CPU:
            session.pad_batches(batch_size)
        encoding = EncodingPass.of(
            session,
            dataset,
            dataset_key=options.dataset_key,
            data_notes=said,
            input_options=options.input_options,
            settings=ShardSettings(batch_size, options.bootstrap),
        )
        yield OpenPass(session, dataset, encoding, options, model, data)


def default_batch_size(session: EncoderSession) -> int:
    """Small batches stay in a CPU's cache; a GPU wants large ones."""
    return 32 if session.provider == CPU else 256


def encode_options_of(options: EncodeOptions | None, given: dict[str, Any]) -> EncodeOptions:
    """The options, with some fields given apart.

    Raises:
        OptionError: There is no such field.
    """
    names = [field.name for field in fields(EncodeOptions)]
    if unknown := sorted(set(given) - set(names)):
        raise OptionError(
            "there is no such option",
            expected=f"one of {', '.join(names)}",
            found=", ".join(unknown),
            remedy="correct the name",
        )
    return replace(options or EncodeOptions(), **given)


class _Progress:
    """Counts what was done, tells it, and ends the pass where too much was rejected."""

    def __init__(self, options: EncodeOptions, start: EncodeProgress) -> None:
        self._options = options
        self.now = start
        self._rejected = RejectionTally()

    def add(self, done: Done) -> None:
        """Count a piece."""
        now = self.now
        self._rejected.update(done.rejected)
        rejected = now.rejected + len(done.rejected)
        self.now = EncodeProgress(now.done + done.images, rejected, now.total, now.n_before)
        if self._options.on_progress is not None:
            self._options.on_progress(self.now)
        self.check()

    def check(self) -> None:
        """Raise `TooManyRejectedError` where it is so."""
        limit, now = self._options.max_rejected, self.now
        if limit is None:
            return
        most = limit * now.total if isinstance(limit, float) and limit < 1 else limit
        if now.rejected > most:
            told = reasons_text(self._rejected.reasons, self._rejected.total)
            # Of shards that were there before, only the number is known.
            among = ": " if self._rejected.total == now.rejected else "; of those seen by this run "
            raise TooManyRejectedError(
                "too many images cannot be used",
                expected=f"at most {most:,.0f} of {now.total:,}, by --max-rejected",
                found=f"{now.rejected:,} rejected among {now.done:,} seen{told and among}{told}",
                remedy="mend the data set, or allow more: finished shards are kept, and go on with a higher limit",
            )


def _unusable(option: str, expected: str, found: str) -> OptionError:
    return OptionError(
        f"{option} cannot be used", expected=expected, found=found, remedy="pass another, or leave it out"
    )


def default_output(model: Path, data: str | os.PathLike[str]) -> Path:
    """The folder that a result goes to when none is named: after model and data, in the current folder."""
    return Path(f"{model.resolve().stem}-{name_of(place_of(data))}")
