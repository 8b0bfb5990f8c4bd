"""Mutual information between dimensions and factors, and what is made of it: MIG and modularity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def equal_width_bins(mu: Array, bins: int) -> Integers:
    """Bins of equal width between the smallest and the largest value of each dimension, (n, K)."""
    codes = np.zeros(mu.shape, np.int64)
    for k in range(mu.shape[1]):
        edges = np.linspace(mu[:, k].min(), mu[:, k].max(), bins + 1)
        if edges[0] < edges[-1]:
            codes[:, k] = np.digitize(mu[:, k], edges[1:-1])
    return codes


def information_table(latent: Integers, factor: Integers) -> Array:
    """Mutual information of every pair of columns in nats, (F, K), from counts without a correction.

    The estimate exceeds the truth by about (a - 1)(b - 1) / (2 n) for a and b classes that occur.

    Args:
        latent: Classes (n, K), from 0.
        factor: Classes (n, F), from 0.
    """
    table = [[_information(code, other) for other in latent.T] for code in factor.T]
    return np.array(table, np.float64).reshape(factor.shape[1], latent.shape[1])


def entropies(codes: Integers) -> Array:
    """Entropy of each column of classes in nats, (F,)."""
    shares = (np.bincount(code) / len(code) for code in codes.T)
    return np.array([-sum(p * np.log(p) for p in share[share > 0]) for share in shares])


def excess(latent: Integers, factor: Integers) -> float:
    """The largest amount in nats by which `information_table` exceeds the truth, roughly."""
    most = [max(len(np.unique(code)) for code in codes.T) - 1 for codes in (latent, factor)]
    return most[0] * most[1] / (2 * len(latent))


def mig(table: Array, entropy: Array) -> float:
    """Mutual information gap (Chen et al. 2018): mean over factors of (I1 - I2) / H; I2 = 0 with one dimension.

    Args:
        table: `information_table`, (F, K).
        entropy: `entropies` of the factors, (F,), positive.
    """
    ranked = np.sort(np.pad(table, ((0, 0), (1, 0))), axis=1)
    return float(np.mean((ranked[:, -1] - ranked[:, -2]) / entropy))


def modularity(table: Array) -> float:
    """Modularity (Ridgeway and Mozer 2018): mean over dimensions of 1 - sum of I^2 of the others / ((F - 1) I1^2).

    A dimension without any information counts 0, as in the reference.

    Args:
        table: `information_table`, (F, K) with at least two factors.
    """
    squares = table**2
    most = squares.max(axis=0)
    rest = (squares.sum(axis=0) - most) / (len(table) - 1)
    informed = most > 0
    return float(np.sum(1 - rest[informed] / most[informed]) / table.shape[1])


def _information(one: Integers, other: Integers) -> float:
    width = int(other.max()) + 1
    counts = np.bincount(one * width + other, minlength=(int(one.max()) + 1) * width).reshape(-1, width)
    joint = counts / len(one)
    rows, columns = np.nonzero(joint)
    share = joint[rows, columns]
    expected = joint.sum(axis=1)[rows] * joint.sum(axis=0)[columns]
    return max(float(np.sum(share * np.log(share / expected))), 0.0)
