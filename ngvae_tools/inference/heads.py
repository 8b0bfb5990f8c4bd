"""Which outputs of a graph are mu and the second head, and what their axes mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LATENT_PARAMETERS, LOGVAR, MU, Layout, ModelMetadata, P
from ngvae_tools.errors import ContractError, OptionError
from ngvae_tools.inference.facts import ModelFacts, Outcome, OutputTrial, shape_text
from ngvae_tools.inference.inputs import Spatial
from ngvae_tools.inference.onnx_file import unfit

MEANS = frozenset(
    ("mu", "mus", "zmu", "muz", "mean", "means", "zmean", "meanz", "latentmean", "loc", "zloc", "embedding")
)
LOG_VARIANCES = frozenset(
    ("logvar", "zlogvar", "logvarz", "logvariance", "zlogvariance", "logvariances", "logcovariance", "latentlogvar")
)
"""Names that others give to their heads, without case and marks; a standard deviation is none of them."""

LOGVAR_LIMITS = (-30.0, 20.0)
"""diffusers clamps the log-variance in `latent_parameters` to this (DiagonalGaussianDistribution)."""

MAX_LATENTS = 2048
"""Most dimensions that can be analysed: their covariance then takes 80 MB in the record."""


@dataclass(frozen=True, slots=True)
class HeadNames:
    """Names of the outputs to read; None means the contract's own names, or those that others are known to use.

    Attributes:
        mu: Posterior mean.
        p: Mixture probability (near 0 = informative).
        logvar: Log-variance of a Gaussian posterior; the same name as `mu` for one output that holds both,
            concatenated on axis 1.
    """

    mu: str | None = None
    p: str | None = None
    logvar: str | None = None


@dataclass(frozen=True, slots=True)
class Heads:
    """What the encoder returned for B images with P positions each.

    Attributes:
        mu: Posterior means, float32, shape (B * P, K); the positions of an image are consecutive rows.
        second: p or log-variance, float32, of the same shape; None for deterministic codes.
    """

    mu: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """Which outputs to read.

    Attributes:
        outputs: The one or two outputs.
        second_head: `p`, `logvar`, or None for deterministic codes.
        concatenated: Whether one output holds mu and logvar on axis 1.
        only: Whether it is taken for mu because there is no other, and nothing else says so.
        notes: A sentence for each assumption.
    """

    outputs: tuple[str, ...]
    second_head: str | None
    concatenated: bool = False
    only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The outputs by kind, as `HeadNames` takes them."""
        kinds = (MU,) if self.second_head is None else (MU, self.second_head)
        return dict(zip(kinds, self.outputs * 2 if self.concatenated else self.outputs, strict=True))


