"""What the explorer's page asks for: images of latents, latents of images; it knows nothing of a server."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.errors import DatasetError, OptionError, UnknownIdentifierError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.tables import texts
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.decoding import Decoding
from ngvae_tools.workflows.explore.chart import chart_of, shown_name
from ngvae_tools.workflows.image_encoder import ImageEncoder
from ngvae_tools.workflows.image_files import to_bytes
from ngvae_tools.workflows.originals import Originals
from ngvae_tools.workflows.thumbnails import said_of_channels, scaled, shown
from ngvae_tools.workflows.traversals import SHARES, posterior_span
from ngvae_tools.workflows.truncation import scale_of

UNKNOWN_REACH = 3.0
"""How far a slider goes to both sides of the mean where no record tells of the dimension: so far the prior reaches."""

STEPS = 50
"""Steps of a slider where there is no posterior noise to make them of."""

LEAST_STEP = 1e-3
"""Noise below this share of a slider's length is too little for a step."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Slider:
    """One latent dimension that can be moved.

    Attributes:
        dimension: Its index k.
        informative: Whether the record's rule calls it so; without a record, whether it is kept.
        information: I(x; z_k) in nats; None where it is not known.
        low: Where the slider begins.
        high: Where it ends.
        step: How far one press of a key moves it.
        noise: Whether the step is the posterior's standard deviation, on average over images.
    """

    dimension: int
    informative: bool
    information: float | None
    low: float
    high: float
    step: float
    noise: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An image, what the decoder makes of its latents, and where they lie.

    Attributes:
        name: What to call it.
        row: Its row in the latent file; None for one that was encoded now.
        z: All K latents, those that are not kept at their mean.
        place: On the map; None without one.
        decoded: What the decoder makes of z, as PNG.
        original: The image itself, as PNG; None where it is not at hand.
        error: Mean squared error between both, of values in [0, 1]; None without the image or if their shapes differ.
        notes: A sentence for each thing that was assumed.
    """

    name: str
    row: int | None
    z: tuple[float, ...]
    place: tuple[float, float] | None
    decoded: bytes
    original: bytes | None
    error: float | None
    notes: tuple[str, ...] = ()


class Explorer:
    """A latent file with its decoder, and its encoder and images where they are at hand; several threads may ask.

    Args:
        file: The latent file, not a spatial one.
        decoding: Its decoder.
        record: Its analysis; None without one.
        encoder: Its encoder; None: images cannot be encoded.
        originals: Its images; None: they are not shown.
        notes: What the user must know, a sentence each.

    Attributes:
        sliders: One for each dimension that the decoder takes, informative ones first, by index within each group.
        start: All K latents at their mean, where the sliders start.
        chart: The map.
    """

    def __init__(
        self,
        file: LatentFile,
        decoding: Decoding,
        *,
        record: AnalysisRecord | None = None,
        encoder: ImageEncoder | None = None,
        originals: Originals | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.file, self.record = file, record
        self._decoding, self._encoder, self._originals = decoding, encoder, originals
        self._encoding = Lock()
        origin = file.header.origin
        self._kept = list(origin.dimensions)
        self._rows = {} if record is None else {row.index: row for row in record.dimensions}
        self.start = origin.fill.astype(np.float64)
        self.chart = chart_of(file)
        no_map = None if self.chart.plane else "There is no map, for the kept latents do not vary."
        shapes = [decoding.session.image_shape, *([] if originals is None else [originals.how.image_shape])]
        said = dict.fromkeys(said_of_channels(shape[2]) for shape in shapes)
        self.notes = (*notes, *filter(None, [*said, no_map]))
        moved = self._kept if decoding.kept_only else range(origin.latent_dim)
        sliders = [self._slider(dimension) for dimension in moved]
        self.sliders = tuple(sorted(sliders, key=lambda slider: (not slider.informative, slider.dimension)))

    @property
    def encodes(self) -> bool:
        """Whether images can be encoded."""
        return self._encoder is not None

    @property
    def shows_originals(self) -> bool:
        """Whether the data set's images are at hand."""
        return self._originals is not None

    def decode(self, z: Sequence[float] | Floats) -> bytes:
        """The decoder's image of K latents, as PNG.

        Raises:
            ContractError: The decoder's image is not finite.
            OptionError: They are not K finite numbers.
        """
        return png(self._decoded(self._latents(z)))

    def point(self, row: int) -> Shown:
        """An image of the latent file by its row.

        Raises:
            OptionError: There is no such row.
            RecordError: The file is damaged.
        """
        if not 0 <= row < len(self.file):
            raise OptionError(
                f"there is no row {row}",
                expected=f"a row below {len(self.file)}",
                found=str(row),
                remedy="choose another one",
            )
        original, notes = self._original(row)
        return self._shown(
            shown_name(self.file.identifiers_of(row, row + 1)[0].item()), row, self.file[row], original, notes
        )

    def find(self, identifier: str) -> Shown:
        """An image of the latent file by its identifier.

        Raises:
            UnknownIdentifierError: There is none of it.
            RecordError: The file is damaged.
        """
        try:
            return self.point(int(self.file.row_of(identifier)))
        except (UnicodeEncodeError, OverflowError, UnknownIdentifierError):
            example = f", such as {texts(self.file.identifiers_of(0, 1))[0]}" if len(self.file) else ""
            raise UnknownIdentifierError(
                f"there is no image {shown_name(identifier.encode(errors='backslashreplace'))}",
                expected=f"an identifier of the latent file{example}",
                found="none of that name",
                remedy="correct it, or choose a point of the map",
            ) from None

    def encode(self, data: bytes) -> Shown:
        """An image file's bytes, encoded as the images of the latent file were.

        Raises:
            DatasetError: It cannot be read or encoded.
            OptionError: There is no encoder.
        """
        if self._encoder is None:
            raise OptionError(
                "the image cannot be encoded", expected="an encoder", found="none", remedy="start with --encoder"
            )
        with self._encoding:  # Large images one after the other, and what is assumed of float samples is kept.
            dataset = self._encoder.opened(data)
            latents, notes = self._encoder.encode(dataset, "the image")
            samples, _ = dataset.read(0, 1)
            original = scaled(samples.images, self._scale(dataset, self._encoder.session.float_range))[0]
        return self._shown("the image", None, latents[0], original, notes)

    def _shown(
        self, name: str, row: int | None, values: Floats, original: Floats | None, notes: tuple[str, ...]
    ) -> Shown:
        z = self.start.copy()
        z[self._kept] = values
        decoded = self._decoded(z)
        error = None
        if original is not None and original.shape == decoded.shape:
            error = float(((original - np.clip(decoded, 0, 1)) ** 2).mean())
        place = None
        if self.chart.plane is not None:
            ((x, y),) = self.chart.plane.points(values[None]).tolist()
            place = (x, y)
        return Shown(
            name=name,
            row=row,
            z=tuple(z.tolist()),
            place=place,
            decoded=png(decoded),
            original=None if original is None else png(original),
            error=error,
            notes=notes,
        )

    def _latents(self, z: Sequence[float] | Floats) -> npt.NDArray[np.float64]:
        try:
            latents = np.asarray(z)
        except ValueError:
            latents = np.empty(0, object)
        if latents.shape != self.start.shape or latents.dtype.kind not in "iuf" or not np.isfinite(latents).all():
            raise OptionError(
                "the latents cannot be decoded",
                expected=f"{len(self.start)} finite numbers",
                found="something else",
                remedy="reload the page",
            )
        return latents.astype(np.float64)

    def _decoded(self, z: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        taken = z[self._kept] if self._decoding.kept_only else z
        (image,) = self._decoding.session.decode(taken[None])
        return np.asarray(image)

    def _original(self, row: int) -> tuple[npt.NDArray[np.float32] | None, tuple[str, ...]]:
        if self._originals is None:
            return None, ()
        try:
            read = list(self._originals.read(np.array([row])))
        except DatasetError as error:
            return None, (f"The original cannot be shown: {error}",)
        if not read:
            return None, ("The original cannot be read again.",)
        ((_, samples),) = read
        scale = self._scale(self._originals.dataset, self._originals.how.float_range)
        return scaled(samples, scale)[0], ()

    def _scale(self, dataset: ImageDataset, floats: tuple[float, float] | None) -> InputScale:
        span = floats if dataset.dtype.kind == "f" else None
        return scale_of(self._decoding.session, dataset, None if span is None else InputScale(*span))

    def _slider(self, dimension: int) -> Slider:
        row = self._rows.get(dimension)
        column = self._kept.index(dimension) if dimension in self._kept else None
        informative = column is not None if row is None else row.informative
        deviation = self._posterior_deviation(dimension, column)
        if informative and column is not None and len(self.chart.rows):
            low, high = np.quantile(self.chart.values[:, column], SHARES).tolist()
            low, high = (low - (deviation or 0), high + (deviation or 0))
        elif row is not None:
            low, high = posterior_span(row)
        else:
            mean = float(self.start[dimension])
            low, high = mean - UNKNOWN_REACH, mean + UNKNOWN_REACH
        if not high > low:
            low, high = low - 1.0, high + 1.0
        noise = deviation is not None and deviation >= LEAST_STEP * (high - low)
        return Slider(
            dimension=dimension,
            informative=informative,
            information=None if row is None else row.information,
            low=low,
            high=high,
            step=deviation if deviation is not None and noise else (high - low) / STEPS,
            noise=noise,
        )

    def _posterior_deviation(self, dimension: int, column: int | None) -> float | None:
        """Mean posterior standard deviation; None for codes without a posterior, and where nothing says."""
        origin = self.file.header.origin
        if origin.steps_from != "posterior variance":
            return None
        if column is not None:
            return math.sqrt(float(origin.posterior_variance[column]))
        row = self._rows.get(dimension)
        return None if row is None or row.posterior_variance is None else math.sqrt(row.posterior_variance)


def png(image: Floats) -> bytes:
    """An image (H, W, C) in [0, 1] as the bytes of a PNG: the channels that a report shows, as grey or RGB."""
    from PIL import Image

    pixels = to_bytes(np.asarray(image, np.float32))
    seen = pixels[:, :, 0] if shown(pixels.shape[2]) == 1 else pixels[:, :, :3]
    file = io.BytesIO()
    # An image is seen for a moment, so what counts is the time that packing takes.
    Image.fromarray(np.ascontiguousarray(seen)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def data_url(image: bytes) -> str:
    """A PNG as a page takes it."""
    return "data:image/png;base64," + base64.b64encode(image).decode()
