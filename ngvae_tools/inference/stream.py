"""Streaming a data set through an encoder in blocks, a bounded window in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LOGVAR, P
from ngvae_tools.datasets import ImageDataset, Rejection, Samples
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.providers import available_cpus
from ngvae_tools.inference.session import EncoderSession, Heads

Index = npt.NDArray[np.int64]

READ_BYTES = 16 * 2**20
"""Samples that one read holds at most."""

READS_AHEAD = 2


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """The heads of a block of consecutive indices.

    Attributes:
        index: Indices of the images that could be encoded, shape (n,).
        heads: Their heads, each (n * P, K) for P positions of an image, those of one image consecutive.
        rejected: The others.
        size: Number of indices in the block, n + len(rejected).
    """

    index: Index
    heads: Heads
    rejected: tuple[Rejection, ...]
    size: int


def encode_blocks(
    dataset: ImageDataset, session: EncoderSession, *, block: int, batch_size: int
) -> Generator[EncodedBlock]:
    """Read, encode and yield blocks in order of index; reading runs ahead of encoding in threads.

    Args:
        dataset: What to encode.
        session: The encoder.
        block: Indices of one block; the last may be shorter.
        batch_size: Images of one run of the encoder.

    Raises:
        ContractError: The encoder's outputs do not fit the contract.
    """
    ranges = _ranges(dataset, block)
    parts: list[tuple[Index, Heads]] = []
    rejected: list[Rejection] = []
    with ThreadPoolExecutor(available_cpus(), thread_name_prefix="read") as pool:
        window: deque[tuple[int, Future[tuple[Samples, list[Rejection]]]]] = deque()
        try:
            while ranges or window:
                while ranges and len(window) <= READS_AHEAD:
                    start, stop = ranges.popleft()
                    window.append((stop, pool.submit(dataset.read, start, stop)))
                end, read = window.popleft()
                samples, bad = read.result()
                index, heads, unfit = _encode(dataset, session, samples, batch_size)
                parts.append((index, heads))
                rejected += [*bad, *unfit]
                if end % block == 0 or end == len(dataset):
                    yield _joined(parts, rejected)
                    parts, rejected = [], []
        finally:
            for _, read in window:
                read.cancel()


def _ranges(dataset: ImageDataset, block: int) -> deque[tuple[int, int]]:
    """Ranges to read at once: whole blocks, or an even part of one where images are large."""
    size = int(np.prod(dataset.image_shape)) * dataset.dtype.itemsize
    length = block
    while length % 2 == 0 and length * size > READ_BYTES:
        length //= 2
    return deque((start, min(start + length, len(dataset))) for start in range(0, len(dataset), length))


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
    reason = "the encoder returned values that are not finite"
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


def _joined(parts: list[tuple[Index, Heads]], rejected: list[Rejection]) -> EncodedBlock:
    index = np.concatenate([index for index, _ in parts])
    heads = _concatenate([heads for _, heads in parts])
    return EncodedBlock(index, heads, tuple(sorted(rejected, key=lambda r: r.index)), len(index) + len(rejected))


def _concatenate(heads: list[Heads]) -> Heads:
    second = [h.second for h in heads if h.second is not None]
    return Heads(np.concatenate([h.mu for h in heads]), np.concatenate(second) if second else None)