@dataclass(frozen=True, slots=True)
class LatentShape:
    """What the axes of the heads mean.

    Attributes:
        trailing: Shape of an output for one image, without the batch.
        latent_dim: Number K of dimensions.
        positions: Number P of positions of an image, each a sample of the K dimensions.
        channel_axis: The axis of channels, counted with the batch.
        by_position: Whether a dimension is a channel at a position.
        concatenated: Whether axis 1 holds mu and logvar.
        notes: A sentence for each assumption.
    """

    trailing: tuple[int, ...]
    latent_dim: int
    positions: int
    channel_axis: int
    by_position: bool
    concatenated: bool
    notes: tuple[str, ...] = ()

    def heads(self, arrays: list[npt.NDArray[Any]]) -> Heads:
        """The heads in what the graph returned for B images, each (B, *trailing)."""
        if self.concatenated:
            mu, logvar = np.split(arrays[0], 2, axis=1)
            return Heads(self._rows(mu), self._rows(logvar).clip(*LOGVAR_LIMITS))
        return Heads(self._rows(arrays[0]), self._rows(arrays[1]) if len(arrays) > 1 else None)

    def _rows(self, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if array.ndim > 2:
            array = np.moveaxis(array, self.channel_axis, 1 if self.by_position else -1)
        return np.ascontiguousarray(array.reshape(-1, self.latent_dim), dtype=np.float32)


def find_heads(path: Path, facts: ModelFacts, names: HeadNames, metadata: ModelMetadata | None) -> HeadPlan:
    """Which outputs hold mu and the second head: the user's names, metadata's, the contract's, or well-known ones.

    Raises:
        ContractError: They are not there, or cannot be told apart.
        OptionError: Two second heads are named.
    """
    if names.p and names.logvar:
        raise OptionError(
            "two second heads are named", expected="--p or --logvar", found="both", remedy="leave one out"
        )
    outputs = [port.name for port in facts.outputs]
    if names.mu and names.mu == names.logvar and names.mu in outputs:
        note = f"The output {names.mu} is taken for mu and logvar, concatenated on axis 1."
        return HeadPlan((names.mu,), LOGVAR, concatenated=True, notes=(note,))
    if names.p or names.logvar:
        kind = P if names.p else LOGVAR
        second = names.p or names.logvar
        for mu in (names.mu,) if names.mu else (MU, *_known(outputs, MEANS)):
            if mu in outputs and second in outputs and mu != second:
                return HeadPlan((mu, second), kind, notes=() if mu in {names.mu, MU} else (_guess(mu, MU),))
        raise _missing(path, facts, f"({names.mu or MU}, {second})")
    if names.mu and names.mu not in outputs:
        raise _missing(path, facts, f"({names.mu}, {P}) or ({names.mu}, {LOGVAR})")
    plan = _unnamed(outputs, names.mu, metadata)
    if plan is None:
        raise _missing(path, facts, f"({MU}, {P}) or ({MU}, {LOGVAR})")
    return plan


def _unnamed(outputs: list[str], mu: str | None, metadata: ModelMetadata | None) -> HeadPlan | None:
    """The heads where no second one is named."""
    own = mu or MU
    deterministic = metadata is not None and metadata.family == "deterministic"
    if own in outputs and not deterministic:
        preferred = [LOGVAR, P] if metadata is not None and metadata.family == "gaussian" else [P, LOGVAR]
        for kind in preferred:
            if kind in outputs and kind != own:
                return HeadPlan((own, kind), kind)
    if own in outputs and deterministic:
        return HeadPlan((own,), None)
    if mu is None and LATENT_PARAMETERS in outputs:
        note = f"The output {LATENT_PARAMETERS} is diffusers': mu and logvar, concatenated on axis 1."
        return HeadPlan((LATENT_PARAMETERS,), LOGVAR, concatenated=True, notes=(note,))
    means = [mu] if mu else _known(outputs, MEANS)
    log_variances = [name for name in _known(outputs, LOG_VARIANCES) if name != mu]
    if len(means) == len(log_variances) == 1:
        guesses = [_guess(name, kind) for name, kind in ((means[0], MU), (log_variances[0], LOGVAR))]
        return HeadPlan((means[0], log_variances[0]), LOGVAR, notes=tuple(guesses[1:] if mu else guesses))
    if mu or len(outputs) == 1:
        alone = mu or outputs[0]
        why = "No second head is named or found" if mu else "It is the only output"
        note = f"{why}: {alone} is taken for codes without a posterior, so rules on p, variance or rate do not apply."
        return HeadPlan((alone,), None, only=mu is None and alone != MU, notes=(note,))
    return None


def latent_shape(
    path: Path,
    plan: HeadPlan,
    outcome: Outcome,
    *,
    layout: Layout,
    metadata: ModelMetadata | None,
    spatial: Spatial,
) -> LatentShape:
    """What the heads' axes mean, from the trial.

    Raises:
        ContractError: A head has a shape, type or values that no encoder returns.
    """
    first, *others = (outcome.outputs[name] for name in plan.outputs)
    for name in plan.outputs:
        _check_head(path, name, outcome.outputs[name], outcome.batches)
    shape = first.first
    for name, other in zip(plan.outputs[1:], others, strict=True):
        if other.first != shape:
            expected = f"{name} of the shape {shape_text(shape)} of {plan.outputs[0]}"
            raise _wrong_shape(path, expected, f"shape {shape_text(other.first)}")
    whole = shape[1:]
    if plan.concatenated:
        if not whole or whole[0] % 2:
            expected = f"{plan.outputs[0]} with mu and logvar on axis 1, an even number of channels"
            raise _wrong_shape(path, expected, f"shape {shape_text(shape)}")
        shape = (shape[0], shape[1] // 2, *shape[2:])
    axis, notes = _channel_axis(plan, shape, layout, metadata)
    values = math.prod(shape[1:])
    by_position = spatial == "position"
    latent_dim = values if by_position or len(shape) < 3 else shape[axis]
    positions = values // latent_dim
    if latent_dim > MAX_LATENTS:
        remedy = "analyse channels: leave --spatial position out" if by_position else "check the heads that are named"
        raise _wrong_shape(path, f"at most {MAX_LATENTS} dimensions", f"{latent_dim} of {plan.outputs[0]}", remedy)
    if plan.only and positions > 1:
        remedy = "name it with --mu if these are codes, with --mu and --logvar if it holds both on axis 1"
        raise _wrong_shape(path, f"latents {plan.outputs[0]} (N, K)", f"one output {shape_text(shape)}", remedy)
    if metadata is not None and metadata.latent_dim != latent_dim and not by_position:
        expected = f"{plan.outputs[0]} of shape {shape_text((shape[0], metadata.latent_dim))}, as its metadata say"
        raise _wrong_shape(path, expected, f"shape {shape_text(shape)}", "export it again")
    if positions > 1:
        notes.append(f"The latents are spatial: each of the {positions} positions of an image is a sample of them.")
    return LatentShape(whole, latent_dim, positions, axis, by_position, plan.concatenated, tuple(notes))


def _channel_axis(
    plan: HeadPlan, shape: tuple[int, ...], layout: Layout, metadata: ModelMetadata | None
) -> tuple[int, list[str]]:
    """The axis of channels; spatial heads do not say where it is."""
    last = len(shape) - 1
    # Without positions there is nothing to tell apart: one axis is all there is.
    wide = [axis for axis in range(1, len(shape)) if shape[axis] > 1]
    if len(shape) < 3 or plan.concatenated:
        return 1, []
    if not wide or wide in ([1], [last]):
        return max(wide, default=1), []
    if metadata is not None and (shape[1] == metadata.latent_dim) != (shape[last] == metadata.latent_dim):
        return (1 if shape[1] == metadata.latent_dim else last), []
    axis = 1 if layout == "NCHW" else last
    note = f"The channels of {plan.outputs[0]} {shape_text(('N', *shape[1:]))} are taken from axis {axis}, "
    return axis, [note + f"as its input is {layout}."]


def _check_head(path: Path, name: str, head: OutputTrial, batches: tuple[int, int]) -> None:
    if not head.dtype.startswith("float"):
        remedy = "name the heads with --mu and --p or --logvar"
        raise unfit(path, f"{name} of floating-point numbers", head.dtype, remedy)
    for batch, shape in zip(batches, (head.first, head.second), strict=True):
        if not shape or shape[0] != batch or len(shape) > 5 or 0 in shape:
            expected = f"{name} with one row an image, {batch} of them"
            raise _wrong_shape(path, expected, f"shape {shape_text(shape)}")
    if head.first[1:] != head.second[1:]:
        expected = f"{name} of one shape for any number of images"
        raise _wrong_shape(path, expected, f"shapes {shape_text(head.first)} and {shape_text(head.second)}")
    if head.varies:
        raise unfit(
            path,
            f"{name} to be the same for the same image",
            "values that change from run to run, as of a graph that samples",
            "export mu and logvar themselves, not a sample of them",
        )
    if not head.finite:
        remedy = "check the export and --input-range"
        raise unfit(path, f"{name} with finite values", "NaN or infinity for every image of the trial", remedy)
    if head.mixes:
        raise unfit(
            path,
            f"{name} of an image to depend on that image alone",
            "values that depend on the other images of a batch",
            "export it in evaluation mode: module.eval()",
        )


def _known(outputs: list[str], names: frozenset[str]) -> list[str]:
    """Outputs whose last part, without case and marks, is one of the names."""
    return [name for name in outputs if _bare(name) in names]


def _bare(name: str) -> str:
    last = name.rsplit("/", 1)[-1].split(":", 1)[0]
    return "".join(c for c in last.lower() if c.isalnum())


def _guess(name: str, kind: str) -> str:
    return f"The output {name} is taken for {kind}, from its name."


def _missing(path: Path, facts: ModelFacts, wanted: str) -> ContractError:
    listed = ", ".join(str(port) for port in facts.outputs[:20])
    if len(facts.outputs) > 20:
        listed += f" and {len(facts.outputs) - 20} more"
    return unfit(
        path,
        f"outputs {wanted}",
        f"outputs {listed}",
        "name the heads with --mu and --p or --logvar (--mu alone for codes without a posterior; a standard "
        "deviation is not a log-variance)",
    )


def _wrong_shape(
    path: Path, expected: str, found: str, remedy: str = "check the heads that are named"
) -> ContractError:
    return unfit(path, expected, found, remedy)
