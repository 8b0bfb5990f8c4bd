"""Encoders and decoders that compute some latent dimensions only, from whole ones; ONNX alone, no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from exporters.narrowing import narrowed
from exporters.restriction import name_outputs, restricted
from ngvae_tools.contract import LATENT_PARAMETERS, METADATA_KEY, ModelMetadata
from ngvae_tools.errors import ContractError, ExportError, OptionError
from ngvae_tools.files import replacing
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.facts import ModelFacts
from ngvae_tools.inference.heads import HeadNames, HeadPlan, find_heads, latent_shape
from ngvae_tools.inference.inputs import ImageShape, InputOptions, InputPlan, plan_input
from ngvae_tools.inference.onnx_file import read_bytes, read_model
from ngvae_tools.inference.providers import CPU, require_onnxruntime
from ngvae_tools.inference.session import metadata_of, settled_batch
from ngvae_tools.inference.trial import Trial

CHECKED_BATCHES = (1, 7)
TOLERANCE = 1e-6
"""Largest difference to the whole model that a pruned one may have, relative to the largest value of the output."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What pruning wrote.

    Attributes:
        path: The file.
        sha256: Hash of its bytes.
        bytes: Its size.
        bytes_before: Size of the whole model.
        dimensions: Latent dimensions kept, of the whole model, in the order of the pruned one.
        latent_dim_before: Number K of latent dimensions of the whole model.
        in_weights: Whether the dropped dimensions are gone from the weights; else the whole head, or the whole
            latent vector, is computed inside.
        max_abs_difference: Largest absolute difference to the whole model over all outputs, at batch sizes 1
            and 7, or at the one that the model takes.
        input_options: What a reader of the pruned encoder must still be told of its input.
    """

    path: Path
    sha256: str
    bytes: int
    bytes_before: int
    dimensions: tuple[int, ...]
    latent_dim_before: int
    in_weights: bool
    max_abs_difference: float
    input_options: InputOptions = field(default_factory=InputOptions)


def prune_encoder(
    path: Path,
    dimensions: Sequence[int],
    output: Path,
    *,
    heads: HeadNames | None = None,
    input_options: InputOptions | None = None,
    image_shape: ImageShape | None = None,
    latent_dim: int | None = None,
) -> PruneReport:
    """Write an encoder that computes the given dimensions only; its heads have the contract's names.

    Args:
        path: The whole encoder, under the contract or from elsewhere.
        dimensions: Dimensions to keep, in any order; the pruned encoder has them in ascending order.
        output: The file to write; it appears under this name only once it has passed every check.
        heads: Names of the outputs, for models from elsewhere.
        input_options: Layout and range of the input, for models from elsewhere.
        image_shape: (H, W, C) of the images, for a graph that takes any, or whose layout is not plain.
        latent_dim: Latent dimensions that `dimensions` were chosen from; None where that is not known.

    Raises:
        ContractError: The file cannot be used as an encoder, or has another number of dimensions.
        ExportError: The pruned encoder does not compute what the whole one computes.
        OptionError: The dimensions cannot be used.
        OutputError: The file cannot be written.
    """
    options = input_options or InputOptions()
    with Trial(path) as trial:
        facts = trial.facts()
        metadata = metadata_of(path, facts)
        plan = find_heads(path, facts, heads or HeadNames(), metadata)
        fed = plan_input(path, facts, metadata, options, image_shape)
        outcome = trial.run(fed, plan.outputs)
    fed, outcome = settled_batch(path, fed, outcome)
    latents = latent_shape(path, plan, outcome, layout=fed.layout, metadata=metadata, spatial=options.spatial)
    axis = latents.channel_axis
    channels = latents.trailing[axis - 1] // (2 if latents.concatenated else 1)
    if channels != latents.latent_dim:
        raise ContractError(
            f"the dimensions of {path} cannot be pruned",
            expected="dimensions that are channels",
            found=f"channels at positions, {channels} of {latents.latent_dim}",
            remedy="select channels: leave --spatial position out",
        )
    if latent_dim not in {None, channels}:
        raise ContractError(
            f"{path} does not fit the selection",
            expected=f"{latent_dim} latent dimensions",
            found=f"{channels}",
            remedy="select channels, and name the same heads: leave --spatial position out",
        )
    kept = checked_dimensions(dimensions, channels)
    rows = [*kept, *(channels + k for k in kept)] if latents.concatenated else list(kept)
    data, model = _read(path, facts.sha256)
    generator = np.random.default_rng(0)
    sizes = CHECKED_BATCHES if fed.fixed_batch is None else (fed.fixed_batch,)
    names = _contract_names(plan)
    name_outputs(model.graph, names)
    batches = [generator.uniform(fed.low, fed.high, (size, *fed.axes)).astype(fed.dtype) for size in sizes]
    whole = _Session(path, data)
    expected = [whole.run(plan.outputs, batch) for batch in batches]
    goal = _Goal(
        path,
        tuple(names.values()),
        batches,
        [[np.take(head, rows, axis) for head in heads_] for heads_ in expected],
        [_scale(head) for head in zip(*expected, strict=True)],
    )

    def attempt(in_weights: bool) -> tuple[onnx.ModelProto, bool]:
        return restricted(model, goal.names, axis, rows, in_weights=in_weights)

    report = _write(goal, attempt, metadata, kept, channels, len(data), output)
    if metadata is not None:
        return report
    ports = tuple(dataclasses.replace(port, name=names[port.name]) for port in facts.outputs if port.name in names)
    return dataclasses.replace(report, input_options=_untold(path, dataclasses.replace(facts, outputs=ports), fed))


def prune_decoder(path: Path, dimensions: Sequence[int], mean: Sequence[float], output: Path) -> PruneReport:
    """Write a decoder that takes the given dimensions only, the others held at their mean.

    Args:
        path: The whole decoder.
        dimensions: Dimensions to keep, in any order; the pruned decoder takes them in ascending order. Those of a
            spatial latent are its channels.
        mean: Where every dimension's posterior mean lies on average, shape (K,).
        output: The file to write; it appears under this name only once it has passed every check.

    Raises:
        ContractError: The file cannot be used as a decoder.
        ExportError: The pruned decoder does not compute what the whole one computes.
        OptionError: The dimensions cannot be used.
        OutputError: The file cannot be written.
    """
    session = DecoderSession(path, device="cpu")
    data, model = _read(path, session.sha256)
    latent = model.graph.input[0]
    channels, *positions = (dim.dim_value for dim in latent.type.tensor_type.shape.dim[1:])
    if channels != len(mean):
        raise ContractError(
            f"the decoder {path} does not fit the selection",
            expected=f"{len(mean)} latent dimensions",
            found=f"{channels}",
            remedy="name the decoder that was trained together with the encoder",
        )
    kept = checked_dimensions(dimensions, channels)
    whole = _Session(path, data)
    names = [model.graph.output[0].name]
    generator = np.random.default_rng(0)
    batches, wanted = [], []
    for size in CHECKED_BATCHES if session.fixed_batch is None else (session.fixed_batch,):
        z = np.empty((size, channels, *positions), dtype=np.float32)
        z[:] = np.asarray(mean, dtype=np.float32).reshape(-1, *(1 for _ in positions))
        z[:, kept] += generator.standard_normal((size, len(kept), *positions)).astype(np.float32)
        batches.append(z[:, kept])
        wanted.append(whole.run(names, z))
    goal = _Goal(path, names, batches, wanted, [_scale(images) for images in zip(*wanted, strict=True)])

    def attempt(in_weights: bool) -> tuple[onnx.ModelProto, bool]:
        return narrowed(model, latent.name, kept, np.asarray(mean, dtype=np.float64), in_weights=in_weights)

    return _write(goal, attempt, session.metadata, kept, channels, len(data), output)


def _contract_names(plan: HeadPlan) -> dict[str, str]:
    """The contract's name of each head by its own, so that the pruned encoder is understood without options."""
    if plan.concatenated:
        return {plan.outputs[0]: LATENT_PARAMETERS}
    return {name: kind for kind, name in plan.named.items()}


