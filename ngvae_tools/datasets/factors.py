"""The generative factors that an HDF5 file of images carries as labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ngvae_tools.datasets.slabs import find, open_file

if TYPE_CHECKING:
    import os

    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Factors:
    """The true factors of every image.

    Args:
        names: F names, in the order of the columns.
        values: float64 (N, F).
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]


def read_factors(path: str | os.PathLike[str]) -> Factors | None:
    """Read the dataset `labels`, (N, F) or (N,), of an HDF5 file; None if there are no numeric labels.

    Names come from the attribute `names` of `labels`, else from the file's `factor_names`; where neither
    names every column (as in the 3dshapes file), they are factor 1, factor 2 and so on.

    Raises:
        DatasetError: An HDF5 file is damaged, or its labels lie outside it.
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    with open_file(path) as file:
        labels = find(file, "labels")
        if not isinstance(labels, h5py.Dataset) or labels.ndim not in {1, 2} or labels.dtype.kind not in "biuf":
            return None
        if labels.is_virtual or labels.external:
            return None
        values = np.asarray(labels[()], np.float64).reshape(labels.shape[0], -1)
        names = _names(labels.attrs.get("names")) or _names(file.attrs.get("factor_names"))
    if len(names) != values.shape[1]:
        names = tuple(f"factor {k + 1}" for k in range(values.shape[1]))
    return Factors(names, values)


def _names(attribute: Any) -> tuple[str, ...]:
    if attribute is None:
        return ()
    return tuple(
        name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in np.ravel(attribute)
    )
