"""What every image data set offers: numbered images of one shape and dtype, read in ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias, get_args

import numpy as np

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.places import Place
from ngvae_tools.errors import OptionError
from ngvae_tools.factors import Factors

if TYPE_CHECKING:
    import numpy.typing as npt

ImageShape: TypeAlias = tuple[int, int, int]
"""Height, width, channels."""

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
"""The dtypes a sample may have."""

NON_FINITE = "holds non-finite values"
"""The reason of a rejected float image with NaN or infinity."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The usable images of a range, in ascending order of index.

    Args:
        index: int64[B], the position of each image in its data set.
        images: [B, H, W, C] in the data set's own dtype (uint8, uint16 or float32).
    """

    index: npt.NDArray[np.int64]
    images: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One image that cannot be used.

    Args:
        index: Its position in the data set.
        identifier: Folder, tar: the relative path with "/", undecodable bytes as surrogate escapes. Others: the row.
        reason: What is wrong with it, as a sentence fragment that follows the identifier: the same words for the same
            fault, then ": " and what is particular to this image, then "; " and advice.
    """

    index: int
    identifier: str
    reason: str


Kind: TypeAlias = Literal["folder", "tar", "hdf5", "npz", "npy", "zarr", "parquet", "arrow", "cars3d", "smallnorb"]
"""Where images are kept."""

BY_PATH: frozenset[Kind] = frozenset({"folder", "tar"})
"""Kinds whose images are known by their relative path; all others' are known by their row."""


class ImageDataset(Protocol):
    """Numbered images of one shape and dtype; `read` may be called from several threads."""

    @property
    def kind(self) -> Kind:
        """Where the images are kept."""

    @property
    def path(self) -> Place:
        """The folder or file; a URL as text."""

    @property
    def location(self) -> str:
        """`path` as it may be written down: absolute, or the URL less its password and query."""

    @property
    def image_shape(self) -> ImageShape:
        """(H, W, C) of every sample, after any resizing. Raises `DatasetError` if no image is readable."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The samples' dtype: uint8, uint16 or float32. Raises `DatasetError` if no image is readable."""

    @property
    def shape_from(self) -> str | None:
        """Identifier of the image whose shape and dtype all must have; None: they were asked for, or the file's own."""

    @property
    def resize(self) -> Resize | None:
        """How images of another size are brought to `image_shape`; None: they are rejected."""

    @property
    def chunk_rows(self) -> int:
        """Images that are read together at least: whoever wants one costs all of them."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one image as it is read, before any resizing of stored rows."""

    @property
    def preferred_rows(self) -> int:
        """A range that begins and ends at multiples of it reads nothing twice."""

    def layout_advice(self) -> str | None:
        """A sentence for users whose data are slow to read, and how to write them again; None: they are not."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> tuple[Samples, list[Rejection]]:
        """The usable and the rejected images with start <= index < stop; together they are stop - start.

        Raises:
            IndexError: The range does not lie within the data set.
            DatasetError: No image of the whole data set is readable.
        """

    def identifiers(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Identifiers of a range: relative paths as bytes 'S' (`BY_PATH`) or row numbers as int64 (others).

        Raises:
            IndexError: The range does not lie within the data set.
        """

    def fingerprint(self) -> str:
        """SHA-256 in hexadecimal that identifies the data, wherever they lie."""

    def factors(self) -> Factors | None:
        """The factors that the data give of themselves, a row an image; None: none. Raises `DatasetError`."""

    def close(self) -> None:
        """Release open files; reading again opens them again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def evenly_spaced(length: int, count: int) -> list[int]:
    """Up to `count` distinct indices below `length`, the first and the last among them, ascending."""
    if length <= count:
        return list(range(length))
    return [int(index) for index in np.linspace(0, length - 1, count).round()]


def check_range(start: int, stop: int, length: int) -> None:
    """Raise `IndexError` unless 0 <= start <= stop <= length."""
    if not 0 <= start <= stop <= length:
        raise IndexError(f"range {start}:{stop} does not lie within 0:{length}")


def describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """An image's shape (H, W, C) and dtype in words."""
    height, width, channels = shape
    return f"height {height}, width {width}, {channels_text(channels)}, {dtype.name}"


def channels_text(channels: int) -> str:
    """`1 channel`, `3 channels`."""
    return f"{channels} channel{'s' if channels > 1 else ''}"


def advice_on_dtype(expected: np.dtype[Any], found: np.dtype[Any]) -> str:
    """How to bring samples and an encoder of another type together."""
    return (
        f"store the images as {expected.name}, or export the encoder for them: ngvae_tools' exporters take "
        f"sample_type='{found.name}'"
    )


def check_request(
    image_shape: ImageShape | None, dtype: npt.DTypeLike | None, resize: str | None
) -> np.dtype[Any] | None:
    """Check what a caller asks of a data set; returns the expected dtype, if one was given.

    Raises:
        OptionError: The shape, the dtype or the way to resize is none that can be used.
    """
    if resize is not None and resize not in get_args(Resize):
        raise OptionError(
            "unknown way to resize",
            expected="stretch, crop or pad",
            found=repr(resize),
            remedy="pass one of the three with --resize",
        )
    if image_shape is None and resize is not None:
        raise OptionError(
            f"resize {resize!r} has no target",
            expected="an image shape (height, width, channels)",
            found="none",
            remedy="give the size that images shall have",
        )
    if image_shape is not None and (len(image_shape) != 3 or min(image_shape) < 1):
        raise OptionError(
            "the image shape cannot be used",
            expected="three positive numbers (height, width, channels)",
            found=str(image_shape),
            remedy="correct the shape",
        )
    if dtype is None:
        return None
    expected = np.dtype(dtype).newbyteorder("=")
    if expected not in DTYPES:
        raise OptionError(
            "the sample dtype cannot be used",
            expected="uint8, uint16 or float32",
            found=expected.name,
            remedy="ask for one of the three",
        )
    return expected
