"""The generative factors that an HDF5 file of images, or the original dSprites file, carries as labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ngvae_tools.datasets.arrays import npz_array, npz_names
from ngvae_tools.datasets.inflating import TruncatedError
from ngvae_tools.datasets.places import name_of, place_of
from ngvae_tools.datasets.published import DSPRITES, MPI3D, SHAPES3D, Layout, by_position, mpi3d_grid
from ngvae_tools.datasets.slabs import find, open_file
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import KINDS, MOST_CLASSES, ClassNames, Factors, kept_names

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy.typing as npt

    from ngvae_tools.record import FactorKind

MAX_FACTORS = 100
"""Columns of labels that are taken for factors; more are a code of something else."""

NPZ_LABELS = "latents_values"
"""The array of labels in dSprites' .npz file."""

_SHAPES3D_VALUES = (
    *(np.arange(10) / 10,) * 3,
    np.linspace(0.75, 1.25, 8),
    np.arange(4.0),
    np.linspace(-30, 30, 15),
)


def read_factors(path: str | os.PathLike[str], *, rows: int | None = None) -> Factors | None:
    """Read the labels of an HDF5 file, or of dSprites' or MPI3D's .npz file; None if there are none.

    HDF5: the dataset `labels`, (N, F) or (N,), of numbers, truth values or text, or a compound whose fields are the
    factors; else `latents/values` (N, F), as in dSprites' own HDF5 file. Names come from the attribute `names`,
    else from the file's `factor_names`, else from the layout: dSprites by its latents, 3dshapes by its values;
    where nothing names every column, they are factor 1, factor 2 and so on. Kinds come from the attribute
    `kinds`, else from the layout, else they are detected. dSprites numbers classes, so that all of its
    factors are categorical but the orientation, which is circular. MPI3D has no labels: `images` of its number
    and kind are numbered by position.

    .npz: `latents_values`, as in the original dSprites file, or MPI3D; nothing in it is unpickled.

    Args:
        path: The file; an HDF5 file may be a URL.
        rows: How many images the labels shall be of; None: any number.

    Raises:
        DatasetError: The file is damaged, its labels lie outside it or are of another number of images, or a
            declared kind cannot be.
    """
    place = place_of(path)
    path = place if isinstance(place, Path) else Path(name_of(place))
    if isinstance(place, Path):
        if not path.is_file():
            return None
        if path.suffix.lower() == ".npz":
            return _read_npz(path, rows)
        if not h5py.is_hdf5(path):
            return None
    with open_file(place) as file:
        for key in ("labels", "latents/values"):
            labels = find(file, key)
            if isinstance(labels, h5py.Dataset) and not labels.is_virtual and not labels.external:
                names = _names(labels.attrs.get("names")) or _names(file.attrs.get("factor_names"))
                kinds = labels.attrs.get("kinds")
                columns = _columns(path, key, labels, rows)
                if columns is not None:
                    return _factors(path, *columns, names, _names(kinds), dsprites=key != "labels")
        images = find(file, "images")
        if isinstance(images, h5py.Dataset) and (grid := mpi3d_grid(images.shape, images.dtype)) is not None:
            _check_rows(path, math.prod(grid), rows)
            return by_position(MPI3D, grid)
    return None


