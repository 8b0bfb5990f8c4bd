"""Cutting a data set into shards, and what one shard gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.survey import Survey, SurveyPart
from ngvae_tools.datasets import ImageDataset, Rejection
from ngvae_tools.datasets.footprint import Footprint
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.stream import EncodedRange, encode_range, joined

MOST_BLOCKS = 16
"""Blocks of 1,024 images in a shard at most."""

MOST_TOGETHER = 64
"""The same, where images are stored in chunks of so many."""

SHARDS = 8
"""Shards that a data set is cut into at least, if it has as many blocks: a kill costs what is unfinished of them."""

SHARD_BYTES = 64 * 2**20
"""Heads that a shard holds in memory at most, if one block takes less."""

PIECE = 256
"""Images that a worker takes at once: enough that taking costs nothing, few enough that all end together."""

PIECE_BYTES = 16 * 2**20
"""Samples that a piece holds at most."""

VALUE_BYTES = 4
"""Bytes of one value of a head, float32."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive images whose result is kept in one file.

    Attributes:
        number: Its place among the shards, from 0.
        start: Index of its first image; a multiple of `BLOCK`.
        stop: One more than that of its last.
    """

    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """How a data set is cut; it depends on the data and the encoder alone, never on who does the work.

    Attributes:
        n_images: Images of the data set.
        blocks: Blocks in a shard, a power of two: a shard is then one node of `analysis.tree`.
        piece: Images that are read and encoded at once; it divides `BLOCK`.
    """

    n_images: int
    blocks: int
    piece: int

    @classmethod
    def of(cls, n_images: int, *, image_bytes: int, values: int, rows: int = 1) -> ShardPlan:
        """The plan for so many images.

        Args:
            n_images: Images of the data set.
            image_bytes: Bytes of one sample.
            values: Numbers that the encoder gives for one image.
            rows: Images that are read together: shards hold as many at least, where that is not too many.
        """
        wanted = min(MOST_BLOCKS, n_images // BLOCK // SHARDS)
        together = min(-(-rows // BLOCK), MOST_TOGETHER)
        wanted = max(wanted, 1 << (together - 1).bit_length())
        wanted = min(wanted, SHARD_BYTES // (BLOCK * values * VALUE_BYTES))
        piece = PIECE
        while piece > 1 and piece * image_bytes > PIECE_BYTES:
            piece //= 2
        return cls(n_images, 1 << max(wanted.bit_length() - 1, 0), piece)

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return -(-self.n_images // (self.blocks * BLOCK))

    def shard(self, number: int) -> Shard:
        """Shard `number`."""
        size = self.blocks * BLOCK
        return Shard(number, number * size, min((number + 1) * size, self.n_images))

    def part(self, number: int, of: int) -> range:
        """The shards of part `number`, from 1, of `of` parts that are as even as they can be."""
        return range(self.n_shards * (number - 1) // of, self.n_shards * number // of)

    def pieces(self, shard: Shard) -> list[tuple[int, int]]:
        """The ranges that a shard is read and encoded in."""
        starts = range(shard.start, shard.stop, self.piece)
        return [(start, min(start + self.piece, shard.stop)) for start in starts]


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """What decides the result of a shard besides data and encoder.

    Attributes:
        batch_size: Images of one run of the encoder.
        replicates: Bootstrap replicates.
    """

    batch_size: int
    replicates: int


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a shard gives; P positions of an image with K dimensions each.

    Attributes:
        shard: Which one.
        index: Indices of the images that could be encoded, shape (n,).
        mu: Their posterior means, float32, shape (n, P K).
        identifiers: Their names as bytes, shape (n,); None where the index is the name.
        rejected: The other images, by index.
        part: What the survey collected.
        footprint: What a sample of the images takes as PNG and JPEG.
    """

    shard: Shard
    index: npt.NDArray[np.int64]
    mu: npt.NDArray[np.float32]
    identifiers: npt.NDArray[np.bytes_] | None
    rejected: tuple[Rejection, ...]
    part: SurveyPart
    footprint: Footprint


def run_shard(
    dataset: ImageDataset, session: EncoderSession, plan: ShardPlan, shard: Shard, settings: ShardSettings
) -> ShardResult:
    """Read, encode and survey one shard, piece by piece.

    Raises:
        ContractError: The encoder's outputs do not fit the contract.
    """
    pieces = [
        encode_range(dataset, session, start, stop, batch_size=settings.batch_size)
        for start, stop in plan.pieces(shard)
    ]
    return surveyed(dataset, session, plan, shard, settings, pieces)


def surveyed(
    dataset: ImageDataset,
    session: EncoderSession,
    plan: ShardPlan,
    shard: Shard,
    settings: ShardSettings,
    pieces: list[EncodedRange],
) -> ShardResult:
    """The result of a shard from its pieces, in order."""
    survey = Survey(
        session.family,
        session.latent_dim,
        positions=session.positions,
        replicates=settings.replicates,
        n_images=plan.n_images,
    )
    whole = joined(pieces)
    for block, images in _blocks(shard, whole.index):
        if images.start == images.stop:
            survey.add_empty(block)
            continue
        rows = slice(images.start * session.positions, images.stop * session.positions)
        second = whole.heads.second
        survey.add(whole.index[images], whole.heads.mu[rows], None if second is None else second[rows])
    return ShardResult(
        shard,
        whole.index,
        whole.heads.mu.reshape(len(whole.index), session.positions * session.latent_dim),
        _names(dataset, shard, whole.index),
        whole.rejected,
        survey.part(),
        whole.footprint,
    )


def _blocks(shard: Shard, index: npt.NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Each block's number and the places of its images."""
    for start in range(shard.start, shard.stop, BLOCK):
        first, last = np.searchsorted(index, [start, start + BLOCK])
        yield start // BLOCK, slice(int(first), int(last))


def _names(dataset: ImageDataset, shard: Shard, index: npt.NDArray[np.int64]) -> npt.NDArray[np.bytes_] | None:
    names: npt.NDArray[Any] = dataset.identifiers(shard.start, shard.stop)
    if names.dtype.kind != "S":
        return None
    # As wide as the longest of these alone, so that it does not depend on how the data set is cut.
    return np.array(names[index - shard.start].tolist(), dtype=np.bytes_)
