"""Latent files to test with."""

from hashlib import sha256
from itertools import pairwise

import numpy as np

from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.header import CHUNK_ROWS, DataSource, LatentOrigin
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.latents.writer import Block, RowsShape, write_latents


def names_of(n, kind="rows"):
    """Identifiers of n images: every third row number, or paths of several lengths, sorted by bytes."""
    if kind == "rows":
        return np.arange(n, dtype=np.int64) * 3
    return np.array(sorted(b"folder/" * (k > CHUNK_ROWS) + b"%d.png" % k for k in range(n)), dtype=np.bytes_)


def origin_of(dim, *, variance=0.01, latent_dim=None, positions=1, **changes):
    """An origin that keeps every second dimension."""
    latent_dim = latent_dim or 2 * dim + 1
    given = {
        "dimensions": tuple(range(1, 2 * dim, 2)),
        "latent_dim": latent_dim,
        "positions": positions,
        "posterior_variance": np.broadcast_to(np.asarray(variance, float), (dim,)).copy(),
        "fill": np.linspace(-1, 1, latent_dim),
        "steps_from": "posterior variance",
        "family": "gaussian",
        "hyperparameters": {"a": 1.5, "b": [0.5] * 3},
        "rule": "variance",
        "threshold": 0.5,
        "encoder_sha256": "e1" * 32,
        "decoder_sha256": None,
        "distortion": 0.01,
        "preprocessing": {"image_shape": [8, 8, 3], "resize": None},
        "sources": (DataSource("/data", "folder", "f0" * 32, 0),),
        "versions": {"ngvae-tools": "0.1.0"},
    }
    return LatentOrigin(**given | changes)


def write(
    path,
    values,
    names=None,
    cuts=(),
    *,
    codec="deflate",
    lossless=False,
    labels=None,
    factors=(),
    classes=(),
    **changes,
):
    """Write values (n, d) in blocks that end at `cuts`; the header."""
    names = names_of(len(values)) if names is None else names
    changes.setdefault("distortion", None if lossless else 0.01)
    positions = changes.get("positions", 1)
    changes.setdefault("sources", (DataSource("/data", "folder", sha256(values.tobytes()).hexdigest(), len(values)),))
    origin = origin_of(values.shape[1] // positions, **changes)
    grid = None
    if not lossless:
        by_position = values.reshape(-1, max(values.shape[1] // positions, 1))[:, : values.shape[1] // positions]
        ends = by_position.min(0, initial=np.inf), by_position.max(0, initial=-np.inf)
        grid = Grid.fit(origin.posterior_variance, *ends, origin.distortion)

    def rows():
        for start, stop in pairwise([0, *sorted(cuts), len(values)]):
            piece = names[start:stop]
            if piece.dtype.kind == "S" and len(piece):
                # As wide as the longest of these alone.
                piece = np.array(piece.tolist(), dtype=np.bytes_)
            yield Block(values[start:stop], piece, None if labels is None else labels[start:stop])

    shape = RowsShape(len(values), names.dtype, factors, classes)
    return write_latents(path, rows, shape, origin, grid=grid, codec=codec)


def read_latents(path):
    """Values (N, d) in float64, identifiers (N,) and dimensions (d,) of a file."""
    with open_latents(path, dtype=np.float64) as file:
        return file.to_numpy(), file.identifiers, file.dimensions


def steps_of(path):
    """The step of each column."""
    with open_latents(path) as file:
        return file.header.coding.step
