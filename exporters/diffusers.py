"""Export diffusers' AutoencoderKL and models like it; diffusers is not imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exporters.export import ExportReport
from exporters.foreign import export_decoder, export_encoder
from exporters.heads import Dimensions
from exporters.prepare import check_module, prepared
from ngvae_tools.contract import Resize
from ngvae_tools.errors import OptionError

RANGE = (-1.0, 1.0)
"""Range of the images that diffusers' autoencoders take and return."""


def export_diffusers(
    autoencoder: nn.Module,
    path: Path | str,
    *,
    dimensions: Dimensions = "channel",
    decoder_path: Path | str | None = None,
    example: Any = None,
    sample_type: str = "uint8",
    resize: Resize | None = None,
) -> tuple[ExportReport, ExportReport | None]:
    """Export the encoder, and by option the decoder, of an AutoencoderKL.

    The latents are those of `encode(x).latent_dist`, without the pipeline's scaling and shift factors; logvar is
    clamped to [-30, 20] as diffusers does.

    Args:
        autoencoder: An AutoencoderKL.
        path: The encoder file to write.
        dimensions: `channel`: a dimension is a latent channel, its positions separate observations, and the heads
            are (N, C, h, w). `channel-position`: each channel at each position is a dimension, the heads (N, C h w).
        decoder_path: The decoder file to write, from z of the same shape; None writes none.
        example: A batch of images, float (B, C, H, W) in [-1, 1]; None: zeros of the configuration's `sample_size`.
        sample_type: Type of the data set's samples: uint8, uint16, or float32 in [0, 1].
        resize: How images are brought to that size.

    Returns:
        What was written of the encoder, and of the decoder.

    Raises:
        ExportError: A file does not compute what the autoencoder computes.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OptionError: The model is not such an autoencoder, or slices or tiles.
        OutputError: A file cannot be written.
    """
    _check(autoencoder)
    if example is None:
        config: Any = autoencoder.config
        size = config.sample_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        example = torch.zeros(1, config.in_channels, height, width)
    written = export_encoder(
        _Encoder(autoencoder),
        example,
        path,
        input_range=RANGE,
        dimensions=dimensions,
        sample_type=sample_type,
        resize=resize,
    )
    if decoder_path is None:
        return written, None
    shape = _latent_shape(autoencoder, example)
    latent_dim = written.metadata.latent_dim
    z = torch.zeros(1, latent_dim) if latent_dim == shape.numel() else torch.zeros(1, *shape)
    decoder = _Decoder(autoencoder, shape)
    return written, export_decoder(decoder, z, decoder_path, output_range=RANGE, sample_type=sample_type)


class _Encoder(nn.Module):
    """Images in, mean and clamped log-variance out."""

    def __init__(self, autoencoder: Any) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        law = self.autoencoder.encode(images).latent_dist
        return {"mu": law.mean, "logvar": law.logvar}


class _Decoder(nn.Module):
    """Latents in, flat or not, images out."""

    def __init__(self, autoencoder: Any, latent_shape: torch.Size) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.latent_shape = latent_shape

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.autoencoder.decode(z.reshape(-1, *self.latent_shape)).sample
        return images


def _latent_shape(autoencoder: nn.Module, example: Any) -> torch.Size:
    """(C, h, w) of one image's latents."""
    with prepared(autoencoder) as ready, torch.no_grad():
        mean: Tensor = _Encoder(ready)(torch.as_tensor(example)[:1].to("cpu", torch.float32))["mu"]
    return mean.shape[1:]


def _check(autoencoder: Any) -> None:
    check_module(autoencoder)
    if not all(hasattr(autoencoder, name) for name in ("encode", "decode", "config")):
        expected, found = "an AutoencoderKL with encode, decode and config", "one without"
        remedy = "export what returns (mu, logvar) with export_encoder"
    elif getattr(autoencoder, "use_slicing", False) or getattr(autoencoder, "use_tiling", False):
        expected, found = "an autoencoder that takes a batch of whole images at once", "slicing or tiling turned on"
        remedy = "call disable_slicing() and disable_tiling() first"
    else:
        return
    raise OptionError(f"{type(autoencoder).__name__} cannot be exported", expected=expected, found=found, remedy=remedy)
