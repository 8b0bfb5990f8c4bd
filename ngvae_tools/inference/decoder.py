"""A decoder file, tried out, opened, and run on latents: images on the scale from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import METADATA_KEY, Layout, ModelMetadata
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.facts import ModelFacts, Outcome, Port, shape_text
from ngvae_tools.inference.inputs import CHANNELS, MAX_SAMPLES, ImageShape
from ngvae_tools.inference.onnx_file import read_model
from ngvae_tools.inference.providers import (
    available_cpus,
    check_provider,
    providers_for,
)
from ngvae_tools.inference.running import Model, filled
from ngvae_tools.inference.trial import Trial

BATCH = 32
BATCH_BYTES = 2**25
"""Images of one run at most, and their bytes as float32."""


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How to read the images of a decoder that has no metadata; None means inferred.

    Attributes:
        layout: Order of the image tensor's axes.
        low: Its value for black.
        high: Its value for white.
    """

    layout: Layout | None = None
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class LatentPlan:
    """How the trial feeds a decoder: latents of noise.

    Attributes:
        name: The graph's input.
        axes: Axes of one latent in the graph's order: (K,), or (C, h, w).
        dtype: What the graph takes, as numpy calls it.
        fixed_batch: None: any number of latents at once.
        low: Least value of the noise.
        high: Largest value of the noise.
    """

    name: str
    axes: tuple[int, ...]
    dtype: str = "float32"
    fixed_batch: int | None = None
    low: float = -1.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderPlan:
    """How to run a decoder, as it was found when it was tried.

    Attributes:
        metadata: What the file says of itself; None for a model from elsewhere.
        sha256: Hash of the file and its external weights.
        latents: How to feed it.
        output: Name of its images.
        image_shape: (H, W, C) of an image.
        layout: Order of the images' axes in the graph.
        seconds_per_image: What one image took in the trial.
        bytes_per_image: Memory that one more image of a batch took; 0 where the system does not tell.
        notes: A sentence for each thing that a reader of the result must know.
    """

    metadata: ModelMetadata | None
    sha256: str
    latents: LatentPlan
    output: str
    image_shape: ImageShape
    layout: Layout
    seconds_per_image: float
    bytes_per_image: int
    notes: tuple[str, ...]

    @property
    def latent_dim(self) -> int:
        """Number K of latent dimensions; C * h * w of a spatial latent (C, h, w), in this order."""
        return math.prod(self.latents.axes)


def plan_decoder(path: Path, trial: Trial, options: OutputOptions) -> DecoderPlan:
    """Try a decoder out and say how to run it.

    Raises:
        ContractError: The file is an encoder, lacks what the contract asks for, or does not run within bounds.
    """
    facts = trial.facts()
    text = facts.metadata.get(METADATA_KEY)
    metadata = ModelMetadata.from_json(text) if text else None
    if metadata is not None and metadata.role != "decoder":
        raise _unfit(path, "a decoder", f"an {metadata.role}", "name the decoder file")
    latents, output = _ports(path, facts, metadata)
    outcome = trial.run(latents, (output.name,))  # type: ignore[arg-type]  # the same fields
    notes: tuple[str, ...] = ()
    if outcome.second_error is not None:
        if latents.fixed_batch is not None:
            raise _unfit(path, "a graph that runs twice", outcome.second_error, "export it again")
        latents, outcome = replace(latents, fixed_batch=1), outcome.of_one()
        notes = ("The decoder says that it takes any number of latents, but takes only one at once.",)
    elif latents.fixed_batch is not None and latents.fixed_batch > 1:
        notes = (f"The decoder takes exactly {latents.fixed_batch} latents at once; the last run is filled up.",)
    image_shape, layout = _images(path, output.name, outcome, metadata, options)
    return DecoderPlan(
        metadata=metadata,
        sha256=facts.sha256,
        latents=latents,
        output=output.name,
        image_shape=image_shape,
        layout=layout,
        seconds_per_image=outcome.seconds_per_image,
        bytes_per_image=outcome.bytes_per_image,
        notes=notes,
    )