def codes_of(texts: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Numbers of texts (N,) in the order of the sorted texts, NaN for empty ones, and the names that are kept."""
    distinct, place = np.unique(texts, return_inverse=True)
    empty = int(len(distinct) > 0 and not distinct[0])
    codes = place.astype(np.float64) - empty
    codes[codes < 0] = np.nan
    return codes, kept_names(distinct[empty : empty + MOST_CLASSES + 1].tolist())


def _columns(
    path: Path, key: str, labels: h5py.Dataset, rows: int | None
) -> tuple[npt.NDArray[np.float64], tuple[bool, ...], tuple[ClassNames, ...], tuple[str, ...]] | None:
    """Values (N, F), which columns are text, names of classes, and those of a compound's fields; None: no labels."""
    fields = labels.dtype.names or ()
    width = len(fields) or (labels.shape[1] if labels.ndim == 2 else 1)
    if labels.ndim not in {1, 2} or (fields and labels.ndim != 1) or width == 0:
        return None
    if width > MAX_FACTORS:
        raise DatasetError(
            f"{key!r} in {path} is too wide to be factors",
            expected=f"at most {MAX_FACTORS} columns, one a factor",
            found=f"{width} columns",
            remedy="store the factors alone, or name a CSV file of them with --labels",
        )
    _check_rows(path, labels.shape[0], rows)
    try:
        table = labels[()]
    except (OSError, MemoryError) as error:
        raise _unreadable(path, str(error)) from error
    raw = [table[name] for name in fields] if fields else list(table.reshape(len(table), -1).T)
    values = np.empty((len(table), width))
    text = []
    classes: list[ClassNames] = []
    for k, column in enumerate(raw):
        if column.ndim != 1 or column.dtype.kind not in "biufSO":
            return None
        if column.dtype.kind in "SO":
            words = [item.decode(errors="surrogateescape") if isinstance(item, bytes) else item for item in column]
            if not all(isinstance(word, str) for word in words):
                return None
            values[:, k], names = codes_of(np.array(words, np.str_))
            classes.append(names)
        else:
            values[:, k] = column
            classes.append(None)
        text.append(column.dtype.kind in "SOb")
    return values, tuple(text), tuple(classes), fields


def _factors(
    path: Path,
    values: npt.NDArray[np.float64],
    text: tuple[bool, ...],
    classes: tuple[ClassNames, ...],
    fields: tuple[str, ...],
    names: tuple[str, ...],
    kinds: tuple[str, ...],
    *,
    dsprites: bool,
) -> Factors:
    width = values.shape[1]
    layout: Layout | None = None
    if dsprites and width == len(DSPRITES.names):
        layout = DSPRITES
    elif not any(text) and _is_shapes3d(values):
        layout = SHAPES3D
    if fields:
        names = fields
    elif len(names) != width:
        names = layout.names if layout else tuple(f"factor {k + 1}" for k in range(width))
    declared = _checked_kinds(path, names, kinds, text)
    if layout and not declared and names == layout.names:
        return layout.of(values)
    return Factors.of(names, values, kinds=declared, text=text, classes=classes)


def _checked_kinds(
    path: Path, names: Sequence[str], kinds: tuple[str, ...], text: tuple[bool, ...]
) -> tuple[FactorKind, ...]:
    known = tuple(kind for word in kinds for kind in KINDS if kind == word)
    wrong = len(kinds) not in {0, len(names)} or len(known) != len(kinds)
    if wrong or any(is_text and kind != "categorical" for kind, is_text in zip(known, text, strict=False)):
        raise DatasetError(
            f"the kinds of the labels in {path} cannot be",
            expected=f"{len(names)} words, each categorical, continuous or circular, and categorical for text",
            found=", ".join(kinds),
            remedy="correct the attribute kinds of the labels, or remove it to have the kinds detected",
        )
    return known


def _is_shapes3d(values: npt.NDArray[np.float64]) -> bool:
    if values.shape[1] != len(SHAPES3D.names) or not len(values):
        return False
    for column, grid in zip(values.T, _SHAPES3D_VALUES, strict=True):
        distinct = np.unique(column)
        if len(distinct) > len(grid) or not np.all(np.abs(distinct[:, None] - grid).min(axis=1) < 1e-6):
            return False
    return True


def _read_npz(path: Path, rows: int | None) -> Factors:
    names = npz_names(path)
    if NPZ_LABELS not in names and "images" in names:
        images = npz_array(path, "images")
        if (grid := mpi3d_grid(images.shape, images.dtype)) is not None:
            _check_rows(path, math.prod(grid), rows)
            return by_position(MPI3D, grid)
    labels = npz_array(path, NPZ_LABELS)
    if len(labels.shape) != 2 or not 0 < labels.shape[1] <= MAX_FACTORS or labels.dtype.kind not in "biuf":
        raise _unreadable(path, f"{NPZ_LABELS} of shape {labels.shape} and {labels.dtype}")
    _check_rows(path, labels.shape[0], rows)
    try:
        values = labels.rows(0, labels.shape[0]).astype(np.float64)
    except (TruncatedError, MemoryError) as error:
        raise _unreadable(path, str(error) or type(error).__name__) from error
    return _factors(path, values, (False,) * labels.shape[1], (), (), (), (), dsprites=True)


def _check_rows(path: Path, found: int, rows: int | None) -> None:
    if rows is not None and found != rows:
        raise DatasetError(
            f"the labels in {path} are not of these images",
            expected=f"{rows:,} rows, one an image",
            found=f"{found:,} rows",
            remedy="name the labels of this data set with --labels, or a CSV file keyed by image",
        )


def _unreadable(path: Path, found: str) -> DatasetError:
    return DatasetError(
        f"the labels in {path} cannot be read",
        expected="numbers, one row an image and one column a factor (latents_values in dSprites' .npz file)",
        found=found,
        remedy="check the file, or name another source with --labels",
    )


def _names(attribute: Any) -> tuple[str, ...]:
    if attribute is None:
        return ()
    return tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in np.ravel(attribute)
    )
