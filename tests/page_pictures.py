"""Builders of pictures that look like those gathered from a decoder and a data set, for tests of the page."""

from __future__ import annotations

import numpy as np

from ngvae_tools.reporting.pictures import Colouring, Extremes, LatentMap, Pictures, Reconstructed, Traversal


def pictures(record, *, side=32, channels=3, frames=9, points=300, name="sprites/", notes=()):
    """Pictures of every informative dimension of a record and of two others: a disc that moves, or does not."""
    informative = [row.index for row in record.dimensions if row.informative]
    others = [row.index for row in record.dimensions if not row.informative][:2]
    random = np.random.default_rng(0)
    values = tuple(np.linspace(-2.5, 2.5, frames).tolist())
    latents = random.normal(size=(points, 2)) * (1.6, 1.0)
    names = [f"{name}{i:04d}.png" for i in range(points)]
    extremes = []
    for k in informative:
        low, high = np.sort(random.normal(-2, 0.1, 4)), np.sort(random.normal(2, 0.1, 4))
        extremes.append(
            Extremes(
                k,
                tuple(names[:4]),
                tuple(low.tolist()),
                discs(low, k, side, channels),
                tuple(names[4:8]),
                tuple(high.tolist()),
                discs(high, k, side, channels),
            )
        )
    originals = discs(latents[:12, 0], 1, side, channels)
    return Pictures(
        traversals=(
            *(traversal(k, True, values, side, channels) for k in informative),
            *(traversal(k, False, values, side, channels) for k in others),
        ),
        base=names[0],
        ranges="From end to end.",
        reconstructed=Reconstructed(
            tuple(names[:12]), originals, (originals * 0.95).astype(np.uint8), tuple([0.001] * 12)
        ),
        extremes=tuple(extremes),
        map=LatentMap(
            "PCA",
            "its posterior's mean standard deviation",
            latents,
            (0.41, 0.22),
            tuple(names),
            discs(latents[:, 0], 2, min(side, 24), channels),
            (
                Colouring("shape", True, random.integers(0, 3, points).astype(float), ("<b>round", "long", "disc")),
                Colouring("depth", False, np.where(random.random(points) < 0.1, np.nan, latents[:, 1])),
                Colouring("z3", False, latents[:, 0]),
            ),
            20 * points,
        ),
        decoder="run/decoder.onnx",
        data="sprites.h5",
        notes=tuple(notes),
    )


def traversal(k, informative, values, side, channels):
    moved = np.asarray(values) if informative else np.zeros(len(values))
    frames = discs(moved, k, side, channels)
    change = np.sqrt(((frames / 255 - frames[len(values) // 2] / 255) ** 2).mean(axis=(1, 2, 3)))
    return Traversal(k, informative, values, frames, tuple(change.tolist()))


def discs(values, k, side, channels):
    """A disc a value, whose place, size or colour the value decides; shape (n, side, side, channels)."""
    values = np.asarray(values, np.float64)[:, None, None]
    y, x = np.mgrid[:side, :side] / side
    centre = 0.5 + 0.12 * values * (k % 3 == 0)
    radius = 0.2 + 0.06 * values * (k % 3 == 1)
    tone = 0.6 + 0.15 * values * (k % 3 == 2)
    inside = (x - centre) ** 2 + (y - 0.5) ** 2 < radius**2
    colour = np.linspace(1, 0.4, channels)
    images = np.where(inside[..., None], (tone * np.ones_like(inside))[..., None] * colour, 0.08)
    return (255 * images.clip(0, 1)).astype(np.uint8)
