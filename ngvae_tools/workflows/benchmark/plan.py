"""What a benchmark is about to run: its data sets and its cells, kept so that the table can be made again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngvae_tools.benchmark_record import BenchmarkData
from ngvae_tools.datasets import open_dataset, write_sprites
from ngvae_tools.datasets.places import Place, name_of, place_of
from ngvae_tools.errors import RecordError
from ngvae_tools.files import write_text
from ngvae_tools.workflows.benchmark.presets import MODELS, GeneratedData, Model, Preset
from ngvae_tools.workflows.cells import Cell
from ngvae_tools.workflows.supervised import AUTO, open_labels

PLAN_NAME = "plan.json"
DATA_FOLDER = "data"

NETWORK_STRIDE = 16
"""The networks take images whose sides are multiples of it; others are stretched."""

FONDUE_TRAININGS = 6
"""Numbers of dimensions that FONDUE usually tries, for what is said beforehand of the time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A benchmark before it has run.

    Attributes:
        preset: Name of the preset.
        command: What makes it, as words of a command line.
        device: What it is trained on, in words.
        data: The data sets.
        models: Options by model, `label` among them.
        cells: The cells; their options say `data`, `model` and `latent_dim`.
    """

    preset: str
    command: str
    device: str
    data: tuple[BenchmarkData, ...]
    models: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]

    def write(self, folder: Path) -> None:
        """Write `plan.json`."""
        body = {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "data": [dataclasses.asdict(data) for data in self.data],
            "cells": [cell.to_json() for cell in self.cells],
        }
        write_text(folder / PLAN_NAME, json.dumps(body, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read `plan.json`.

        Raises:
            RecordError: There is none that can be read.
        """
        try:
            raw = json.loads((folder / PLAN_NAME).read_text(encoding="utf-8"))
            data = tuple(
                BenchmarkData(
                    **{
                        **each,
                        "image_shape": tuple(each["image_shape"]),
                        "factors": tuple(each["factors"]),
                        "intrinsic": None if each["intrinsic"] is None else tuple(each["intrinsic"]),
                    }
                )
                for each in raw["data"]
            )
            return cls(**{**raw, "data": data, "cells": tuple(Cell.from_json(cell) for cell in raw["cells"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{folder} holds no benchmark",
                expected=f"{PLAN_NAME} as benchmark writes it",
                found=f"{type(error).__name__}: {error}",
                remedy="name the folder of a benchmark, or leave --table-only out",
            ) from None


def make_plan(
    preset: Preset,
    folder: Path,
    *,
    command: str,
    device: str,
    data: Sequence[str | os.PathLike[str]] = (),
    dataset_key: str | None = None,
    epochs: int | None = None,
    training_device: str = "auto",
) -> Plan:
    """Write the generated data sets that are not there yet, and lay out the cells.

    Args:
        preset: What to run.
        folder: Where the data sets go.
        command: See `Plan`.
        device: See `Plan`.
        data: Files or folders to use in place of the preset's data sets.
        dataset_key: Name of the images in files among them that have several, see `open_dataset`.
        epochs: In place of the paper's schedule.
        training_device: As `TrainingConfig` takes it.

    Raises:
        DatasetError: A data set cannot be used.
        OptionError: A model's options cannot be used.
        OutputError: A data set cannot be written.
    """
    models = [MODELS[name] for name in preset.models]
    options = {"device": training_device} | ({} if epochs is None else {"epochs": epochs})
    for model in models:  # refused before anything is written
        preset.config(model, preset.latent_dims[0], 0, **options)
    paths: list[Place] = [place_of(path) for path in data] or [
        _generated(each, folder / DATA_FOLDER) for each in preset.data
    ]
    names = _names(paths) if data else [each.name for each in preset.data]
    described = tuple(_described(name, path, dataset_key) for name, path in zip(names, paths, strict=True))
    cells = [
        _cell(preset, each, model, latent_dim, seed, {**options, **_fitting(each)}, dataset_key)
        # Seed by seed, so that a benchmark that is interrupted has whole rows.
        for seed in range(preset.seeds)
        for each in described
        for latent_dim in preset.latent_dims
        for model in models
        if not (model.searches and latent_dim != preset.latent_dims[0])
    ]
    about = {model.name: {"label": model.label, **model.options} for model in models}
    return Plan(preset.name, command, device, described, about, tuple(cells))


def _cell(
    preset: Preset,
    data: BenchmarkData,
    model: Model,
    latent_dim: int,
    seed: int,
    options: Mapping[str, Any],
    dataset_key: str | None,
) -> Cell:
    about: dict[str, Any] = {"data": data.name, "model": model.name}
    about["latent_dim"] = None if model.searches else latent_dim
    name = (
        f"{data.name}-{model.name}-seed{seed}"
        if model.searches
        else f"{data.name}-k{latent_dim}-{model.name}-seed{seed}"
    )
    path = place_of(data.path)
    if model.rival is None:
        config = preset.config(model, latent_dim, seed, **options)
        labels = AUTO if data.factors else None
        return Cell(
            name=name,
            data=path,
            config=config,
            dataset_key=dataset_key,
            labels=labels,
            predict=False,
            bootstrap=0,
            options=about,
        )
    epochs = options.get("epochs") or preset.rival_epochs[model.rival]
    about["epochs"] = epochs
    expected = epochs * (FONDUE_TRAININGS if model.searches else 1)
    config = preset.config(model, latent_dim, seed, **{**options, "epochs": expected})
    extra = f"ngvae_tools.workflows.benchmark.rivals:{model.rival.replace('-', '_')}"
    return Cell(name=name, data=path, config=config, dataset_key=dataset_key, train=False, extra=extra, options=about)


def _generated(data: GeneratedData, folder: Path) -> Path:
    path = folder / data.file_name
    if not path.exists():
        write_sprites(
            path, images=data.images, size=data.size, image_set=data.image_set, grid=data.grid, fixed=data.fixed
        )
    return path


def _names(paths: Sequence[Place]) -> list[str]:
    """Names fit for folders, each once."""
    names: list[str] = []
    for path in paths:
        name = base = re.sub(r"[^A-Za-z0-9._-]+", "-", name_of(path)).strip(".-") or "data"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def _described(name: str, path: Place, dataset_key: str | None) -> BenchmarkData:
    with open_dataset(path, dataset_key=dataset_key) as dataset:
        labels = open_labels(AUTO, dataset)
        known = labels is not None and len(labels.index) > 0
        return BenchmarkData(
            name=name,
            path=str(path.resolve()) if isinstance(path, Path) else path,
            fingerprint=dataset.fingerprint(),
            n_images=len(dataset),
            image_shape=dataset.image_shape,
            factors=labels.factors.names if labels is not None and known else (),
            intrinsic=labels.factors.intrinsic_interval() if labels is not None and known else None,
        )


def _fitting(data: BenchmarkData) -> dict[str, Any]:
    """Options for images whose size the networks cannot take."""
    height, width, _ = data.image_shape
    return {} if height % NETWORK_STRIDE == width % NETWORK_STRIDE == 0 else {"resize": "stretch"}