def _untold(path: Path, facts: ModelFacts, fed: InputPlan) -> InputOptions:
    """What of the input would be taken otherwise if nobody named it."""
    for layout in (None, fed.layout):
        with contextlib.suppress(ContractError):
            # A function, for readers do not know the data set's images before the layout.
            plain = plan_input(path, facts, None, InputOptions(layout), lambda: fed.image_shape)
            if plain.layout == fed.layout:
                break
    same = fed.scales_inside or (plain.low, plain.high) == (fed.low, fed.high)
    return InputOptions(layout) if same else InputOptions(layout, fed.low, fed.high)


def checked_dimensions(dimensions: Sequence[int], latent_dim: int) -> tuple[int, ...]:
    """The dimensions in ascending order.

    Raises:
        OptionError: There is none, one twice, or one that the model does not have.
    """
    kept = tuple(sorted(dimensions))
    if not kept or len(set(kept)) != len(kept) or kept[0] < 0 or kept[-1] >= latent_dim:
        raise OptionError(
            "the dimensions to keep cannot be used",
            expected=f"at least one of 0 to {latent_dim - 1}, each once",
            found=", ".join(map(str, dimensions)) or "none",
            remedy="correct them",
        )
    return kept


@dataclass(frozen=True, slots=True)
class _Goal:
    """What a pruned model is held against.

    Attributes:
        source: The whole model.
        names: Its outputs.
        batches: Inputs.
        wanted: What the pruned model's outputs must be for each of them.
        scales: Largest value of each output of the whole model.
    """

    source: Path
    names: Sequence[str]
    batches: Sequence[Array]
    wanted: Sequence[Sequence[Array]]
    scales: Sequence[float]


