"""Reading and encoding a range of a data set."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LOGVAR, P
from ngvae_tools.datasets import ImageDataset, Rejection, Samples
from ngvae_tools.datasets.footprint import Footprint, footprint_of
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.session import EncoderSession, Heads

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EncodedRange:
    """The heads of consecutive indices.

    Attributes:
        index: Indices of the images that could be encoded, shape (n,).
        heads: Their heads, each (n * P, K) for P positions of an image, those of one image consecutive.
        rejected: The others, by index.
        size: Number of indices in the range, n + len(rejected).
        footprint: What those of its images that belong to a sample take as PNG and JPEG.
    """

    index: Index
    heads: Heads
    rejected: tuple[Rejection, ...]
    size: int
    footprint: Footprint


def encode_range(
    dataset: ImageDataset, session: EncoderSession, start: int, stop: int, *, batch_size: int
) -> EncodedRange:
    """Read and encode the images with start <= index < stop.

    Args:
        dataset: Where they lie.
        session: The encoder.
        start: The first index.
        stop: One more than the last.
        batch_size: Images of one run of the encoder.

    Raises:
        ContractError: The encoder's outputs do not fit the contract.
    """
    samples, bad = dataset.read(start, stop)
    index, heads, unfit = _encode(dataset, session, samples, batch_size)
    rejected = sorted([*bad, *unfit], key=lambda rejection: rejection.index)
    return EncodedRange(index, heads, tuple(rejected), stop - start, footprint_of(samples, len(dataset)))


def joined(ranges: list[EncodedRange]) -> EncodedRange:
    """Ranges that follow each other, as one."""
    return EncodedRange(
        np.concatenate([part.index for part in ranges]),
        _concatenate([part.heads for part in ranges]),
        tuple(rejection for part in ranges for rejection in part.rejected),
        sum(part.size for part in ranges),
        sum((part.footprint for part in ranges), Footprint()),
    )


def _encode(
    dataset: ImageDataset, session: EncoderSession, samples: Samples, batch_size: int
) -> tuple[Index, Heads, list[Rejection]]:
    starts = range(0, len(samples.index), batch_size)
    parts = [session.encode(samples.images[start : start + batch_size]) for start in starts]
    heads = _concatenate(parts or [session.encode(samples.images)])
    finite = np.isfinite(heads.mu).all(axis=1)
    if heads.second is not None:
        finite &= np.isfinite(heads.second).all(axis=1)
        if session.second_head == LOGVAR:
            with np.errstate(over="ignore"):
                # In float32: what overflows there, a variance above 1e38, would overflow later in squares.
                finite &= np.isfinite(np.exp(heads.second)).all(axis=1)
    # An image is whole or rejected, whatever its number of positions.
    whole = finite.reshape(-1, session.positions).all(axis=1)
    rows = np.repeat(whole, session.positions)
    fitting = Heads(heads.mu[rows], None if heads.second is None else heads.second[rows])
    if session.second_head == P and fitting.second is not None:
        _check_p(session, fitting.second)
    reason = "makes the encoder return values that are not finite"
    unfit = [Rejection(int(i), identifier_of(dataset, int(i)), reason) for i in samples.index[~whole]]
    return samples.index[whole], fitting, unfit


def _check_p(session: EncoderSession, p: npt.NDArray[np.float32]) -> None:
    if ((p < 0) | (p > 1)).any():
        raise ContractError(
            f"{session.path} cannot be used as an encoder",
            expected="p between 0 and 1",
            found=f"values from {p.min():.3g} to {p.max():.3g}",
            remedy="name another head with --p, or put the sigmoid into the graph",
        )


def identifier_of(dataset: ImageDataset, index: int) -> str:
    """The identifier of one image as text, undecodable bytes as surrogate escapes."""
    name = dataset.identifiers(index, index + 1)[0]
    return os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _concatenate(heads: list[Heads]) -> Heads:
    second = [h.second for h in heads if h.second is not None]
    return Heads(np.concatenate([h.mu for h in heads]), np.concatenate(second) if second else None)
