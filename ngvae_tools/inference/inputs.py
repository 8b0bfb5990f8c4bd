"""How images are fed to an encoder: layout, range and type, from its metadata, its shapes, or options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LATENT_PARAMETERS, Layout, ModelMetadata
from ngvae_tools.errors import OptionError
from ngvae_tools.inference.facts import ModelFacts, Port, Shape, shape_text
from ngvae_tools.inference.onnx_file import unfit

ImageShape = tuple[int, int, int]
Spatial = Literal["channel", "position"]

NUMPY_TYPES = {
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
}
"""Types of an input that images can be fed to, as numpy calls them."""

CHANNELS = (1, 2, 3, 4)
"""Sizes that an axis of channels has; what else is that small is ambiguous."""

MAX_SAMPLES = 2**28
"""Most values of one batch that a graph of fixed batch may ask for (1 GiB as float32)."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How to feed an encoder that has no metadata; None means inferred.

    Attributes:
        layout: Order of the image tensor's axes.
        low: What the smallest sample of an integer type becomes.
        high: What the largest sample of an integer type becomes.
        spatial: What a dimension of a spatial latent (N, C, h, w) is: a `channel`, every position a sample of it,
            or a channel at a `position`.
    """

    layout: Layout | None = None
    low: float | None = None
    high: float | None = None
    spatial: Spatial = "channel"


@dataclass(frozen=True, slots=True)
class InputPlan:
    """How to feed the data set's samples to the graph.

    Attributes:
        name: The graph's input.
        dtype: What it takes, as numpy calls it.
        layout: Order of its axes.
        image_shape: (H, W, C) of the samples.
        sample_type: Type of the samples where the graph scales them.
        scales_inside: Whether the graph takes samples as they are.
        low: What the smallest sample becomes; for a graph that scales inside, the smallest it expects.
        high: The same of the largest.
        fixed_batch: The one number of images that the graph takes at once; None for any.
        any_size: Whether the graph leaves the images' height and width open.
        notes: A sentence for each assumption.
        scales_floats: Whether float samples lie between 0 and 1 and are brought to the range; else they are in it.
    """

    name: str
    dtype: str
    layout: Layout
    image_shape: ImageShape
    sample_type: str
    scales_inside: bool
    low: float
    high: float
    fixed_batch: int | None
    any_size: bool
    notes: tuple[str, ...]
    scales_floats: bool = False

    @property
    def axes(self) -> ImageShape:
        """Axes of one image in the graph's order."""
        height, width, channels = self.image_shape
        return (channels, height, width) if self.layout == "NCHW" else self.image_shape

    def with_batch(self, batch: int, note: str) -> InputPlan:
        """The same for a graph that takes only this many images at once."""
        return replace(self, fixed_batch=batch, notes=(*self.notes, note))

    def fed(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Samples (B, H, W, C) as the graph takes them."""
        images = samples
        if not self.scales_inside:
            images = samples.astype(np.float32)
            whole = np.issubdtype(samples.dtype, np.integer)
            if whole or self.scales_floats:
                images *= (self.high - self.low) / (np.iinfo(samples.dtype).max if whole else 1)
                images += self.low
        images = images.astype(self.dtype, copy=False)
        return images.transpose(0, 3, 1, 2) if self.layout == "NCHW" else images


def parse_range(text: str | None) -> tuple[float | None, float | None]:
    """The text of `--input-range`, LOW,HIGH; None where it is inferred.

    Raises:
        OptionError: The text is no range.
    """
    if text is None:
        return None, None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not (low < high and math.isfinite(high - low)):
        raise OptionError(
            "--input-range cannot be read",
            expected="LOW,HIGH with LOW below HIGH, such as 0,1 or -1,1",
            found=repr(text),
            remedy="correct it",
        )
    return low, high


def plan_input(
    path: Path,
    facts: ModelFacts,
    metadata: ModelMetadata | None,
    options: InputOptions,
    image_shape: ImageShape | Callable[[], ImageShape] | None,
) -> InputPlan:
    """How to feed the graph.

    Args:
        path: The file, for errors.
        facts: What the file says of itself.
        metadata: Its metadata of ngvae_tools.
        options: What the user says.
        image_shape: (H, W, C) of the data set, or a function that finds it out; used where the graph takes
            images of any size, and, unless it is a function, to tell the layout.

    Raises:
        ContractError: The graph takes no images, metadata contradict it, or something cannot be told.
        OptionError: The file itself says what an option is for.
    """
    port = _image_port(path, facts)
    batch = port.shape[0] if isinstance(port.shape[0], int) else None
    if metadata is not None:
        _refuse_options(path, options, "--layout", "--input-range", found="its own ngvae_tools metadata, which decide")
        return _as_metadata_say(path, port, metadata, batch)
    if NUMPY_TYPES[port.type].startswith("uint"):
        found = f"an input of {NUMPY_TYPES[port.type]}, which takes samples as they are"
        _refuse_options(path, options, "--input-range", found=found)
    names = [output.name for output in facts.outputs]
    known = None if callable(image_shape) else image_shape
    named = options.layout or (None if known is None else _layout_of(port.shape, known))
    layout, notes = _layout(path, port.shape, named, channels_first=LATENT_PARAMETERS in names)
    order = (1, 2, 3) if layout == "NHWC" else (2, 3, 1)
    declared = [port.shape[axis] for axis in order]
    any_size = not all(isinstance(n, int) for n in declared)
    if any_size:
        given = image_shape() if callable(image_shape) else image_shape
        if given is None:
            raise unfit(
                path,
                "the height, width and channels of the images",
                f"input {port}, which takes any",
                "name the data set, or export it with only the batch dynamic",
            )
        declared = [n if isinstance(n, int) else own for n, own in zip(declared, given, strict=True)]
    height, width, channels = (int(n or 0) for n in declared)
    _check_size(path, port, batch, (height, width, channels))
    dtype = NUMPY_TYPES[port.type]
    inside = dtype.startswith("uint")
    low, high = options.low, options.high
    if low is None or high is None:
        low, high = (-1.0, 1.0) if LATENT_PARAMETERS in names else (0.0, 1.0)
        if LATENT_PARAMETERS in names and not inside:
            notes.append(f"The output {LATENT_PARAMETERS} is diffusers': assumed its input range from -1 to 1.")
    if batch is not None and batch > 1:
        notes.append(f"The graph takes exactly {batch} images at once; the last run is filled up with copies.")
    return InputPlan(
        name=port.name,
        dtype=dtype,
        layout=layout,
        image_shape=(height, width, channels),
        sample_type=dtype if inside else "float32",
        scales_inside=inside,
        low=float(np.iinfo(dtype).min) if inside else low,
        high=float(np.iinfo(dtype).max) if inside else high,
        fixed_batch=batch,
        any_size=any_size,
        notes=tuple(notes),
    )


def _image_port(path: Path, facts: ModelFacts) -> Port:
    """The one input of images."""
    if len(facts.inputs) == 1 and len(facts.inputs[0].shape) == 4 and facts.inputs[0].type in NUMPY_TYPES:
        return facts.inputs[0]
    if is_decoder(facts):
        raise unfit(path, "an encoder", f"a decoder: {facts.inputs[0]} to {facts.outputs[0]}", "name the encoder file")
    listed = ", ".join(f"{port.name} {port.type} {shape_text(port.shape)}" for port in facts.inputs[:10]) or "none"
    raise unfit(
        path,
        "one input of images with four axes, uint8, uint16 or float32",
        f"inputs {listed}",
        "export the encoder with one image input",
    )


def is_decoder(facts: ModelFacts) -> bool:
    """Whether a graph without metadata takes vectors and returns images."""
    return (
        len(facts.inputs) == 1 and len(facts.inputs[0].shape) == 2 and [len(o.shape) for o in facts.outputs[:1]] == [4]
    )


def _as_metadata_say(path: Path, port: Port, metadata: ModelMetadata, batch: int | None) -> InputPlan:
    """Metadata that contradict the graph would only show as an error of the first run."""
    height, width, channels = metadata.image_shape
    axes = (channels, height, width) if metadata.layout == "NCHW" else metadata.image_shape
    dtype = NUMPY_TYPES[port.type]
    sample_type = dtype if dtype.startswith("uint") else "float32"
    fits = all(not isinstance(n, int) or n == axis for n, axis in zip(port.shape[1:], axes, strict=True))
    if not fits or sample_type != metadata.sample_type:
        raise unfit(
            path,
            f"an input of {metadata.sample_type} {shape_text(['N', *axes])}, as its metadata say",
            f"{port.type} {shape_text(port.shape)}",
            "export it again",
        )
    _check_size(path, port, batch, metadata.image_shape)
    return InputPlan(
        name=port.name,
        dtype=dtype,
        layout=metadata.layout,
        image_shape=metadata.image_shape,
        sample_type=metadata.sample_type,
        scales_inside=True,
        low=metadata.scale.low,
        high=metadata.scale.high,
        fixed_batch=batch,
        any_size=False,
        notes=(),
    )


def _refuse_options(path: Path, options: InputOptions, *names: str, found: str) -> None:
    """Refuse those of the named options that are given: they would change nothing."""
    ranged = options.low is not None or options.high is not None
    given = {"--layout": options.layout is not None, "--input-range": ranged}
    useless = [name for name in names if given[name]]
    if useless:
        raise OptionError(
            f"{' and '.join(useless)} cannot be used with {path}",
            expected="an encoder that does not say how it takes images",
            found=found,
            remedy="leave the option out",
        )


def _layout_of(shape: Shape, image_shape: ImageShape) -> Layout | None:
    """The only order of axes in which images of this shape fit."""
    height, width, channels = image_shape
    orders: dict[Layout, ImageShape] = {"NHWC": image_shape, "NCHW": (channels, height, width)}
    fits = [
        layout
        for layout, axes in orders.items()
        if all(not isinstance(n, int) or n == axis for n, axis in zip(shape[1:], axes, strict=True))
    ]
    return fits[0] if len(fits) == 1 else None


def _check_size(path: Path, port: Port, batch: int | None, image_shape: ImageShape) -> None:
    images = 1 if batch is None else batch
    if min(images, *image_shape) < 1 or images * math.prod(image_shape) > MAX_SAMPLES:
        raise unfit(
            path,
            f"images of at most {MAX_SAMPLES} values, and at least one",
            f"input {port} for images {shape_text(image_shape)}",
            "export it for smaller images, with the first axis dynamic",
        )


def _layout(path: Path, shape: Shape, named: Layout | None, *, channels_first: bool) -> tuple[Layout, list[str]]:
    """The order of the axes, and what was assumed beyond a channel axis that the shape shows."""
    if named:
        return named, []
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first != last:
        return ("NCHW" if first else "NHWC"), []
    first, last = ("chan" in str(axis).lower() for axis in (shape[1], shape[3]))
    if first != last:
        return ("NCHW" if first else "NHWC"), []
    if channels_first:
        return "NCHW", [f"The output {LATENT_PARAMETERS} is diffusers': assumed its layout NCHW."]
    raise unfit(path, "a channel axis that can be told apart", f"input {shape_text(shape)}", "name it with --layout")