class DecoderSession:
    """A decoder file under the contract of `ngvae_tools.contract`, or a simple one from elsewhere, ready to run.

    The file is not trusted: it is opened and run in a process of its own first, see `ngvae_tools.inference.trial`.

    Args:
        path: The ONNX file.
        device: `auto`, `cpu`, `cuda` or `tensorrt`; an explicit one never falls back to the CPU.
        threads: Threads of the CPU provider; all available ones by default.
        output_options: Layout and range of the images, for models from elsewhere.

    Attributes:
        metadata: What the file says of itself; None for a model from elsewhere.
        latent_dim: Number K of latent dimensions; C * h * w of a spatial latent (C, h, w), in this order.
        image_shape: (H, W, C) of an image.
        fixed_batch: The one number of latents that the graph takes at once; None for any.
        notes: A sentence for each thing that a reader of the result must know.
        sha256: Hash of the file and its external weights.
        provider: The execution provider that runs it.

    Raises:
        ContractError: The file is not ONNX, is an encoder, lacks what the contract asks for, or does not run within
            bounds.
        DeviceError: The device cannot run it.
        MissingDependencyError: No onnxruntime is installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        output_options: OutputOptions | None = None,
    ) -> None:
        self.path = path
        choice = providers_for(device)
        options = output_options or OutputOptions()
        with _as_decoder(path):
            with Trial(path) as trial:
                plan = plan_decoder(path, trial, options)
            model = read_model(path, trial.data)
        if model.sha256 != plan.sha256:
            raise _unfit(path, "a file that stays as it is", "one that changed while it was read", "try again")
        self._plan = plan
        self.metadata = plan.metadata
        self.sha256 = plan.sha256
        self.latent_dim = plan.latent_dim
        self.image_shape = plan.image_shape
        self.fixed_batch = plan.latents.fixed_batch
        # The contract's images are on the scale where `low` of the metadata is 0 and `high` is 1.
        self._low, self._high = (options.low, options.high) if self.metadata is None else (0.0, 1.0)
        self.notes = list(plan.notes)
        self._model = Model(
            model.proto.SerializeToString(),
            choice=choice,
            threads=threads or available_cpus(),
            seconds_per_image=plan.seconds_per_image,
            refusal=partial(_unfit, path),
        )
        self.provider = self._model.provider
        check_provider(device, choice, self.provider)

    @property
    def trained(self) -> dict[str, str]:
        """What the file says of its training, by name; empty for a model from elsewhere."""
        return {} if self.metadata is None else self.metadata.trained

    def decode(self, z: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Images for latents.

        Args:
            z: Latents, shape (n, K).

        Returns:
            Images on the scale where black is 0 and white is 1, not clipped, shape (n, H, W, C).

        Raises:
            ContractError: The latents do not fit, or an image is not finite or has another shape than in the trial.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            expected = f"latents of shape (n, {self.latent_dim})"
            remedy = "name the decoder that belongs to the encoder"
            raise _unfit(self.path, expected, f"shape {shape_text(z.shape)}", remedy)
        images = np.empty((len(z), *self.image_shape), dtype=np.float32)
        batch = self.fixed_batch or max(1, min(BATCH, BATCH_BYTES // (4 * math.prod(self.image_shape))))
        for start in range(0, len(z), batch):
            images[start : start + batch] = self._run(z[start : start + batch])
        return images

    def _run(self, z: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        plan, count = self._plan, len(z)
        latents = np.ascontiguousarray(z, dtype=np.float32).reshape(count, *plan.latents.axes)
        latents = filled(latents, self.fixed_batch)
        remedies = ("look for loops in it", "check the model with onnx.checker")
        (images,) = self._model.run([plan.output], plan.latents.name, latents, what="latents", remedies=remedies)
        if plan.layout == "NCHW" and images.ndim == 4:
            images = images.transpose(0, 2, 3, 1)
        if images.shape != (len(latents), *self.image_shape):
            expected = f"images of shape {shape_text((len(latents), *self.image_shape))}"
            raise _unfit(self.path, expected, f"shape {shape_text(images.shape)}", "export the decoder again")
        images = images[:count]
        if not np.isfinite(images).all():
            remedy = "check the decoder's weights"
            raise _unfit(self.path, "finite images", "values that are NaN or infinite", remedy)
        return np.asarray((images.astype(np.float32) - self._low) / (self._high - self._low), dtype=np.float32)


def _ports(path: Path, facts: ModelFacts, metadata: ModelMetadata | None) -> tuple[LatentPlan, Port]:
    """The one input of latents and the one output of images."""
    listed = " to ".join(", ".join(map(str, side[:10])) or "nothing" for side in (facts.inputs, facts.outputs))
    latents = [p for p in facts.inputs if p.type == "tensor(float)" and len(p.shape) in {2, 4}]
    images = [p for p in facts.outputs if p.type == "tensor(float)" and len(p.shape) in {0, 4}]
    if (len(facts.inputs), len(facts.outputs), len(latents), len(images)) != (1, 1, 1, 1):
        expected = "one float32 input of latents (N, K) or (N, C, h, w) and one float32 output of images"
        raise _unfit(path, expected, listed, "name a decoder file, exported with its images as the only output")
    batch, *axes = latents[0].shape
    sizes = tuple(n for n in axes if isinstance(n, int) and n > 0)
    fixed = batch if isinstance(batch, int) else None
    images_at_once = 1 if fixed is None else fixed
    if len(sizes) != len(axes) or not 1 <= images_at_once * math.prod(sizes) <= MAX_SAMPLES:
        expected = f"latents with no dynamic axis but the batch, at most {MAX_SAMPLES} values at once"
        raise _unfit(path, expected, listed, "export it again")
    if metadata is not None and metadata.latent_dim != sizes[0]:
        expected = f"{metadata.latent_dim} latent dimensions, as its metadata say"
        raise _unfit(path, expected, listed, "export it again")
    return LatentPlan(latents[0].name, sizes, fixed_batch=fixed), images[0]


def _images(
    path: Path, name: str, outcome: Outcome, metadata: ModelMetadata | None, options: OutputOptions
) -> tuple[ImageShape, Layout]:
    """Shape (H, W, C) of an image and the layout of the graph's axes, from the trial."""
    trial = outcome.outputs[name]
    shape = trial.first
    counts = outcome.batches
    if len(shape) != 4 or [shape, trial.second] != [(n, *shape[1:]) for n in counts] or 0 in shape:
        found = f"shapes {shape_text(shape)} and {shape_text(trial.second)} for {counts[0]} and for {counts[1]} latents"
        raise _unfit(path, "one image of height, width and channels for each latent", found, "export it again")
    if trial.varies:
        raise _unfit(path, "the same image for the same latents", "one that changes", "export it without sampling")
    if not trial.finite:
        raise _unfit(path, "finite images", "values that are NaN or infinite", "check the decoder's weights")
    if trial.mixes:
        expected, found = "an image that depends on its own latents alone", "one that depends on the rest of its batch"
        raise _unfit(path, expected, found, "export it in evaluation mode: module.eval()")
    if metadata is not None:
        # The contract's decoders have the channels last, whatever the layout of the encoder's input.
        if shape[1:] != metadata.image_shape:
            expected = f"images of shape {shape_text(metadata.image_shape)}, as its metadata say"
            raise _unfit(path, expected, f"shape {shape_text(shape[1:])}", "export it again")
        return metadata.image_shape, "NHWC"
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if options.layout is None and first == last:
        expected = "images with a channel axis that can be told apart"
        raise _unfit(path, expected, f"shape {shape_text(shape)}", "export it with ngvae_tools' exporters")
    if (options.layout or ("NCHW" if first else "NHWC")) == "NCHW":
        return (shape[2], shape[3], shape[1]), "NCHW"
    return (shape[1], shape[2], shape[3]), "NHWC"


@contextmanager
def _as_decoder(path: Path) -> Iterator[None]:
    """Let errors of reading and of the trial, which are worded for encoders, speak of a decoder."""
    try:
        yield
    except ContractError as error:
        if not error.problem.startswith(str(path)):
            raise
        raise _unfit(path, error.expected, error.found, error.remedy) from None


def _unfit(path: Path, expected: str, found: str, remedy: str) -> ContractError:
    return ContractError(f"{path} cannot be used as a decoder", expected=expected, found=found, remedy=remedy)