def _write(
    goal: _Goal,
    attempt: Callable[[bool], tuple[onnx.ModelProto, bool]],
    metadata: ModelMetadata | None,
    kept: tuple[int, ...],
    latent_dim: int,
    bytes_before: int,
    output: Path,
) -> PruneReport:
    """Write the first of the attempts that agrees with the whole model.

    Sums of fewer columns may be made in another order. Where that shows, selecting from the whole head, which
    changes no sum, is the better file.
    """
    difference = float("nan")
    for wish in (True, False):
        model, in_weights = attempt(wish)
        if metadata is not None:
            text = _of_dimensions(metadata, kept).to_json()
            next(entry for entry in model.metadata_props if entry.key == METADATA_KEY).value = text
        data = model.SerializeToString(deterministic=True)
        difference, relative = _difference(goal, data)
        if relative <= TOLERANCE:
            break
    else:
        raise ExportError(
            f"the pruned {goal.source.name} does not compute what the whole model computes",
            expected=f"a largest difference of at most {TOLERANCE:g} of the largest output",
            found=f"{relative:.3g}",
            remedy="please report this with the versions that `ngvae-tools doctor` prints",
        )
    with replacing(output) as part:
        part.write_bytes(data)
    return PruneReport(
        output, hashlib.sha256(data).hexdigest(), len(data), bytes_before, kept, latent_dim, in_weights, difference
    )


def _difference(goal: _Goal, data: bytes) -> tuple[float, float]:
    """Largest absolute difference, and the largest relative to its output's scale; infinite where it does not run."""
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        text = str(error).splitlines()[0]
        raise ExportError(
            f"the pruned {goal.source.name} is not valid ONNX",
            expected="a model that onnx.checker passes",
            found=text,
            remedy="check the whole model with onnx.checker",
        ) from None
    session = _Session(goal.source, data)
    largest = relative = 0.0
    for batch, wanted in zip(goal.batches, goal.wanted, strict=True):
        for ours, theirs, scale in zip(session.run(goal.names, batch), wanted, goal.scales, strict=True):
            if ours.shape != theirs.shape:
                return float("inf"), float("inf")
            # Not the built-in max, which drops a NaN.
            apart = float(np.abs(ours.astype(np.float64) - theirs).max())
            largest = float(np.maximum(largest, apart))
            relative = float(np.maximum(relative, apart / scale if scale else np.sign(apart)))
    return largest, relative


def _of_dimensions(metadata: ModelMetadata, kept: Sequence[int]) -> ModelMetadata:
    hyperparameters = {
        name: tuple(value[k] for k in kept) if isinstance(value, tuple) else value
        for name, value in metadata.hyperparameters.items()
    }
    origin = tuple(kept) if metadata.kept is None else tuple(metadata.kept[k] for k in kept)
    return dataclasses.replace(metadata, latent_dim=len(kept), hyperparameters=hyperparameters, kept=origin)


def _read(path: Path, sha256: str) -> tuple[bytes, onnx.ModelProto]:
    """A model that passed its trial, with weights of other files in it and every weight a constant."""
    read = read_model(path, read_bytes(path))
    if read.sha256 != sha256:
        raise _changed(path)
    model: onnx.ModelProto = read.proto
    data = model.SerializeToString(deterministic=True)
    # Files of IR version 3 list their weights among the inputs too, as defaults that a caller may replace.
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    model.graph.ClearField("input")
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)
    return data, model


def _changed(path: Path) -> ContractError:
    return ContractError(
        f"{path} cannot be pruned",
        expected="a file that stays as it is",
        found="one that changed while it was read",
        remedy="try again",
    )


def _scale(batches: Sequence[Array]) -> float:
    return max(float(np.abs(batch).max()) for batch in batches)


class _Session:
    """A model on the CPU, its faults as sentences."""

    def __init__(self, path: Path, data: bytes) -> None:
        onnxruntime = require_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._path = path
        self._session = self._guarded(lambda: onnxruntime.InferenceSession(data, options, providers=[CPU]))

    def run(self, names: Sequence[str], batch: Array) -> list[Array]:
        """Outputs for one batch."""
        (value,) = self._session.get_inputs()
        return list(self._guarded(lambda: self._session.run(list(names), {value.name: batch})))

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            text = str(error).strip().splitlines()
            raise ContractError(
                f"{self._path} cannot be pruned",
                expected="a graph that onnxruntime can run",
                found=text[0][:200] if text else type(error).__name__,
                remedy="check the model with onnx.checker",
            ) from None
