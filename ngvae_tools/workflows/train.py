"""train: a data set to a trained model, exported as an encoder and a decoder file."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.contract import InputScale, Resize
from ngvae_tools.datasets import ImageDataset, open_dataset, write_sprites
from ngvae_tools.datasets.places import Place, name_of, place_of
from ngvae_tools.errors import MissingDependencyError, OptionError, ProcessesError, TrainingDivergedError
from ngvae_tools.files import output_errors
from ngvae_tools.run import (
    CHECKPOINT_NAME,
    CONFIG_NAME,
    DECODER_NAME,
    ENCODER_NAME,
    EVENTS_NAME,
    FORMAT,
    SUMMARY_NAME,
    VERSION,
    RunRecord,
)
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.run_folder import (
    fingerprint_of,
    forget_divergence,
    goes_on,
    identity,
    note_divergence,
    refuse_changed_data,
    refuse_finished,
    remove_previous,
    set_aside,
    write_json,
)
from ngvae_tools.workflows.versions import versions_of

if TYPE_CHECKING:
    from ngvae_tools.training.data import TrainingImages
    from ngvae_tools.training.distributed import Ranks
    from ngvae_tools.training.events import EventFiles
    from ngvae_tools.training.loop import Trainer, TrainingProgress
    from ngvae_tools.training.model import VariationalAutoencoder


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    config: TrainingConfig | None = None,
    dataset_key: str | None = None,
    overwrite: bool = False,
    tensorboard: bool = False,
    on_progress: Callable[[TrainingProgress], None] | None = None,
    **options: Any,
) -> RunRecord:
    """Train a model and export its encoder and decoder.

    Writes `config.json`, `history.jsonl`, `checkpoint.pt`, `encoder.onnx`, `decoder.onnx` and `summary.json`
    into the run folder. The same seed on the same CPU gives the same weights and exported files. A run that was
    interrupted, in whatever way, goes on from its last checkpoint when it is asked for again with the same options
    and data, and ends in the same weights and files as without the interruption.

    Started by torchrun, the processes train one model together: they share every batch, and the first of them
    writes. The result depends on their number.

    Args:
        data: A folder, file or store of images, a published data set, or a URL, see `open_dataset`.
        output: The run folder; one named after the data in the current folder by default.
        config: How to train; or give its fields as keyword arguments.
        dataset_key: Name of the images in a file or store that has several, see `open_dataset`.
        overwrite: Replace a run that is there, unless it is this one, unfinished; it is kept in the folder
            `previous` until the new one has finished.
        tensorboard: Write event files for TensorBoard into the folder `tensorboard` of the run too: the history's
            figures as scalars and histograms, and some reconstructed images. They follow the history, a resumed one
            from its first epoch on, and are the only files of a run that differ between equal trainings.
        on_progress: Called every few steps, in the first process.
        **options: Fields of `TrainingConfig`, such as `latent_dim=15, epochs=60`.

    Returns:
        The run, as it lies in its folder.

    Raises:
        DatasetError: The data set cannot be trained on.
        OptionError: An option cannot be used.
        OutputError: The run exists, another process is writing it, or it cannot be written.
        RecordError: The checkpoint of an unfinished run cannot be used.
        DeviceError: The device cannot be used, or not in the precision asked for.
        MissingDependencyError: torch is not installed, or TensorBoard where event files are asked for.
        TrainingDivergedError: The loss is no longer finite, or far above its best.
        ProcessesError: One of the processes that train together has ended.
        SystemExit: In other processes than the first, for an error that the first raises.

    Example:
        >>> from ngvae_tools import train
        >>> run = train("images/", "RUN", latent_dim=15, epochs=60)  # doctest: +SKIP
        >>> run.encoder  # doctest: +SKIP
        PosixPath('RUN/encoder.onnx')
    """
    config = _config(config, options)
    require_torch()
    if tensorboard:
        require_tensorboard()
    from ngvae_tools.training.distributed import processes

    folder = Path(output) if output is not None else default_run(data)
    with processes() as ranks:
        try:
            return _train(
                config,
                place_of(data),
                dataset_key,
                folder,
                ranks,
                overwrite=overwrite,
                tensorboard=tensorboard,
                on_progress=on_progress,
            )
        except (TrainingDivergedError, ProcessesError) as error:
            raise ranks.told(error) from None


def _train(
    config: TrainingConfig,
    data: Place,
    dataset_key: str | None,
    folder: Path,
    ranks: Ranks,
    *,
    overwrite: bool,
    tensorboard: bool,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> RunRecord:
    from ngvae_tools.training.checkpoint import read_checkpoint
    from ngvae_tools.training.data import load_images
    from ngvae_tools.training.devices import training_device
    from ngvae_tools.training.loop import Trainer
    from ngvae_tools.training.networks import check_image_shape

    state = None
    with ExitStack() as stack:
        with ranks.together():
            if ranks.first:
                stack.enter_context(locked(folder))
                refuse_finished(folder, overwrite=overwrite)
            device = training_device(config.device, ranks.local_rank)
            dataset = stack.enter_context(_open_for(config, data, dataset_key))
            check_image_shape(dataset.image_shape, dataset.shape_from)
            own = identity(config, data_fingerprint=dataset.fingerprint(), device=device.type, processes=ranks.world)
            resumed = ranks.first and goes_on(folder, own, overwrite=overwrite)
            seed = config.resolved_data_seed
            images = load_images(dataset, held_out=config.held_out, seed=seed, processes=ranks.world)
            model = _build(config, dataset.image_shape, images.scale)
            trainer = Trainer(model, images, config, folder, on_progress if ranks.first else None, ranks)
            body = _config_body(config, dataset, images, own)
            if resumed:
                refuse_changed_data(folder, body["data"])
                state = read_checkpoint(folder / CHECKPOINT_NAME)
            elif ranks.first:
                with output_errors(folder):
                    set_aside(folder)
                write_json(folder / CONFIG_NAME, body)
            if ranks.first:
                with output_errors(folder):
                    forget_divergence(folder)
                    if tensorboard:
                        trainer.on_history = stack.enter_context(_events(folder))
        state = ranks.from_first(state)
        if state is not None:
            with ranks.together():
                trainer.load_state(state)
        # Images that do not fit into memory are read while training.
        with output_errors(folder):
            try:
                trainer.fit()
            except TrainingDivergedError as error:
                if ranks.first:
                    note_divergence(folder, error)
                raise
        with ranks.together():
            run = _finish(trainer, body, resize=config.resize) if ranks.first else None
        run = ranks.from_first(run)
        assert run is not None
        return run


def _events(folder: Path) -> EventFiles:
    from ngvae_tools.training.events import EventFiles

    return EventFiles(folder / EVENTS_NAME)


def _finish(trainer: Trainer, body: dict[str, Any], *, resize: Resize | None) -> RunRecord:
    """Export the networks and write the summary, which makes the run a finished one."""
    from exporters.networks import export_model

    folder = trainer.folder
    encoder, decoder = export_model(
        trainer.model,
        folder / ENCODER_NAME,
        folder / DECODER_NAME,
        sample_type=body["data"]["sample_type"],
        resize=resize,
        data_fingerprint=body["data"]["fingerprint"],
    )
    exports = {
        report.path.name: {
            "sha256": report.sha256,
            "bytes": report.bytes,
            "max_abs_difference": report.max_abs_difference,
        }
        for report in (encoder, decoder)
    }
    last = trainer.history[-1]
    summary = {"epochs": last.epoch, "ended_by": trainer.ended_by, "informative": last.informative, "exports": exports}
    summary |= {"sigma": last.sigma}
    summary |= {"train": dataclasses.asdict(last.train)}
    summary |= {"held_out": None if last.held_out is None else dataclasses.asdict(last.held_out)}
    if (adapted := trainer.model.objective.adapted) is not None:
        summary |= {"adapted": adapted}
    if trainer.config.model == "ard-vae":
        summary |= {"relevance": _relevance(trainer)}
    write_json(folder / SUMMARY_NAME, summary)
    remove_previous(folder)
    return RunRecord.read(folder)


def _relevance(trainer: Trainer) -> dict[str, Any]:
    """The relevant dimensions by ARD-VAE's own rule, on held-out images where there are any."""
    import torch

    from ngvae_tools.training.relevance import IMAGES, relevance

    images = trainer.images
    samples = next(images.held_out(IMAGES) if images.n_held_out else images.epoch(1, IMAGES))
    found = relevance(trainer.model, torch.from_numpy(samples), trainer.config.seed)
    return {"count": len(found.relevant), **dataclasses.asdict(found)}


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


