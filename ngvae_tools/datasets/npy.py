"""Images in an .npy file of NumPy."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Literal

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.arrays import BAD_NPZ, StoredArray, npy_header
from ngvae_tools.datasets.base import ImageShape
from ngvae_tools.datasets.inflating import TruncatedError
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.datasets.sources import Source, source_of
from ngvae_tools.errors import DatasetError

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

MAGIC = b"\x93NUMPY"

_HEAD = 16 * 2**10


class NpyImages(RowImages):
    """The images of an .npy file, (N, H, W) or (N, H, W, C), numbered by row and read where they lie.

    Nothing is unpickled. Several threads read at the same time.

    Args:
        path: The .npy file, or its URL.
        image_shape: See `RowImages`.
        dtype: See `RowImages`.
        resize: See `RowImages`.

    Raises:
        DatasetError: The file cannot be used, ends early, or does not have the expected shape and dtype.
        OptionError: The requested shape, dtype or resizing cannot be used.
    """

    kind: Literal["npy"] = "npy"
    key = "array"
    concurrent = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        image_shape: ImageShape | None = None,
        dtype: npt.DTypeLike | None = None,
        resize: Resize | None = None,
    ) -> None:
        super().__init__(path, image_shape=image_shape, dtype=dtype, resize=resize)
        source = source_of(self.path)
        self._array = _array(source)
        self._settle(self._array.shape, self._array.dtype)
        whole, size = self._array.offset + self._array.row_bytes * len(self), source.size
        if size < whole:
            raise _refusal(source, f"{whole:,} bytes for shape {self._array.shape}", f"{size:,}", "copy the file again")

    def factors(self) -> None:
        """None: the file holds images alone."""

    @property
    def _where(self) -> str:
        return self.location

    def _release(self) -> None:
        pass

    def _read_rows(self, start: int, stop: int) -> tuple[npt.NDArray[Any], dict[int, str]]:
        return self._array.usable_rows(start, stop)


def _array(source: Source) -> StoredArray:
    try:
        stream = io.BytesIO(source.read(0, min(source.size, _HEAD)))
        shape, fortran, dtype = npy_header(stream)
    except (*BAD_NPZ, TruncatedError) as error:
        raise _refusal(source, "an undamaged .npy file", str(error), "check it, or write it again") from error
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) < 0:
        found = f"shape {shape} of {dtype}"
        raise _refusal(source, "numbers, (N, H, W) or (N, H, W, C)", found, "store them with numpy.save")
    if fortran and len(shape) > 1:
        remedy = "store it with numpy.save(path, numpy.ascontiguousarray(images))"
        raise _refusal(source, "an array in C order", "Fortran order", remedy)
    return StoredArray(shape, dtype, source, stream.tell())


def _refusal(source: Source, expected: str, found: str, remedy: str) -> DatasetError:
    return DatasetError(f"{source.location} cannot be read", expected=expected, found=found, remedy=remedy)
