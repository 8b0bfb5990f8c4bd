"""How images became an encoder's input, as a latent file keeps it, so that other images can be encoded alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from ngvae_tools.contract import Resize
from ngvae_tools.datasets import ImageShape
from ngvae_tools.errors import ContractError, RecordError
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.workflows.opening import brings_floats, encoder_of


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How images became the encoder's input.

    Attributes:
        image_shape: (H, W, C) as the encoder took them.
        resize: How they were brought to that shape; None: they were not.
        heads: The encoder's outputs that were read.
        input_options: How the user said that a model from elsewhere takes its input.
        input_range: What the least and the largest sample became before the graph; None where it scales inside.
        dataset_key: Name of the images in a file, as the user gave it.
        float_samples: How float samples were given to the encoder, in the words of `opening.fit_floats`.
    """

    image_shape: ImageShape
    resize: Resize | None
    heads: HeadNames
    input_options: InputOptions
    input_range: tuple[float, float] | None
    dataset_key: str | None
    float_samples: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As it lies in a latent file."""
        return {
            "image_shape": list(self.image_shape),
            "resize": self.resize,
            "heads": {kind: name for kind, name in dataclasses.asdict(self.heads).items() if name is not None},
            "input": dataclasses.asdict(self.input_options),
            "input_range": None if self.input_range is None else list(self.input_range),
            "dataset_key": self.dataset_key,
            "float_samples": list(self.float_samples),
        }

    @classmethod
    def read(cls, path: Path, raw: Mapping[str, Any]) -> Self:
        """That of a latent file.

        Args:
            path: The file, for errors.
            raw: Its `preprocessing`.

        Raises:
            RecordError: It does not say so.
        """
        try:
            height, width, channels = (int(size) for size in raw["image_shape"])
            resize, key = raw["resize"], raw.get("dataset_key")
            if resize not in {None, *get_args(Resize)} or not isinstance(key, str | None):
                raise ValueError(f"resize {resize!r}, dataset_key {key!r}")  # noqa: TRY301
            heads, options = HeadNames(**raw["heads"]), InputOptions(**raw["input"])
            floats = tuple(map(str, raw["float_samples"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unsaid(path, f"{type(error).__name__}: {error}") from None
        return cls((height, width, channels), resize, heads, options, input_range_of(path, raw), key, floats)

    @property
    def float_range(self) -> tuple[float, float] | None:
        """Range that float samples were taken to have; None where the graph scales."""
        return (0.0, 1.0) if brings_floats(self.float_samples) else self.input_range

    def session(self, encoder: Path, *, device: str) -> EncoderSession:
        """An encoder, or that of a run, opened as the one of the latents was read."""
        return EncoderSession(
            encoder_of(encoder),
            device=device,
            heads=self.heads,
            input_options=self.input_options,
            image_shape=self.image_shape,
        )


def check_encoder(session: EncoderSession, file: LatentFile) -> None:
    """Refuse an encoder that is not the one that made a latent file.

    Raises:
        ContractError: It is so.
    """
    expected = file.header.origin.encoder_sha256
    if session.sha256 != expected:
        raise ContractError(
            f"{session.path} is not the encoder that made {file.path}",
            expected=f"SHA-256 {expected}",
            found=session.sha256,
            remedy="name the encoder that the file was made with",
        )


def input_range_of(path: Path, raw: Mapping[str, Any]) -> tuple[float, float] | None:
    """What the least and the largest sample became before the graph; None where it scales inside, or is not said.

    Raises:
        RecordError: It is no pair of numbers.
    """
    span = raw.get("input_range")
    try:
        return None if span is None else (float(span[0]), float(span[1]))
    except (TypeError, ValueError, LookupError) as error:
        raise _unsaid(path, f"input_range: {error}") from None


def _unsaid(path: Path, found: str) -> RecordError:
    return RecordError(
        f"{path} does not say how images become the encoder's input",
        expected="image_shape, resize, heads, input and float_samples in its preprocessing",
        found=found,
        remedy="write it again with select-latents",
    )
