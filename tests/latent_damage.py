"""Sound latent files of every kind to damage, and all that is read of one."""

import h5py
import numpy as np
from latent_files import names_of, write

from ngvae_tools.errors import RecordError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.structure import read_structure

KINDS = ("deflate", "wide", "paths", "archive", "lossless")
"""Codes of one byte; of two, with labels; with paths; the archive codec, with labels; float32."""

FACTORS = (("shape", "categorical"), ("hue", "circular"))


def sample(kind, path, n=300):
    """Write a sound file of a kind; its path."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=(n, 3)) * [1, 0.3, 0.05]
    labels = np.stack([rng.integers(0, 4, n), rng.random(n)], axis=1).astype(float)
    options = {
        "deflate": {},
        "wide": {"variance": 1e-5, "labels": labels, "factors": FACTORS},
        "paths": {"names": names_of(n, "paths")},
        "archive": {"codec": "archive", "labels": labels, "factors": FACTORS},
        "lossless": {"lossless": True},
    }[kind]
    write(path, values.astype(np.float32).astype(float) if kind == "lossless" else values, **options)
    return path


def everything(path):
    """All that a reader is told; verified."""
    file = LatentFile(path, dtype=np.float64)
    file.verify()
    header, labels = file.header, file.labels
    arrays = [file.to_numpy(), file.identifiers, header.origin.fill, header.origin.posterior_variance, file.dimensions]
    if labels is not None:
        arrays.append(labels.values)
    return (
        *((array.tobytes(), array.shape, str(array.dtype)) for array in arrays),
        None if labels is None else (labels.names, labels.kinds),
        (header.metadata(), header.codes_sha256, header.n_rows, header.factors),
        (header.origin.family, header.origin.rule, header.origin.threshold, header.origin.encoder_sha256),
    )


def read_or_refuse(path):
    """`everything`, or None where it is refused as it should be."""
    try:
        return everything(path)
    except RecordError:
        return None


def plainly(path):
    """What the lines of the README read with h5py alone."""
    with h5py.File(path) as file:
        latents = file["offset"][:] + file["scale"][:] * file["codes"][:]
        return latents.tobytes(), file["dimensions"][:].tobytes(), file["identifiers"][:].tobytes()


def is_chunk(path):
    """For each byte of a file, whether it is part of packed data; the others describe it, or are unused."""
    structure = read_structure(path)
    found = np.zeros(structure.file.size, bool)
    for array in structure.arrays.values():
        for offset, size in zip(array.offsets.flat, array.sizes.flat, strict=True):
            found[offset : offset + size] = True
    if structure.blocks is not None:
        found[structure.blocks.offset :][: structure.blocks.size] = True
    return found
