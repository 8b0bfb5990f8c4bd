"""The latents of a file as points in the plane."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt

from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.tables import optional
from ngvae_tools.reporting.pictures import Colouring

Method = Literal["pca", "umap"]

POINTS = 2000
"""Images of a map at most."""

NEIGHBOURS = 15
"""Neighbours that UMAP keeps together, its own default."""

Array = npt.NDArray[np.float64]


def umap_points(values: Array) -> Array | None:
    """UMAP (McInnes, Healy and Melville 2018) of n rows (n, d) in units of their columns; None for too few rows.

    Raises:
        MissingDependencyError: umap-learn is not installed.
    """
    if len(values) < 4 or not values.shape[1]:
        return None
    from threadpoolctl import threadpool_limits

    # Numba sets OpenMP's threads for the whole process, on which the bits of a training after it would hang.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Libraries below it warn of their own versions, and it of a seed that costs it threads.
        warnings.simplefilter("ignore")
        umap = optional("umap", extra="umap")
        model = umap.UMAP(
            n_neighbors=min(NEIGHBOURS, len(values) - 1), init="pca", random_state=0, n_jobs=1, transform_seed=0
        )
        found = np.asarray(model.fit_transform(values), np.float64)
    return found if np.isfinite(found).all() else None


def units_of(file: LatentFile) -> str:
    """What each latent of a map is counted in, as `weights_of` has it."""
    of_posterior = file.header.origin.steps_from == "posterior variance"
    return "its posterior's mean standard deviation" if of_posterior else "its own standard deviation"


def colourings(file: LatentFile, labels: Array, values: Array) -> tuple[Colouring, ...]:
    """What points can be coloured by: their labels (m, F), and each kept dimension (m, d)."""
    known = zip(file.header.factors, labels.T, file.header.classes, strict=True)
    return (
        *(Colouring(name, kind == "categorical", column, names or ()) for (name, kind), column, names in known),
        *(Colouring(f"z{k}", False, values[:, at]) for at, k in enumerate(file.header.origin.dimensions)),
    )
