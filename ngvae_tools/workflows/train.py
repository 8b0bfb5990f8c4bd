"""train: a data set to a trained model, exported as an encoder and a decoder file."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.contract import InputScale, Resize
from ngvae_tools.datasets import ImageDataset, open_dataset, write_sprites
from ngvae_tools.errors import MissingDependencyError, OptionError
from ngvae_tools.files import output_errors, refuse_existing, write_text
from ngvae_tools.run import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    DECODER_NAME,
    ENCODER_NAME,
    FORMAT,
    HISTORY_NAME,
    SUMMARY_NAME,
    VERSION,
    RunRecord,
)
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.versions import versions_of

if TYPE_CHECKING:
    from ngvae_tools.training.data import TrainingImages
    from ngvae_tools.training.loop import TrainingProgress
    from ngvae_tools.training.model import VariationalAutoencoder

PREVIOUS = "previous"
"""Folder inside a run that keeps the run it replaces, until it has finished."""

RUN_FILES = (SUMMARY_NAME, CONFIG_NAME, HISTORY_NAME, CHECKPOINT_NAME, ENCODER_NAME, DECODER_NAME)


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    config: TrainingConfig | None = None,
    dataset_key: str | None = None,
    overwrite: bool = False,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    **options: Any,
) -> RunRecord:
    """Train a model and export its encoder and decoder.

    Writes `config.json`, `history.jsonl`, `checkpoint.pt`, `encoder.onnx`, `decoder.onnx` and `summary.json`
    into the run folder. The same seed on the same CPU gives the same weights and exported files.

    Args:
        data: A folder of images or an HDF5 file.
        output: The run folder; one named after the data in the current folder by default.
        config: How to train; or give its fields as keyword arguments.
        dataset_key: Name of the images in an HDF5 file.
        overwrite: Replace a run that is there; it is kept in the folder `previous` until the new one has finished.
        on_progress: Called every few steps.
        **options: Fields of `TrainingConfig`, such as `latent_dim=15, epochs=60`.

    Returns:
        The run, as it lies in its folder.

    Raises:
        DatasetError: The data set cannot be trained on.
        OptionError: An option cannot be used.
        OutputError: The run exists or cannot be written.
        MissingDependencyError: torch is not installed.
        TrainingDivergedError: The loss is no longer finite.

    Example:
        >>> from ngvae_tools import train
        >>> run = train("images/", "RUN", latent_dim=15, epochs=60)  # doctest: +SKIP
        >>> run.encoder  # doctest: +SKIP
        PosixPath('RUN/encoder.onnx')
    """
    config = _config(config, options)
    _require_torch()
    from exporters.networks import export_model
    from ngvae_tools.training.data import load_images
    from ngvae_tools.training.devices import training_device
    from ngvae_tools.training.loop import Trainer
    from ngvae_tools.training.networks import check_image_shape

    folder = Path(output) if output is not None else default_run(Path(data))
    _refuse_existing(folder, overwrite=overwrite)
    training_device(config.device)
    with _open_for(config, Path(data), dataset_key) as dataset:
        check_image_shape(dataset.image_shape)
        images = load_images(dataset, held_out=config.held_out, seed=config.seed)
        model = _build(config, dataset.image_shape, images.scale)
        fingerprint = dataset.fingerprint()
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _set_aside(folder)
        _write_json(folder / CONFIG_NAME, _config_body(config, dataset, images, fingerprint))
        sample_type = dataset.dtype.name
    with output_errors(folder):
        trainer = Trainer(model, images, config, folder, on_progress)
        history = trainer.fit()
    encoder, decoder = export_model(
        model,
        folder / ENCODER_NAME,
        folder / DECODER_NAME,
        sample_type=sample_type,
        resize=config.resize,
        data_fingerprint=fingerprint,
    )
    exports = {
        report.path.name: {
            "sha256": report.sha256,
            "bytes": report.bytes,
            "max_abs_difference": report.max_abs_difference,
        }
        for report in (encoder, decoder)
    }
    last = history[-1]
    summary = {"epochs": last.epoch, "ended_by": trainer.ended_by, "informative": last.informative, "exports": exports}
    summary |= {"train": dataclasses.asdict(last.train)}
    summary |= {"held_out": None if last.held_out is None else dataclasses.asdict(last.held_out)}
    _write_json(folder / SUMMARY_NAME, summary)
    shutil.rmtree(folder / PREVIOUS, ignore_errors=True)
    return RunRecord.read(folder)


def _refuse_existing(folder: Path, *, overwrite: bool) -> None:
    found = "a file of that name"
    if (folder / CONFIG_NAME).exists():
        found = "a finished run" if (folder / SUMMARY_NAME).exists() else "a run that did not finish"
    for name in RUN_FILES:
        refuse_existing(folder / name, overwrite=overwrite, found=found)


def _set_aside(folder: Path) -> None:
    """Keep a run that is there in a folder of its own until the new one has finished."""
    previous = folder / PREVIOUS
    kept = [folder / name for name in RUN_FILES if (folder / name).exists()]
    if (previous / SUMMARY_NAME).exists() and folder / SUMMARY_NAME not in kept:
        # An attempt to replace a finished run did not finish: the finished one is worth keeping.
        for path in kept:
            path.unlink()
        return
    if kept:
        shutil.rmtree(previous, ignore_errors=True)
        previous.mkdir()
    for path in kept:
        path.replace(previous / path.name)


def _build(config: TrainingConfig, image_shape: tuple[int, int, int], scale: InputScale) -> VariationalAutoencoder:
    from ngvae_tools.training.model import VariationalAutoencoder

    try:
        return VariationalAutoencoder(config, image_shape, scale)
    except (RuntimeError, MemoryError) as error:  # torch's allocator raises RuntimeError
        raise OptionError(
            "the networks do not fit into memory",
            expected="a number of latent dimensions and an image size that do",
            found=f"{config.latent_dim} dimensions for images of {image_shape[0]} x {image_shape[1]}",
            remedy="pass a smaller --latent-dim, or smaller images with --resize and --size",
        ) from error


def default_run(data: Path) -> Path:
    """The run folder when none is named: after the data, in the current folder."""
    return Path(f"run-{data.resolve().stem}")


def default_data() -> tuple[Path, bool]:
    """The paper's sprites, small, in the current folder; and whether they were made now.

    Raises:
        MissingDependencyError: torch is not installed, so that they would be made for nothing.
        OutputError: They cannot be written.
    """
    _require_torch()
    path = Path("sprites.h5")
    if path.exists():
        return path, False
    write_sprites(path, images=6000, size=32)
    return path, True


def _config(config: TrainingConfig | None, options: dict[str, Any]) -> TrainingConfig:
    names = {field.name for field in dataclasses.fields(TrainingConfig)}
    unknown = sorted(set(options) - names)
    if unknown:
        raise OptionError(
            "train has no such option",
            expected=f"fields of TrainingConfig ({', '.join(sorted(names))})",
            found=", ".join(unknown),
            remedy="correct the name",
        )
    return dataclasses.replace(config or TrainingConfig(), **options)


def _require_torch() -> None:
    try:
        importlib.import_module("torch")
    except ImportError:
        raise MissingDependencyError(
            "torch is not installed",
            expected="torch, to train",
            found="none that can be imported",
            remedy="install it with: pip install 'ngvae-tools[cpu,train]'",
        ) from None


def _open_for(config: TrainingConfig, path: Path, dataset_key: str | None) -> ImageDataset:
    dataset = open_dataset(path, dataset_key=dataset_key)
    resize: Resize | None = config.resize
    if resize is None:
        return dataset
    shape = (config.size, config.size, dataset.image_shape[2])
    dtype = dataset.dtype
    dataset.close()
    return open_dataset(path, dataset_key=dataset_key, image_shape=shape, dtype=dtype, resize=resize)


def _config_body(
    config: TrainingConfig, dataset: ImageDataset, images: TrainingImages, fingerprint: str
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "options": {
            **dataclasses.asdict(config),
            "objective": config.resolved_objective,
            "beta": config.resolved_beta,
        },
        "data": {
            "path": str(dataset.path.resolve()),
            "kind": dataset.kind,
            "fingerprint": fingerprint,
            "image_shape": dataset.image_shape,
            "sample_type": dataset.dtype.name,
            "scale": dataclasses.asdict(images.scale),
            "n_images": len(dataset),
            "n_train": len(images.train),
            "n_held_out": len(images.held_out),
            "rejected": [{"id": r.identifier, "reason": r.reason} for r in images.rejected],
        },
        "versions": versions_of("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "h5py", "pillow"),
    }


def _write_json(path: Path, body: dict[str, Any]) -> None:
    write_text(path, json.dumps(body, indent=2, allow_nan=False) + "\n")
