"""The images of some rows of a latent file, read once and made small, and what the decoder makes of a few of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.errors import ContractError, DatasetError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.reporting.words import plain
from ngvae_tools.workflows.decoding import Decoding
from ngvae_tools.workflows.originals import Originals
from ngvae_tools.workflows.thumbnails import Bytes, said_of_channels, scaled, small, small_shape

FRAME = 128
THUMBNAIL = 32
"""Pixels of the longer side at most: of images, and of those of a map."""

GREY = 127
"""Value of what stands for an image of a map that cannot be read."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Beside:
    """An original and what the decoder makes of its latents, made small, and the mean squared error before that."""

    original: Bytes
    decoded: Bytes
    error: float


class ShownImages:
    """Reads every image once that is shown anywhere.

    Args:
        file: The latent file.
        thumbnails: Rows of the map, ascending, shape (m,).
        beside: Rows whose images are shown beside what the decoder makes of them, ascending.
        decoding: The decoder; None: there is none.

    Attributes:
        frames: Images of rows, each (h, w, c).
        thumbnails: Of the map's rows, shape (m, h, w, c), grey where an image cannot be read; None: none can.
        beside: Originals and decoded images of rows.
        notes: What a reader must know.
    """

    def __init__(self, file: LatentFile, *, thumbnails: Rows, beside: Rows, decoding: Decoding | None) -> None:
        self._file, self._decoding = file, decoding
        self._map = {row: place for place, row in enumerate(thumbnails.tolist())}
        self._beside = set(beside.tolist())
        self.frames: dict[int, Bytes] = {}
        self.thumbnails: Bytes | None = None
        self.beside: dict[int, Beside] = {}
        self.notes: list[str] = []

    def read(self, originals: Originals, scale: InputScale, frames: set[int]) -> None:
        """Read them.

        Args:
            originals: The data sets.
            scale: How samples become values in [0, 1].
            frames: Rows whose images are shown.
        """
        shape = originals.how.image_shape
        self.notes += filter(None, [said_of_channels(shape[2])])
        if self._decoding is not None and self._decoding.session.image_shape != shape:
            found = self._decoding.session.image_shape
            self._no_reconstructions(f"the decoder's images have the shape {found}, those of the data set {shape}")
        wanted = np.array(sorted({*frames, *self._map, *self._beside}), np.int64)
        lacking = originals.of(wanted)
        try:
            for rows, samples in originals.read(wanted):
                self._take(rows, scaled(samples, scale), frames)
                lacking -= len(rows)
        except DatasetError as error:
            self.notes.append(f"Images of the data set are left out: {plain(error)}")
        else:
            if lacking:
                self.notes.append(f"{lacking:,} of the images to show cannot be read again.")

    def _take(self, rows: Rows, images: npt.NDArray[np.float32], frames: set[int]) -> None:
        if self.thumbnails is None:
            self.thumbnails = np.full((len(self._map), *small_shape(images.shape[1:], THUMBNAIL)), GREY, np.uint8)
        for row, image in zip(rows.tolist(), images, strict=True):
            if (place := self._map.get(row)) is not None:
                self.thumbnails[place] = small(image[None], THUMBNAIL)[0]
            if row in frames:
                self.frames[row] = small(image[None], FRAME)[0]
            if row in self._beside and self._decoding is not None:
                self._compare(self._decoding, row, image)

    def _compare(self, decoding: Decoding, row: int, original: npt.NDArray[np.float32]) -> None:
        try:
            decoded = np.clip(decoding.images(self._file[row][None])[0], 0, 1)
        except ContractError as error:
            self._no_reconstructions(plain(error))
            return
        squares = (decoded - original).astype(np.float64) ** 2
        first, second = (small(image[None], FRAME)[0] for image in (original, decoded))
        self.beside[row] = Beside(first, second, float(squares.mean()))

    def _no_reconstructions(self, why: str) -> None:
        self.notes.append(f"Reconstructions are left out: {why.removesuffix('.')}.")
        self._decoding = None
        self.beside.clear()
