"""Single images, encoded as those of a latent file were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets import ImageDataset, ImageShape
from ngvae_tools.datasets.files import FileImages, ImageBytes
from ngvae_tools.errors import DatasetError
from ngvae_tools.inference.stream import encode_range
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.opening import fit_floats
from ngvae_tools.workflows.preprocessing import Preprocessing, check_encoder


class ImageEncoder:
    """The encoder that made a latent file, with all that was done to the images before.

    Args:
        file: The latent file.
        encoder: Its encoder, or the folder of its run.
        device: Where it runs.

    Attributes:
        session: The encoder.

    Raises:
        ContractError: The encoder cannot be used, or is another one.
        RecordError: The file does not say how its images were encoded.
    """

    def __init__(self, file: LatentFile, encoder: Path, *, device: str) -> None:
        self._origin = file.header.origin
        self._how = Preprocessing.read(file.path, self._origin.preprocessing)
        self._said = self._how.float_samples
        self.session = self._how.session(encoder, device=device)
        check_encoder(self.session, file)

    @property
    def image_shape(self) -> ImageShape:
        """(H, W, C) as the encoder takes images."""
        return self._how.image_shape

    def opened(self, image: Path | bytes) -> FileImages | ImageBytes:
        """An image file, or the bytes of one, as a data set of the form that the encoder takes."""
        how, session = self._how, self.session
        dtype = session.metadata.sample_type if session.scales_inside else None
        if isinstance(image, bytes):
            return ImageBytes(image, "the image", image_shape=how.image_shape, dtype=dtype, resize=how.resize)
        return FileImages([image], image_shape=how.image_shape, dtype=dtype, resize=how.resize)

    def encode(self, dataset: ImageDataset, name: object) -> tuple[npt.NDArray[np.floating], tuple[str, ...]]:
        """The latents (1, d) of a data set's only image, and sentences on what was assumed.

        What was assumed of the first image with float samples is assumed of those that follow.

        Args:
            dataset: What `opened` returns.
            name: What to call the image in an error.

        Raises:
            DatasetError: It cannot be read or encoded.
        """
        self._said = fit_floats(self.session, dataset, self._said)
        done = encode_range(dataset, self.session, 0, 1, batch_size=1)
        if done.rejected:
            height, width, channels = self.image_shape
            raise DatasetError(
                f"{name} cannot be encoded",
                expected=f"an image as the encoder takes it, {height} x {width} with {channels} channels",
                found=f"one that {done.rejected[0].reason}",
                remedy="bring it to the form of the images that the latents are of",
            )
        return self._origin.kept(done.heads.mu.reshape(1, -1)), self._said
