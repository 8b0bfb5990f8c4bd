"""An encoder file, tried out, opened and run on samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LOGVAR, METADATA_KEY, Family, ModelMetadata, P
from ngvae_tools.inference.facts import ModelFacts, Outcome
from ngvae_tools.inference.heads import HeadNames, HeadPlan, Heads, LatentShape, find_heads, latent_shape
from ngvae_tools.inference.inputs import ImageShape, InputOptions, InputPlan, plan_input
from ngvae_tools.inference.onnx_file import read_model, unfit
from ngvae_tools.inference.providers import (
    CPU,
    CUDA,
    available_cpus,
    check_provider,
    offered_providers,
    providers_for,
)
from ngvae_tools.inference.running import Model, filled
from ngvae_tools.inference.trial import Trial
from ngvae_tools.posteriors import PosteriorFamily, family_of

__all__ = ["EncoderSession", "HeadNames", "Heads", "InputOptions"]

BATCH_BYTES = 2 * 2**30
"""Memory that the runs of one moment may take by what the trial measured; larger batches are run in pieces."""

FAMILIES: dict[str | None, tuple[Family, str]] = {
    P: ("normal-gamma", "the paper's Normal-Gamma posterior and its values"),
    LOGVAR: ("gaussian", "a Gaussian posterior"),
    None: ("deterministic", "codes without a posterior"),
}


class EncoderSession:
    """An encoder file under the contract of `ngvae_tools.contract`, or one from elsewhere, ready to run.

    The file is not trusted: it is opened and run in a process of its own first, see `ngvae_tools.inference.trial`.

    Args:
        path: The ONNX file.
        device: `auto`, `cpu`, `cuda` or `tensorrt`; an explicit one never falls back to the CPU.
        threads: Threads of the CPU provider; all available ones by default.
        at_once: Runs that are made at the same time; each then takes its share of memory.
        heads: Names of the outputs, for models from elsewhere.
        input_options: Layout and range of the input, for models from elsewhere.
        image_shape: (H, W, C) of the data set, or a function that finds it out; it is called only for a graph that
            takes images of any size.

    Attributes:
        metadata: What the file says of itself, or what was inferred.
        trained: What the file itself says of its training, by name; empty for a model from elsewhere.
        family: Law of the posterior.
        second_head: `p`, `logvar`, or None for deterministic codes.
        positions: Number P of positions of an image, each a sample of the K dimensions; 1 without spatial latents.
        scales_inside: Whether the graph takes the data set's samples as they are.
        heads: The outputs that are read, name by kind: `mu`, and `p` or `logvar`.
        input_range: What the least and the largest sample become before the graph; None where it scales inside.
        notes: A sentence for each assumption.
        sha256: Hash of the file and its external weights.
        provider: The execution provider that runs it.

    Raises:
        ContractError: The file is not ONNX, lacks what the contract asks for, or does not run within bounds.
        DeviceError: The device cannot run it.
        MissingDependencyError: No onnxruntime is installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        at_once: int = 1,
        heads: HeadNames | None = None,
        input_options: InputOptions | None = None,
        image_shape: ImageShape | Callable[[], ImageShape] | None = None,
    ) -> None:
        self.path = path
        choice = providers_for(device)
        options = input_options or InputOptions()
        with Trial(path) as trial:
            facts = trial.facts()
            # First of all: a decoder's outputs would only be named as heads that are missing.
            metadata = metadata_of(path, facts)
            plan = find_heads(path, facts, heads or HeadNames(), metadata)
            fed = plan_input(path, facts, metadata, options, image_shape)
            outcome = trial.run(fed, plan.outputs)
        self._input, outcome = settled_batch(path, fed, outcome)
        self._latents = latent_shape(
            path, plan, outcome, layout=self._input.layout, metadata=metadata, spatial=options.spatial
        )
        self._heads = plan
        self.sha256 = facts.sha256
        self.second_head = plan.second_head
        self.positions = self._latents.positions
        self.scales_inside = self._input.scales_inside
        self.heads = plan.named
        self.input_range = None if self.scales_inside else (self._input.low, self._input.high)
        self.trained = {} if metadata is None else metadata.trained
        self.metadata = described(metadata, plan, self._input, self._latents)
        self.family: PosteriorFamily = law_of(path, self.metadata, plan)
        self.notes = assumptions(metadata, plan, self._input, self._latents)
        self._batch = self._input.fixed_batch or max(BATCH_BYTES // at_once // max(outcome.bytes_per_image, 1), 1)
        self._padded: int | None = None
        self._model = Model(
            _whole(path, trial.data, facts),
            choice=choice,
            threads=threads or available_cpus(),
            seconds_per_image=outcome.seconds_per_image,
            refusal=partial(unfit, path),
        )
        self.provider = self._model.provider
        check_provider(device, choice, self.provider)
        if device == "auto" and self.provider == CPU and CUDA in offered_providers():
            self.notes.append("CUDA is offered by onnxruntime but did not start; the encoder ran on the CPU.")

    @property
    def latent_dim(self) -> int:
        """Number K of latent dimensions."""
        return self._latents.latent_dim

    def scale_floats(self) -> None:
        """Bring float samples from 0 to 1 to the graph's range, rather than take them to be in it."""
        self._input = replace(self._input, scales_floats=True)

    @property
    def float_range(self) -> tuple[float, float] | None:
        """Range that float samples are taken to have; None where the graph scales."""
        return (0.0, 1.0) if self._input.scales_floats else self.input_range

    def encode(self, samples: npt.NDArray[Any]) -> Heads:
        """Heads for samples of the data set's own dtype, shape (B, H, W, C): B * `positions` rows.

        Raises:
            ContractError: The outputs do not have the shape that the trial found, or a run does not end.
        """
        count = len(samples)
        pieces = [self._run(samples[start : start + self._batch]) for start in range(0, count, self._batch)]
        if not pieces:
            nothing = np.empty((0, self.latent_dim), dtype=np.float32)
            return Heads(nothing, None if self.second_head is None else nothing)
        return self._latents.heads([np.concatenate(arrays) for arrays in zip(*pieces, strict=True)])

    def pad_batches(self, size: int) -> None:
        """Fill smaller batches up to this size, so that a GPU sees one shape alone; the results stay the same."""
        self._padded = min(size, self._batch)

    def _run(self, samples: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        count = len(samples)
        samples = filled(samples, self._input.fixed_batch or self._padded)
        arrays = self._model.run(
            self._heads.outputs,
            self._input.name,
            self._input.fed(samples),
            what="images",
            remedies=(
                "look for loops in it that depend on the image, or pass a smaller --batch-size",
                "check the model with onnx.checker, or pass a smaller --batch-size",
            ),
        )
        expected_shape = (len(samples), *self._latents.trailing)
        for name, array in zip(self._heads.outputs, arrays, strict=True):
            if array.shape != expected_shape:
                remedy = "check the heads that are named"
                raise unfit(self.path, f"{name} of shape {expected_shape}", f"shape {array.shape}", remedy)
        return [array[:count] for array in arrays]


def metadata_of(path: Path, facts: ModelFacts) -> ModelMetadata | None:
    """What ngvae_tools wrote into the file; None for a model from elsewhere.

    Raises:
        ContractError: It cannot be read, or the file is a decoder.
    """
    metadata = declared_metadata(facts)
    if metadata is not None and metadata.role != "encoder":
        raise unfit(path, "an encoder", f"a {metadata.role} (z to image)", "name the encoder file")
    return metadata


def declared_metadata(facts: ModelFacts) -> ModelMetadata | None:
    """What ngvae_tools wrote into the file, of an encoder or a decoder.

    Raises:
        ContractError: It cannot be read.
    """
    text = facts.metadata.get(METADATA_KEY)
    return ModelMetadata.from_json(text) if text else None


def settled_batch(path: Path, fed: InputPlan, outcome: Outcome) -> tuple[InputPlan, Outcome]:
    """How to feed a graph that only says that it takes any number of images.

    Raises:
        ContractError: It takes one image at once, and not even that gives one row.
    """
    if fed.fixed_batch is not None:
        if outcome.second_error is not None:
            raise unfit(path, "a graph that runs twice", outcome.second_error, "export it again")
        return fed, outcome
    rows = {output.second[:1] for output in outcome.outputs.values()}
    if outcome.second_error is None and rows != {(1,)}:
        return fed, outcome
    note = "The graph says that it takes any number of images, but takes only one at once."
    return fed.with_batch(1, note), outcome.of_one()


def described(metadata: ModelMetadata | None, plan: HeadPlan, fed: InputPlan, latents: LatentShape) -> ModelMetadata:
    """The file's own metadata, or what was inferred in their place."""
    if metadata is not None:
        return replace(metadata, latent_dim=latents.latent_dim)
    return ModelMetadata(
        role="encoder",
        family=FAMILIES[plan.second_head][0],
        latent_dim=latents.latent_dim,
        image_shape=fed.image_shape,
        sample_type=fed.sample_type,
        layout=fed.layout,
    )


def law_of(path: Path, metadata: ModelMetadata, plan: HeadPlan) -> PosteriorFamily:
    """Law of the posterior.

    Raises:
        ContractError: The metadata name another than the heads, or one that is unknown.
    """
    family = family_of(metadata.family, metadata.latent_dim, metadata.hyperparameters)
    if family.second_head != plan.second_head:
        found = f"a head {plan.second_head} with metadata of family {metadata.family}"
        raise unfit(path, f"a head {family.second_head}", found, "export the model again")
    return family


def assumptions(
    metadata: ModelMetadata | None, plan: HeadPlan | None, fed: InputPlan | None, latents: LatentShape | None
) -> list[str]:
    """A sentence for each thing that the file does not say of itself; None for what could not be found out."""
    notes = [note for part in (plan, fed, latents) if part is not None for note in part.notes]
    if metadata is None and (plan or fed):
        assumed = [] if plan is None else [FAMILIES[plan.second_head][1]]
        if fed is not None:
            scale = "" if fed.scales_inside else f", and input from {fed.low:g} to {fed.high:g}"
            assumed.append(f"layout {fed.layout}{scale}")
        notes.insert(0, f"The encoder has no ngvae_tools metadata: assumed {', '.join(assumed)}.")
    return notes


def _whole(path: Path, data: bytes, facts: ModelFacts) -> bytes:
    """The bytes to open, proven to be those that were tried."""
    if facts.external_bytes:
        model = read_model(path, data)
        found, data = model.sha256, model.proto.SerializeToString()
    else:
        found = hashlib.sha256(data).hexdigest()
    if found != facts.sha256:
        raise unfit(path, "a file that stays as it is", "one that changed while it was read", "try again")
    return data