def default_run(data: str | os.PathLike[str]) -> Path:
    """The run folder when none is named: after the data, in the current folder."""
    return Path(f"run-{name_of(place_of(data))}")


def default_data() -> tuple[Path, bool]:
    """The paper's sprites, small, in the current folder; and whether they were made now.

    Raises:
        MissingDependencyError: torch is not installed, so that they would be made for nothing.
        OutputError: They cannot be written.
    """
    require_torch()
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


def require_torch() -> None:
    """Say so where torch is not installed.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    try:
        importlib.import_module("torch")
    except ImportError:
        raise MissingDependencyError(
            "torch is not installed",
            expected="torch, to train",
            found="none that can be imported",
            remedy="install it with: pip install 'ngvae-tools[cpu,train]'",
        ) from None


def require_tensorboard() -> None:
    """Say so where TensorBoard is not installed.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    try:
        importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        raise MissingDependencyError(
            "TensorBoard is not installed",
            expected="the package tensorboard, to write event files",
            found="none that can be imported",
            remedy="install it with: pip install 'ngvae-tools[tensorboard]', or leave --tensorboard out",
        ) from None


def _open_for(config: TrainingConfig, path: Place, dataset_key: str | None) -> ImageDataset:
    dataset = open_dataset(path, dataset_key=dataset_key)
    resize: Resize | None = config.resize
    if resize is None:
        return dataset
    shape = (config.size, config.size, dataset.image_shape[2])
    dtype = dataset.dtype
    dataset.close()
    return open_dataset(path, dataset_key=dataset_key, image_shape=shape, dtype=dtype, resize=resize)


def _config_body(
    config: TrainingConfig, dataset: ImageDataset, images: TrainingImages, own: dict[str, Any]
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
            "path": dataset.location,
            "kind": dataset.kind,
            "fingerprint": own["data"],
            "image_shape": dataset.image_shape,
            "shape_from": dataset.shape_from,
            "sample_type": dataset.dtype.name,
            "scale": dataclasses.asdict(images.scale),
            "n_images": len(dataset),
            "n_train": images.n_train,
            "n_held_out": images.n_held_out,
            "rejected": [{"id": r.identifier, "reason": r.reason} for r in images.rejected],
        },
        "processes": own["processes"],
        "fingerprint": fingerprint_of(own),
        "identity": own,
        "versions": versions_of("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "h5py", "pillow"),
    }
