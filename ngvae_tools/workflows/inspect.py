"""inspect: what a model file is, what was assumed of it, and what is missing to use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ngvae_tools.contract import ModelMetadata, P
from ngvae_tools.errors import ContractError
from ngvae_tools.inference.decoder import DecoderPlan, OutputOptions, plan_decoder
from ngvae_tools.inference.facts import ModelFacts, Outcome, shape_text
from ngvae_tools.inference.heads import HeadNames, HeadPlan, LatentShape, find_heads, latent_shape
from ngvae_tools.inference.inputs import ImageShape, InputOptions, InputPlan, is_decoder, plan_input
from ngvae_tools.inference.session import assumptions, declared_metadata, described, law_of, settled_batch
from ngvae_tools.inference.trial import Trial

STAND_IN = (64, 64, 3)
"""Images that a graph for any size is tried with where none are named: a multiple of every usual stride."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a model file is; None where it could not be found out.

    Attributes:
        path: The file.
        usable: Whether it can be used with these options: as an encoder, or for a decoder as `--decoder`.
        role: `encoder`, `decoder` (z to image), or `unknown`.
        bytes: Size of the file.
        external_bytes: Bytes of weights in other files beside it.
        sha256: Hash of both.
        producer: What wrote it.
        opset: Version of the standard operators.
        operators: How often each operator occurs, most frequent first.
        parameters: Number of floating-point weights.
        inputs: Name, type and shape of each input.
        outputs: The same of each output.
        metadata: Keys of its metadata.
        heads: The outputs that are read: mu, and the second head where there is one.
        family: Law of the posterior.
        latent_dim: Number K of latent dimensions.
        kept: Of a pruned model: which dimension of the whole model each of its own is.
        positions: Number of positions of an image, each a sample of the K dimensions.
        image_shape: (H, W, C) of the images; those of the trial where `any_size`.
        any_size: Whether it takes images of any size.
        layout: Order of the input's axes.
        sample_type: Type of the samples that it takes, or that are scaled for it.
        input_range: What the least and the largest sample become before or inside the graph; None for a decoder.
        output_range: Of a decoder: values of its images for the least and the largest sample; None for an encoder.
        scales_inside: Whether it takes a data set's samples as they are.
        fixed_batch: The one number of images, or latents, that it takes at once; None for any.
        seconds_per_image: What one image took in the trial, in seconds.
        bytes_per_image: Memory that one more image of a batch took in the trial; 0 where the system does not tell.
        notes: A sentence for each assumption.
        missing: A sentence for each thing that is missing, with its remedy.
    """

    path: str
    usable: bool
    role: Literal["encoder", "decoder", "unknown"]
    bytes: int
    external_bytes: int
    sha256: str
    producer: str
    opset: int | None
    operators: tuple[tuple[str, int], ...]
    parameters: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: tuple[str, ...]
    heads: tuple[str, ...] | None
    family: str | None
    latent_dim: int | None
    kept: tuple[int, ...] | None
    positions: int | None
    image_shape: ImageShape | None
    any_size: bool | None
    layout: str | None
    sample_type: str | None
    input_range: tuple[float, float] | None
    output_range: tuple[float, float] | None
    scales_inside: bool | None
    fixed_batch: int | None
    seconds_per_image: float | None
    bytes_per_image: int | None
    notes: tuple[str, ...]
    missing: tuple[str, ...]


def inspect(
    path: str | os.PathLike[str],
    *,
    heads: HeadNames | None = None,
    input_options: InputOptions | None = None,
    image_shape: ImageShape | None = None,
) -> Inspection:
    """Say what a model file is, without trusting it and without any data.

    Args:
        path: The ONNX file.
        heads: Names of the outputs, for models from elsewhere.
        input_options: Layout and range of the input, for models from elsewhere.
        image_shape: (H, W, C) to try a graph with that takes images of any size; 64x64 by default.

    Raises:
        ContractError: It is not ONNX, or cannot be opened within the bounds of memory and time.
        MissingDependencyError: No onnxruntime is installed.
        OptionError: An option does not apply to the file.

    Example:
        >>> inspect("encoder.onnx").latent_dim  # doctest: +SKIP
        15
    """
    return _Inspector(Path(path), heads or HeadNames(), input_options or InputOptions(), image_shape).inspect()


class _Inspector:
    """Goes the way of `EncoderSession` or `DecoderSession`, and keeps what is missing where that would end."""

    def __init__(self, path: Path, heads: HeadNames, options: InputOptions, image_shape: ImageShape | None) -> None:
        self._path, self._names, self._options, self._image_shape = path, heads, options, image_shape
        self._missing: list[str] = []
        self._metadata: ModelMetadata | None = None
        self._plan: HeadPlan | None = None
        self._fed: InputPlan | None = None
        self._latents: LatentShape | None = None
        self._outcome: Outcome | None = None
        self._decoder: DecoderPlan | None = None

    def inspect(self) -> Inspection:
        with Trial(self._path) as trial:
            facts = trial.facts()
            try:
                self._metadata = declared_metadata(facts)
            except ContractError as error:
                # What else is there to say of it depends on what the metadata were meant to be.
                self._miss(error)
            else:
                if self._is_decoder(facts):
                    self._try_decoder(trial)
                else:
                    self._try_encoder(trial, facts)
        return self._found(facts)

    def _miss(self, error: ContractError) -> None:
        self._missing.append(f"Expected {error.expected}, found {error.found}; {error.remedy}.")

    def _is_decoder(self, facts: ModelFacts) -> bool:
        return is_decoder(facts) if self._metadata is None else self._metadata.role == "decoder"

    def _try_decoder(self, trial: Trial) -> None:
        try:
            self._decoder = plan_decoder(self._path, trial, OutputOptions())
        except ContractError as error:
            self._miss(error)

    def _try_encoder(self, trial: Trial, facts: ModelFacts) -> None:
        path, metadata = self._path, self._metadata
        try:
            # A function, for the stand-in must not tell the layout.
            self._fed = plan_input(path, facts, metadata, self._options, self._image_shape or (lambda: STAND_IN))
        except ContractError as error:
            self._miss(error)
        try:
            self._plan = find_heads(path, facts, self._names, metadata)
            if self._fed is None:
                return
            outcome = trial.run(self._fed, self._plan.outputs)
            self._fed, self._outcome = settled_batch(path, self._fed, outcome)
            self._latents = latent_shape(
                path,
                self._plan,
                self._outcome,
                layout=self._fed.layout,
                metadata=metadata,
                spatial=self._options.spatial,
            )
            law_of(path, described(metadata, self._plan, self._fed, self._latents), self._plan)
        except ContractError as error:
            self._miss(error)
            return
        p = self._outcome.outputs[self._plan.outputs[-1]]
        if self._plan.second_head == P and p.low is not None and p.high is not None and not 0 <= p.low <= p.high <= 1:
            self._missing.append(
                f"Expected p between 0 and 1, found values from {p.low:.3g} to {p.high:.3g} in the trial; "
                "name another head with --p, or put the sigmoid into the graph."
            )

    def _found(self, facts: ModelFacts) -> Inspection:
        plan, fed, latents, outcome = self._plan, self._fed, self._latents, self._outcome
        decoder = self._decoder
        whole = described(self._metadata, plan, fed, latents) if plan and fed and latents else None
        named = whole or self._metadata
        notes = list(decoder.notes) if decoder else assumptions(self._metadata, plan, fed, latents)
        if decoder and decoder.metadata is None:
            assumed = "layout {}, and images from {:g} to {:g}".format(decoder.layout, *self._output_range())
            notes.insert(0, f"The decoder has no ngvae_tools metadata: assumed {assumed}.")
        if fed and fed.any_size:
            tried = " x ".join(map(str, fed.image_shape))
            notes.append(f"It takes images of any size: tried with {tried}; a data set's own size is used.")
        images, ran = decoder or fed, decoder or outcome
        return Inspection(
            path=str(self._path),
            usable=not self._missing,
            role=self._role(facts),
            bytes=facts.bytes,
            external_bytes=facts.external_bytes,
            sha256=facts.sha256,
            producer=facts.producer,
            opset=facts.opset,
            operators=tuple(sorted(facts.operators.items(), key=lambda item: (-item[1], item[0]))),
            parameters=facts.parameters,
            inputs=tuple(f"{port.name} {port.type} {shape_text(port.shape)}" for port in facts.inputs),
            outputs=tuple(f"{port.name} {port.type} {shape_text(port.shape)}" for port in facts.outputs),
            metadata=tuple(sorted(facts.metadata)),
            heads=plan.outputs if plan else None,
            family=named.family if named else None,
            latent_dim=decoder.latent_dim if decoder else named.latent_dim if named else None,
            kept=named.kept if named else None,
            positions=latents.positions if latents else None,
            image_shape=images.image_shape if images else None,
            any_size=fed.any_size if fed else None,
            layout=images.layout if images else None,
            sample_type=fed.sample_type if fed else named.sample_type if named else None,
            input_range=(fed.low, fed.high) if fed else None,
            output_range=self._output_range() if decoder else None,
            scales_inside=fed.scales_inside if fed else None,
            fixed_batch=decoder.latents.fixed_batch if decoder else fed.fixed_batch if fed else None,
            seconds_per_image=ran.seconds_per_image if ran else None,
            bytes_per_image=ran.bytes_per_image if ran else None,
            notes=tuple(notes),
            missing=tuple(self._missing),
        )

    def _output_range(self) -> tuple[float, float]:
        """As `select_latents` takes the images of a decoder: without metadata, in the range that was named."""
        low, high = self._options.low, self._options.high
        return (0.0, 1.0) if self._metadata is not None or low is None or high is None else (low, high)

    def _role(self, facts: ModelFacts) -> Literal["encoder", "decoder", "unknown"]:
        if self._is_decoder(facts):
            return "decoder"
        return "encoder" if self._plan and self._fed else "unknown"
