"""Export encoders and decoders that were written without ngvae-tools in mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporters.export import CHECKED_BATCHES, ExportReport, export_sample_decoder, export_sample_encoder
from exporters.graph import first_line
from exporters.heads import Dimensions, HeadPlan, Key, check_heads, fields_of, plan_heads
from exporters.prepare import check_module, prepared
from exporters.scaling import SCALES, PerChannel, Range, Scaling, check_sample_type, samples_of
from ngvae_tools.contract import Family, InputScale, ModelMetadata, Resize
from ngvae_tools.errors import ExportError, OptionError
from ngvae_tools.training.networks import leaves_range, scaled

IMAGE_NAMES = ("reconstruction", "recon_x", "x_recon", "recon", "x_hat", "sample", "image", "images")


def export_encoder(
    module: nn.Module,
    example: Any,
    path: Path | str,
    *,
    method: str = "forward",
    heads: Sequence[Key] | None = None,
    family: Family | None = None,
    hyperparameters: Mapping[str, float | tuple[float, ...]] | None = None,
    input_range: Range = (0.0, 1.0),
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    sample_type: str = "uint8",
    dimensions: Dimensions = "channel",
    resize: Resize | None = None,
) -> ExportReport:
    """Export any encoder of images; the file takes a data set's own samples and scales them inside.

    The module is left as it was: on its device, in its precision, in training or evaluation mode.

    Args:
        module: Takes images, float (B, C, H, W), and returns (mu, logvar), (mu, p) or mu, as a tuple, a dict or a
            dataclass; each (B, K), or (B, C, h, w) for a spatial latent.
        example: A batch of the module's own input, B at least 1. It tells the images' shape, and real images
            make the check of the file stronger.
        path: The file to write; it appears under this name only once it has passed every check.
        method: What to call of the module, such as `encode`.
        heads: Names or positions of mu and of logvar or p in what the module returns; None to go by known
            names, or by the order (mu, second head).
        family: Law of the posterior; None: `gaussian` with two heads, `deterministic` with mu alone. An encoder
            with p needs `normal-gamma` or `normal-gamma-mixture`.
        hyperparameters: Numbers of the family; the paper's where absent.
        input_range: What the smallest and the largest sample become.
        mean: Subtracted after that, one for all or one a channel.
        std: Divided by after that, one for all or one a channel.
        sample_type: Type of the data set's samples: uint8, uint16, or float32 in [0, 1].
        dimensions: What a dimension of a spatial latent is: a `channel`, whose positions are separate
            observations (mu stays (B, C, h, w), K = C), or each `channel-position` (K = C h w).
        resize: How the training images were brought to the model's size.

    Raises:
        ContractError: The hyperparameters do not fit the family.
        ExportError: The module does not run on the example, its outputs cannot be told apart, it samples, or the
            file does not compute what the module computes.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OptionError: An argument cannot be used.
        OutputError: The file cannot be written.
    """
    check_module(module)
    images = _checked_tensor(example, {4}, "images of shape (B, C, H, W)")
    scaling = Scaling.of(input_range, mean, std, images.shape[1])
    scaling.check(images)
    check_sample_type(sample_type)
    if dimensions not in {"channel", "channel-position"}:
        raise OptionError(
            "dimensions cannot be used",
            expected="channel or channel-position",
            found=repr(dimensions),
            remedy="name one of them",
        )
    with prepared(module) as ready:
        result = _run(ready, method, images)
        plan = plan_heads(result, heads, family)
        found = plan.pick(result)
        check_heads(found, len(images))
        # One position is none: (B, K, 1, 1) is (B, K).
        flatten = dimensions == "channel-position" or found[0].shape[2:] == (1, 1)
        metadata = ModelMetadata(
            role="encoder",
            family=plan.family,
            latent_dim=found[0][0].numel() if flatten else found[0].shape[1],
            image_shape=(images.shape[2], images.shape[3], images.shape[1]),
            sample_type=sample_type,
            scale=SCALES[sample_type],
            hyperparameters=hyperparameters or {},
            resize=resize,
        )
        return export_sample_encoder(
            _SampleEncoder(_Method(ready, method), plan, scaling, metadata.scale, flatten=flatten),
            path,
            metadata,
            samples=[samples_of(scaling.invert(images[: CHECKED_BATCHES[-1]]), sample_type)],
        )


def export_decoder(
    module: nn.Module,
    example: Any,
    path: Path | str,
    *,
    method: str = "forward",
    family: Family = "gaussian",
    hyperparameters: Mapping[str, float | tuple[float, ...]] | None = None,
    output_range: Range = (0.0, 1.0),
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    sample_type: str = "uint8",
) -> ExportReport:
    """Export any decoder to images; the file returns them with the channels last, 0 and 1 the ends of the samples.

    The module is left as it was: on its device, in its precision, in training or evaluation mode.

    Args:
        module: Takes z, float (B, K) or (B, C, h, w), and returns images (B, C, H, W), as a tensor, or named
            `reconstruction`, `recon_x`, `sample` or the like in a dict or a dataclass.
        example: A batch of z, B at least 1; it tells K and, of a spatial latent, rows and columns.
        path: The file to write; it appears under this name only once it has passed every check.
        method: What to call of the module, such as `decode`.
        family: Law of the encoder's posterior.
        hyperparameters: Numbers of the family; the paper's where absent.
        output_range: The module's images for the smallest and the largest sample; what lies beyond is not clipped.
        mean: Mean that the module's images are normalised by, one for all or one a channel.
        std: Standard deviation that the module's images are normalised by, one for all or one a channel.
        sample_type: Type of the data set's samples.

    Raises:
        ExportError: The module does not run on the example, or the file does not compute what it computes.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OptionError: An argument cannot be used.
        OutputError: The file cannot be written.
    """
    check_module(module)
    z = _checked_tensor(example, {2, 4}, "latents z of shape (B, K) or (B, C, h, w)")
    check_sample_type(sample_type)
    with prepared(module) as ready:
        result = _run(ready, method, z)
        key = _image_key(result)
        images = fields_of(result)[key]
        if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(z):
            found = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise ExportError(
                "what the module returns cannot be exported",
                expected=f"images of shape ({len(z)}, C, H, W)",
                found=found,
                remedy="wrap the module in one that returns images",
            )
        scaling = Scaling.of(output_range, mean, std, images.shape[1])
        metadata = ModelMetadata(
            role="decoder",
            family=family,
            latent_dim=z.shape[1],
            image_shape=(images.shape[2], images.shape[3], images.shape[1]),
            sample_type=sample_type,
            scale=SCALES[sample_type],
            hyperparameters=hyperparameters or {},
        )
        grid = None if z.ndim == 2 else (z.shape[2], z.shape[3])
        return export_sample_decoder(_SampleDecoder(_Method(ready, method), key, scaling), path, metadata, grid=grid)


class _Method(nn.Module):
    """One method of a module, called as a module."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, batch: Tensor) -> Any:
        return (self.module if self.method == "forward" else getattr(self.module, self.method))(batch)


