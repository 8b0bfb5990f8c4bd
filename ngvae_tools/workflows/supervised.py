"""Supervised metrics: find the labels of a data set's images, then measure their latents."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.disentanglement import Settings, supervised
from ngvae_tools.datasets.base import BY_PATH, ImageDataset
from ngvae_tools.datasets.factors import read_factors
from ngvae_tools.datasets.labels_csv import read_csv_labels
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import Factors, names_left_out
from ngvae_tools.record import Supervised

AUTO = "auto"
"""The labels that lie with the data: those that its files give, or `FOLDER_LABELS` in the folder."""

FOLDER_LABELS = "labels.csv"


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of those images of a data set that have some.

    Attributes:
        source: Where they came from.
        index: Positions in the data set of the M labelled images, ascending, int64 (M,).
        factors: Their factors, (M, F).
        notes: What a reader must know.
    """

    source: str
    index: npt.NDArray[np.int64]
    factors: Factors
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and kind of each factor."""
        return tuple(zip(self.factors.names, self.factors.kinds, strict=True))

    def of(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Values of images by their positions in the data set, (n, F); NaN where an image has no label."""
        row, found = self.rows(index)
        values = np.full((len(index), len(self.factors.names)), np.nan)
        values[found] = self.factors.values[row[found]]
        return values

    def rows(self, index: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Rows of the factors for positions in the data set, (n,), and which of these have one, (n,)."""
        row = np.searchsorted(self.index, index)
        found = row < len(self.index)
        found[found] = self.index[row[found]] == index[found]
        return row, found


def open_labels(labels: str | os.PathLike[str], dataset: ImageDataset) -> Labels | None:
    """Read labels and match them with a data set's images, before anything expensive.

    Args:
        labels: `auto`, or a file: HDF5 or dSprites' .npz with a row for every image of an HDF5 file, or a CSV
            file, see `ngvae_tools.datasets.labels_csv`.
        dataset: The images.

    Returns:
        None: there are none beside the data, with `auto`. Where there are some with `auto` that cannot be used,
        labels of no image with a note that says why.

    Raises:
        DatasetError: A file that was named cannot be read or does not belong to these images.
    """
    if os.fspath(labels) != AUTO:
        return _read(Path(labels), dataset)
    source = str(dataset.path) if isinstance(dataset.path, Path) else dataset.location
    try:
        if dataset.kind in BY_PATH:
            beside = None if isinstance(dataset.path, str) else dataset.path / FOLDER_LABELS
            if beside is None or not beside.is_file():
                return None
            source = str(beside)
            return _read(beside, dataset)
        factors = dataset.factors()
        return None if factors is None else _by_row(source, factors)
    except DatasetError as error:
        nothing = Factors((), np.empty((0, 0)), (), (), ())
        return Labels(source, np.empty(0, np.int64), nothing, (f"The labels beside the data are not used: {error}",))


def measure_supervised(
    labels: Labels,
    index: npt.NDArray[np.int64],
    mu: npt.NDArray[np.floating],
    *,
    settings: Settings | None = None,
    seed: int = 0,
) -> Supervised:
    """Supervised metrics of a sample of images; those without a label are left out and counted.

    Args:
        labels: Of `open_labels`.
        index: Positions of the sample's images in the data set, (n,).
        mu: Their posterior means, (n, K).
        settings: The definitions' own numbers by default.
        seed: Of every draw.
    """
    row, found = labels.rows(index)
    result = supervised(mu[found], labels.factors.take(row[found]), source=labels.source, settings=settings, seed=seed)
    notes = labels.notes
    if unlabelled := int(np.sum(~found)) if len(labels.index) else 0:
        notes += (f"{unlabelled:,} of the {len(index):,} images in the sample have no label and are left out.",)
    return dataclasses.replace(result, notes=notes + result.notes)


def _read(path: Path, dataset: ImageDataset) -> Labels:
    try:
        with path.open("rb"):
            by_row = path.suffix.lower() == ".npz" or h5py.is_hdf5(path)
    except OSError as error:
        raise _refusal(path, "a file that can be read", str(error.strerror)) from error
    if not by_row:
        read = read_csv_labels(path, dataset)
        lost = (f"{read.n_unmatched:,} labels in {path.name} belong to no image.",) if read.n_unmatched else ()
        return Labels(str(path), read.index, read.factors, (*lost, *_unnamed(read.factors)))
    if dataset.kind in BY_PATH:
        raise _refusal(path, "a CSV file keyed by path for a folder of images", "labels by row number")
    factors = read_factors(path, rows=len(dataset))
    if factors is None:
        raise _refusal(path, "a dataset labels, (N, F) or (N,) of numbers or text, or latents/values", "neither")
    return _by_row(str(path), factors)


def _by_row(source: str, factors: Factors) -> Labels:
    return Labels(source, np.arange(len(factors.values), dtype=np.int64), factors, _unnamed(factors))


def _unnamed(factors: Factors) -> tuple[str, ...]:
    """A sentence for each factor of text whose classes are too many to be called by name."""
    columns = zip(factors.names, factors.classes, factors.values.T, strict=True)
    return tuple(
        names_left_out(name) for name, classes, values in columns if classes == () and np.isfinite(values).any()
    )


def _refusal(path: Path, expected: str, found: str) -> DatasetError:
    return DatasetError(
        f"{path} holds no labels of these images",
        expected=expected,
        found=found,
        remedy="name another file with --labels",
    )
