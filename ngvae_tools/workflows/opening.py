"""Opening what a command names: an encoder, and images as it takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ngvae_tools.contract import METADATA_KEY, InputScale, ModelMetadata, Resize
from ngvae_tools.datasets import ImageDataset, open_dataset
from ngvae_tools.datasets.places import Place
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.onnx_file import read_bytes, read_model
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.run import CONFIG_NAME, ENCODER_NAME

LOOKED_AT = 64
"""Images whose float samples are looked at for their range."""

_BROUGHT = ": they are brought from 0 to 1 to "


def encoder_of(model: Path) -> Path:
    """The encoder file that `model` names: itself, or the one of a training run's folder."""
    if not model.is_dir():
        return model
    if (model / CONFIG_NAME).exists() and not (model / ENCODER_NAME).exists():
        raise ContractError(
            f"the training run {model} has no encoder",
            expected="a run that has finished",
            found="one that was interrupted, or still runs",
            remedy="wait for it, or train again with --overwrite",
        )
    return model / ENCODER_NAME


def shape_of(path: Place, dataset_key: str | None) -> tuple[int, int, int]:
    """The data set's own shape, for an encoder that takes images of any size."""
    with open_dataset(path, dataset_key=dataset_key) as dataset:
        return dataset.image_shape


def open_images(session: EncoderSession, path: Place, dataset_key: str | None, resize: Resize | None) -> ImageDataset:
    """The images of the size and type that an encoder takes; in its own scale where the graph does the scaling."""
    metadata = session.metadata
    return open_dataset(
        path,
        dataset_key=dataset_key,
        image_shape=metadata.image_shape,
        # An encoder with its own scaling takes exactly the samples it was trained on.
        dtype=metadata.sample_type if session.scales_inside else None,
        resize=resize or metadata.resize,
    )


def fit_floats(session: EncoderSession, dataset: ImageDataset, before: Sequence[str] = ()) -> tuple[str, ...]:
    """Say how float samples are given to an encoder that does not scale them; float images have no range of their own.

    Samples between 0 and 1 are brought to the encoder's range; others are taken to be in it already. Where an earlier
    pass said something, what it did is done again, whatever these samples look like, and said again.
    """
    if before:
        if brings_floats(before):
            session.scale_floats()
        return tuple(before)
    if session.input_range is None or dataset.dtype.kind != "f":
        return ()
    images = dataset.read(0, min(LOOKED_AT, len(dataset)))[0].images
    if not len(images):
        return ()
    low, high = session.input_range
    least, most = float(images.min()), float(images.max())
    seen = f"The float samples lie between {least:.3g} and {most:.3g} in the first {len(images)} images"
    if least >= 0 and most <= 1:
        session.scale_floats()
        scaled = "" if (low, high) == (0.0, 1.0) else f"{_BROUGHT}{low:g} to {high:g}"
        return (f"{seen}{scaled}.",)
    slack = 0.01 * (high - low)
    doubt = "" if low - slack <= least and most <= high + slack else f", beyond {low:g} to {high:g}: see --input-range"
    return (f"{seen} and are given to the encoder as they are{doubt}.",)


def brings_floats(said: Sequence[str]) -> bool:
    """Whether what `fit_floats` said means that samples are brought from 0 to 1 to the encoder's range."""
    return any(_BROUGHT in sentence for sentence in said)


def scale_for(session: EncoderSession, dataset: ImageDataset) -> InputScale | None:
    """How a data set's samples become values in [0, 1], by its encoder; None: it takes the whole range of their type.

    Whole numbers span their type unless a file's own metadata scale them; float samples are what they are taken to be.
    """
    if dataset.dtype.kind == "f" and session.float_range is not None:
        return InputScale(*session.float_range)
    return session.metadata.scale if session.trained else None


def scale_in(encoder: Path, sha256: str) -> InputScale | None:
    """How samples become values in [0, 1], by the metadata of an encoder; None: it is not there, or does not say."""
    try:
        model = read_model(encoder, read_bytes(encoder))
        text = next((entry.value for entry in model.proto.metadata_props if entry.key == METADATA_KEY), None)
        return None if text is None or model.sha256 != sha256 else ModelMetadata.from_json(text).scale
    except ContractError:
        return None