class _SampleEncoder(nn.Module):
    """Samples (B, H, W, C) in, heads out."""

    def __init__(
        self, call: Callable[[Tensor], Any], plan: HeadPlan, scaling: Scaling, scale: InputScale, *, flatten: bool
    ) -> None:
        super().__init__()
        self.call = call
        self.plan = plan
        self.scaling = scaling
        self.scale = scale
        self.flatten = flatten

    def forward(self, samples: Tensor) -> tuple[Tensor, ...]:
        # The axes move while the samples are still bytes: measured faster than after the cast.
        clip = leaves_range(samples, self.scale)
        unit = scaled(samples.permute(0, 3, 1, 2).float(), self.scale, clip=clip)
        found = self.plan.pick(self.call(self.scaling.apply(unit)))
        return tuple(head.flatten(1) if self.flatten else head for head in found)


class _SampleDecoder(nn.Module):
    """z in, images with the channels last out, on the scale of the samples' ends."""

    def __init__(self, call: Callable[[Tensor], Any], key: Key, scaling: Scaling) -> None:
        super().__init__()
        self.call = call
        self.key = key
        self.scaling = scaling

    def forward(self, z: Tensor) -> Tensor:
        images = fields_of(self.call(z))[self.key]
        return self.scaling.invert(images).permute(0, 2, 3, 1)


def _checked_tensor(example: Any, axes: set[int], what: str) -> Tensor:
    """The example on the CPU, in float32."""
    expected = f"a batch of the module's own input, float {what}"
    try:
        tensor = torch.as_tensor(example).detach()
    except (TypeError, ValueError, RuntimeError):
        found = f"a {type(example).__name__}"
    else:
        if tensor.is_floating_point() and tensor.ndim in axes and 0 not in tensor.shape and tensor.isfinite().all():
            return tensor.to("cpu", torch.float32)
        found = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        found += "" if tensor.isfinite().all() else " with values that are not finite"
    raise OptionError(
        "the example cannot be used",
        expected=expected,
        found=found,
        remedy="give what the module takes; export_sample_encoder exports modules that take samples",
    )


def _run(module: nn.Module, method: str, batch: Tensor) -> Any:
    if not callable(getattr(module, method, None)):
        raise OptionError(
            f"the module has no method {method}",
            expected="a method that takes the example",
            found=f"a {type(module).__name__}",
            remedy="name another with method=",
        )
    try:
        with torch.no_grad():
            return _Method(module, method)(batch)
    except Exception as error:
        raise ExportError(
            "the module does not run on the example",
            expected=f"a result for a batch of shape {tuple(batch.shape)}",
            found=first_line(error),
            remedy="correct the example, or name another method with method=",
        ) from error


def _image_key(result: Any) -> Key:
    fields = fields_of(result)
    if len(fields) == 1:
        (key,) = fields
        return key
    keys: list[Key] = [name for name in IMAGE_NAMES if name in fields]
    if len(keys) != 1:
        raise ExportError(
            "what the module returns cannot be exported",
            expected="images alone, or one output named reconstruction",
            found=", ".join(str(key) for key in fields) or "nothing",
            remedy="wrap the module in one that returns images",
        )
    return keys[0]
