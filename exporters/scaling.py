"""The range of a foreign network's images, and the way from a data set's samples to it and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ngvae_tools.contract import SAMPLE_TYPES, InputScale
from ngvae_tools.errors import ExportError, OptionError

SCALES = {"uint8": InputScale(), "uint16": InputScale(0.0, 65535.0), "float32": InputScale(0.0, 1.0)}
"""What samples of each type become 0 and 1."""

Range = tuple[float, float]
PerChannel = float | Sequence[float]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """images = unit * gain + offset for unit images in [0, 1], both of shape (C,) or (1,)."""

    gain: Array
    offset: Array

    @classmethod
    def of(cls, limits: Range, mean: PerChannel | None, std: PerChannel | None, channels: int | None) -> Scaling:
        """(low + unit (high - low) - mean) / std.

        Args:
            limits: (low, high), what 0 and 1 become before mean and std.
            mean: Subtracted, one for all or one a channel.
            std: Divided by, one for all or one a channel.
            channels: Number C of channels; None if it is not known.

        Raises:
            OptionError: The range is empty, a number is not finite, std is not positive, or there are not as many as
                channels.
        """
        numbers = [
            np.atleast_1d(np.asarray(value, dtype=np.float64))
            for value in (*limits, 0.0 if mean is None else mean, 1.0 if std is None else std)
        ]
        low, high, middle, spread = numbers
        sizes = {number.shape for number in numbers}
        fits = sizes <= {(1,), (channels,)} if channels else all(len(size) == 1 for size in sizes)
        finite = all(np.isfinite(number).all() for number in numbers)
        if not (fits and finite and (low < high).all() and (spread > 0).all()):
            raise OptionError(
                "the range of the network's images cannot be used",
                expected=f"low below high, and mean and positive std for {channels or 'all'} channels or for each",
                found=f"range {limits}, mean {mean}, std {std}",
                remedy="correct them",
            )
        return cls(*np.broadcast_arrays((high - low) / spread, (low - middle) / spread))

    def apply(self, unit: Tensor) -> Tensor:
        """Images (B, C, H, W) in the network's range for images in [0, 1]."""
        gain, offset = (_axis(values) for values in (self.gain, self.offset))
        return unit if self._is_identity else unit * gain + offset

    def invert(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) on the scale where 0 and 1 are the ends of the samples, not clipped."""
        gain, offset = (_axis(values) for values in (self.gain, self.offset))
        return images if self._is_identity else (images - offset) / gain

    def check(self, images: Tensor) -> None:
        """Refuse images outside the range, with room for an interpolation's overshoot.

        Raises:
            ExportError: They hold values that no sample becomes.
        """
        unit = self.invert(images)
        if not (unit.min() >= -0.01 and unit.max() <= 1.01):
            low, high = float(self.offset.min()), float((self.offset + self.gain).max())
            raise ExportError(
                "the example does not lie in the range that was named",
                expected=f"values from {low:g} to {high:g}",
                found=f"values from {images.min():.4g} to {images.max():.4g}",
                remedy="give real images, or name the range with input_range=, mean= and std=",
            )

    @property
    def _is_identity(self) -> bool:
        return bool((self.gain == 1).all() and (self.offset == 0).all())


def samples_of(unit: Tensor, sample_type: str) -> npt.NDArray[np.generic]:
    """Samples (B, H, W, C) of a data set for images (B, C, H, W) in [0, 1]."""
    scale = SCALES[sample_type]
    values = scale.low + (scale.high - scale.low) * unit.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray((values if sample_type == "float32" else np.rint(values)).astype(sample_type))


def check_sample_type(sample_type: str) -> str:
    """The type, if samples can have it.

    Raises:
        OptionError: They cannot.
    """
    if sample_type not in SAMPLE_TYPES:
        raise OptionError(
            "the type of samples is unknown",
            expected=", ".join(SAMPLE_TYPES),
            found=repr(sample_type),
            remedy="name the type of the data set's samples",
        )
    return sample_type


def _axis(values: Array) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).reshape(1, -1, 1, 1)
