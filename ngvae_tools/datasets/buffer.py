"""The buffer that an image is decoded into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def fitting_buffer(shape: tuple[int, int, int], dtype: np.dtype[Any], out: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """`out` if it has this shape and dtype, lies in one piece and can be written; else a new array."""
    if out is not None and out.shape == shape and out.dtype == dtype:
        flags = out.flags
        if flags.c_contiguous and flags.writeable:
            return out
    return np.empty(shape, dtype)
