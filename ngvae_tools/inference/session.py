"""An encoder file, opened: what it takes, what it returns, and running it on samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.contract import LOGVAR, METADATA_KEY, MU, Layout, ModelMetadata, P
from ngvae_tools.errors import OptionError
from ngvae_tools.inference.onnx_file import read_onnx, unfit
from ngvae_tools.inference.providers import (
    CPU,
    CUDA,
    available_cpus,
    cuda_refused,
    providers_for,
    require_onnxruntime,
)
from ngvae_tools.posteriors import PosteriorFamily, family_of

SAMPLE_TYPES = {"tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(float)": "float32"}


@dataclass(frozen=True, slots=True)
class HeadNames:
    """Names of the outputs to read; None means the contract's own names.

    Attributes:
        mu: Posterior mean.
        p: Mixture probability (near 0 = informative).
        logvar: Log-variance of a Gaussian posterior.
    """

    mu: str | None = None
    p: str | None = None
    logvar: str | None = None


@dataclass(frozen=True, slots=True)
class InputOptions:
    """How to feed an encoder that has no metadata; None means inferred.

    Attributes:
        layout: Order of the image tensor's axes.
        low: What the smallest sample becomes.
        high: What the largest sample of an integer type becomes.
    """

    layout: Layout | None = None
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, slots=True)
class Heads:
    """What the encoder returned for B samples.

    Attributes:
        mu: Posterior means, float32, shape (B, K).
        second: p or log-variance, float32, shape (B, K).
    """

    mu: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]


class EncoderSession:
    """An encoder file under the contract of `ngvae_tools.contract`, ready to run.

    Args:
        path: The ONNX file.
        device: `auto`, `cpu` or `cuda`; an explicit `cuda` never falls back to the CPU.
        threads: Threads of the CPU provider; all available ones by default.
        heads: Names of the outputs, for models from elsewhere.
        input_options: Layout and range of the input, for models from elsewhere.

    Raises:
        ContractError: The file is not ONNX, or lacks what the contract asks for.
        DeviceError: The device cannot run it.
        MissingDependencyError: No onnxruntime is installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        heads: HeadNames | None = None,
        input_options: InputOptions | None = None,
    ) -> None:
        self.path = path
        data = read_onnx(path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = _open(path, data, device, threads or available_cpus())
        self.provider: str = self._session.get_providers()[0]
        if device == "cuda" and self.provider != CUDA:
            raise cuda_refused(f"a session on {self.provider}")
        self.notes: list[str] = []
        if device == "auto" and self.provider == CPU and CUDA in require_onnxruntime().get_available_providers():
            self.notes.append("CUDA is offered by onnxruntime but did not start; the encoder ran on the CPU.")
        # First of all: a decoder's outputs would only be named as heads that are missing.
        text = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        metadata = ModelMetadata.from_json(text) if text else None
        if metadata is not None and metadata.role != "encoder":
            raise unfit(path, "an encoder", f"a {metadata.role}", "name the encoder file")
        self._outputs, self.second_head = self._find_heads(heads or HeadNames())
        self._input = self._find_input()
        self.metadata = metadata or self._infer(input_options or InputOptions())
        self._check_input()
        self.family: PosteriorFamily = family_of(
            self.metadata.family, self.metadata.latent_dim, self.metadata.hyperparameters
        )
        if self.family.second_head != self.second_head:
            found = f"a head {self.second_head} with metadata of family {self.metadata.family}"
            raise unfit(path, f"a head {self.family.second_head}", found, "export the model again")
        # Bytes and 16-bit samples cannot be scaled before the graph, so a model that takes them scales inside.
        self.scales_inside = metadata is not None or self.metadata.sample_type != "float32"
        self._input_options = input_options or InputOptions()

    @property
    def latent_dim(self) -> int:
        """Number K of latent dimensions."""
        return self.metadata.latent_dim

    def encode(self, samples: npt.NDArray[Any]) -> Heads:
        """Heads for samples of the data set's own dtype, shape (B, H, W, C).

        Raises:
            ContractError: The outputs do not have the shape (B, K).
        """
        try:
            mu, second = self._session.run(list(self._outputs), {self._input.name: self._fed(samples)})
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
            raise unfit(
                self.path, "a graph that runs", _first_line(error), "check the model with onnx.checker"
            ) from None
        expected = (len(samples), self.latent_dim)
        for name, head in zip(self._outputs, (mu, second), strict=True):
            if head.shape != expected:
                raise unfit(
                    self.path,
                    f"{name} of shape {expected}",
                    f"shape {head.shape}",
                    "check the heads that are named",
                )
        return Heads(np.asarray(mu, dtype=np.float32), np.asarray(second, dtype=np.float32))

    def _fed(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        images = samples if self.scales_inside else samples.astype(np.float32)
        if not self.scales_inside and np.issubdtype(samples.dtype, np.integer):
            options = self._input_options
            images *= (options.high - options.low) / np.iinfo(samples.dtype).max
            images += options.low
        return images.transpose(0, 3, 1, 2) if self.metadata.layout == "NCHW" else images

    def _find_heads(self, names: HeadNames) -> tuple[tuple[str, str], str]:
        outputs = {output.name: output for output in self._session.get_outputs()}
        mu = names.mu or MU
        if names.p and names.logvar:
            raise OptionError(
                "two second heads are named", expected="--p or --logvar", found="both", remedy="leave one out"
            )
        candidates = (
            [(names.p, P)] if names.p else [(names.logvar, LOGVAR)] if names.logvar else [(P, P), (LOGVAR, LOGVAR)]
        )
        for name, kind in candidates:
            if mu in outputs and name in outputs and name is not None:
                return (mu, name), kind
        listed = ", ".join(f"{o.name} {_shape_text(o.shape)}" for o in outputs.values())
        wanted = " or ".join(f"({mu}, {name})" for name, _ in candidates)
        raise unfit(
            self.path,
            f"outputs {wanted}",
            f"outputs {listed}",
            "name the heads with --mu and --p or --logvar",
        )

    def _find_input(self) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in SAMPLE_TYPES:
            listed = ", ".join(f"{i.name} {i.type} {_shape_text(i.shape)}" for i in inputs) or "none"
            raise unfit(
                self.path,
                "one input of images with four axes, uint8, uint16 or float32",
                f"inputs {listed}",
                "export the encoder with one image input",
            )
        batch = inputs[0].shape[0]
        if isinstance(batch, int):
            raise unfit(
                self.path,
                "a dynamic batch, so that any number of images fits",
                f"a batch of {batch}",
                "export it with the first axis dynamic",
            )
        return inputs[0]

    def _check_input(self) -> None:
        """Metadata that contradict the graph would only show as an error of the first run."""
        metadata = self.metadata
        height, width, channels = metadata.image_shape
        axes = (channels, height, width) if metadata.layout == "NCHW" else metadata.image_shape
        fits = all(not isinstance(n, int) or n == axis for n, axis in zip(self._input.shape[1:], axes, strict=True))
        if not fits or SAMPLE_TYPES[self._input.type] != metadata.sample_type:
            raise unfit(
                self.path,
                f"an input of {metadata.sample_type} {_shape_text(['N', *axes])}, as its metadata say",
                f"{self._input.type} {_shape_text(self._input.shape)}",
                "export it again",
            )

    def _infer(self, options: InputOptions) -> ModelMetadata:
        """What the shapes tell of a model without metadata."""
        shape = self._input.shape
        layout = options.layout or _infer_layout(self.path, shape)
        axes = [shape[i] for i in ((1, 2, 3) if layout == "NHWC" else (2, 3, 1))]
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        latent_dim: Any = next(iter(outputs[self._outputs[0]][1:]), "unknown")
        if not all(isinstance(n, int) and n > 0 for n in (*axes, latent_dim)):
            raise unfit(
                self.path,
                "fixed height, width, channels and latent dimensions",
                f"input {_shape_text(shape)} and {self._outputs[0]} of {latent_dim} dimensions",
                "export it with only the batch dynamic",
            )
        sample_type = SAMPLE_TYPES[self._input.type]
        family = "gaussian" if self.second_head == LOGVAR else "normal-gamma"
        law = "a Gaussian posterior" if family == "gaussian" else "the paper's Normal-Gamma posterior and its values"
        self.notes.append(
            f"The encoder has no ngvae_tools metadata: assumed {law}, layout {layout}"
            + (f", and input from {options.low:g} to {options.high:g}." if sample_type == "float32" else ".")
        )
        return ModelMetadata(
            role="encoder",
            family="gaussian" if family == "gaussian" else "normal-gamma",
            latent_dim=latent_dim,
            image_shape=(axes[0], axes[1], axes[2]),
            sample_type=sample_type,
            layout=layout,
        )


def _open(path: Path, data: bytes, device: str, threads: int) -> Any:
    providers = providers_for(device)
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no public base
        raise unfit(path, "an ONNX model that onnxruntime can run", _first_line(error), "export it again") from None


def _infer_layout(path: Path, shape: list[Any]) -> Layout:
    first, last = shape[1] in (1, 2, 3, 4), shape[3] in (1, 2, 3, 4)
    if first == last:
        raise unfit(
            path,
            "a channel axis that can be told apart",
            f"input {_shape_text(shape)}",
            "name it with --layout",
        )
    return "NCHW" if first else "NHWC"


def _shape_text(shape: list[Any]) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ")"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__
