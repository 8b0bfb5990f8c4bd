"""The filters of an HDF5 chunk, undone without HDF5's lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import h5py
import imagecodecs
import numpy as np

from ngvae_tools.datasets.inflating import MAX_RATIO

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = (
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
)
_COMPRESSORS = {_DEFLATE, _LZF}
_CHECKSUM_BYTES = 4


class DamagedChunkError(Exception):
    """A chunk that does not hold what it should; its text continues "chunk ...": "ends early"."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a dataset in the order they were applied in: shuffle, gzip or lzf, and fletcher32.

    Attributes:
        stages: HDF5's number of each filter, and the element size of a shuffle (0 for the others).
    """

    stages: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, plan: Any) -> Self | None:
        """Those of a dataset's creation properties; None: some that are left to HDF5."""
        stages = []
        for number in range(plan.get_nfilters()):
            code, _, values, _ = plan.get_filter(number)
            if code not in {*_COMPRESSORS, _SHUFFLE, _FLETCHER32} or (code == _SHUFFLE and not values):
                return None
            stages.append((int(code), int(values[0]) if code == _SHUFFLE else 0))
        # The size between two compressors is nowhere written down.
        return cls(tuple(stages)) if sum(code in _COMPRESSORS for code, _ in stages) <= 1 else None

    @property
    def compressed(self) -> bool:
        """Whether chunks are smaller in the file than in memory."""
        return any(code in _COMPRESSORS for code, _ in self.stages)

    def decode(self, raw: bytes, mask: int, out: Bytes) -> None:
        """Undo the filters of one chunk.

        Args:
            raw: The chunk as it lies in the file.
            mask: Bit k: filter k was left out for this chunk.
            out: Where its bytes go, contiguous; its length is the chunk's.

        Raises:
            DamagedChunkError: A checksum does not fit, or it does not decode to as many bytes.
        """
        data = np.frombuffer(raw, np.uint8)
        applied = [stage for bit, stage in enumerate(self.stages) if not mask >> bit & 1]
        for number, (code, element) in reversed(list(enumerate(applied))):
            if code == _FLETCHER32:
                data = _checked(data)
            elif code == _SHUFFLE:
                data = _unshuffled(data, element)
            else:
                checksums = sum(earlier == _FLETCHER32 for earlier, _ in applied[:number])
                size = out.nbytes + _CHECKSUM_BYTES * checksums
                data = _decompressed(code, data, out if number == 0 else np.empty(size, np.uint8))
        if data.nbytes != out.nbytes:
            raise DamagedChunkError(f"holds {data.nbytes:,} bytes instead of {out.nbytes:,}")
        if data is not out:
            out[...] = data

    def check(self, raw: bytes, mask: int, size: int) -> None:
        """Raise `DamagedChunkError` if no chunk of `size` bytes can come out; nothing is decoded."""
        applied = [code for bit, (code, _) in enumerate(self.stages) if not mask >> bit & 1]
        if any(code in _COMPRESSORS for code in applied):
            fits = size <= MAX_RATIO * len(raw)
        else:
            fits = len(raw) == size + _CHECKSUM_BYTES * applied.count(_FLETCHER32)
        if not fits:
            raise DamagedChunkError(f"has {len(raw):,} bytes, which cannot hold {size:,}")


def _decompressed(code: int, data: Any, out: Any) -> Bytes:
    # imagecodecs takes arrays; its annotations name bytes.
    try:
        if code == _DEFLATE:
            done = imagecodecs.deflate_decode(data, out=out)
        else:
            done = imagecodecs.lzf_decode(data, header=False, out=out)
    except (RuntimeError, ValueError) as error:
        raise DamagedChunkError(f"cannot be decompressed to {out.nbytes:,} bytes") from error
    if len(done) != len(out):
        raise DamagedChunkError(f"decompresses to {len(done):,} bytes instead of {len(out):,}")
    return np.asarray(out)


def _unshuffled(data: Bytes, element: int) -> Bytes:
    count = len(data) // element if element > 1 else 0
    if count <= 1:
        return data
    out = np.empty(len(data), np.uint8)
    whole = count * element
    out[:whole].reshape(count, element)[...] = data[:whole].reshape(element, count).T
    out[whole:] = data[whole:]
    return out


def _checked(data: Bytes) -> Bytes:
    if len(data) <= _CHECKSUM_BYTES:
        raise DamagedChunkError("has no checksum")
    content: Any = data[:-_CHECKSUM_BYTES]
    tail = data[-_CHECKSUM_BYTES:].tobytes()
    found = int(imagecodecs.h5checksum_fletcher32(content)).to_bytes(4, "little")
    # HDF5 before 1.6.3 swapped the bytes of each half.
    if tail not in {found, bytes((found[1], found[0], found[3], found[2]))}:
        raise DamagedChunkError("has another checksum than its bytes")
    return np.asarray(content)
