"""Cells of the rivals for the count: each is called in a worker process and returns JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ngvae_tools.datasets import open_dataset
from ngvae_tools.workflows.cells import Cell

if TYPE_CHECKING:
    from ngvae_tools.training.data import TrainingImages


def fondue(folder: Path, cell: Cell) -> dict[str, Any]:  # noqa: ARG001 - as every extra of a cell is called
    """Run FONDUE; the cell's option `epochs` is that of each K."""
    from ngvae_tools.training.rivals.fondue import fondue as run

    with _images(cell) as images:
        return dataclasses.asdict(run(images, cell.config, epochs=cell.options["epochs"]))


def least_volume(folder: Path, cell: Cell) -> dict[str, Any]:  # noqa: ARG001
    """Train with Least Volume and prune."""
    from ngvae_tools.training.rivals.least_volume import least_volume as run

    with _images(cell) as images:
        return dataclasses.asdict(run(images, cell.config, epochs=cell.options["epochs"]))


@contextmanager
def _images(cell: Cell) -> Iterator[TrainingImages]:
    """The images as a training of the cell's configuration sees them."""
    from ngvae_tools.training.data import load_images

    config = cell.config
    dataset = open_dataset(cell.data, dataset_key=cell.dataset_key)
    if config.resize is not None:
        shape, dtype = (config.size, config.size, dataset.image_shape[2]), dataset.dtype
        dataset.close()
        dataset = open_dataset(
            cell.data, dataset_key=cell.dataset_key, image_shape=shape, dtype=dtype, resize=config.resize
        )
    with load_images(dataset, held_out=config.held_out, seed=config.resolved_data_seed) as images:
        yield images
