"""Export models of pythae, as pythae has them: `model.encoder` and `model.decoder`; pythae is not imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exporters.export import ExportReport
from exporters.foreign import export_decoder, export_encoder
from exporters.prepare import check_module
from exporters.scaling import Range
from ngvae_tools.contract import Resize
from ngvae_tools.errors import OptionError

WITHOUT_POSTERIOR = frozenset({"AE", "RAE_GP", "RAE_L2", "WAE_MMD"})
"""Models that use the encoder's embedding alone, whatever else it returns."""

OTHER_POSTERIOR = frozenset({"HVAE", "PoincareVAE", "RHVAE", "SVAE", "VAE_IAF", "VAE_LinNF", "VQVAE"})
"""Models whose latents are not drawn from N(embedding, exp(log_covariance))."""


def export_pythae(
    model: nn.Module,
    path: Path | str,
    *,
    decoder_path: Path | str | None = None,
    example: Any = None,
    input_range: Range = (0.0, 1.0),
    sample_type: str = "uint8",
    resize: Resize | None = None,
) -> tuple[ExportReport, ExportReport | None]:
    """Export the encoder, and by option the decoder, of a pythae model with Gaussian or deterministic latents.

    Args:
        model: A pythae VAE, BetaVAE, IWAE, AE or another with `encoder` and `decoder`.
        path: The encoder file to write.
        decoder_path: The decoder file to write; None writes none.
        example: A batch of images, float (B, C, H, W); None: zeros of the model's `input_dim`.
        input_range: What the smallest and the largest sample become before the model sees them.
        sample_type: Type of the data set's samples: uint8, uint16, or float32 in [0, 1].
        resize: How the training images were brought to the model's size.

    Returns:
        What was written of the encoder, and of the decoder.

    Raises:
        ExportError: A file does not compute what the model computes.
        MissingDependencyError: onnxscript or onnxruntime is not installed.
        OptionError: The model is not one of pythae's, its latents have another law, or its images' shape is unknown.
        OutputError: A file cannot be written.
    """
    check_module(model)
    name = getattr(model, "model_name", type(model).__name__)
    encoder, decoder = getattr(model, "encoder", None), getattr(model, "decoder", None)
    if not (isinstance(encoder, nn.Module) and isinstance(decoder, nn.Module)) or name in OTHER_POSTERIOR:
        raise OptionError(
            f"{name} cannot be exported",
            expected="a pythae model with an encoder, a decoder, and latents from N(embedding, exp(log_covariance))",
            found="latents of another law" if name in OTHER_POSTERIOR else "no encoder or no decoder",
            remedy="export what returns (mu, logvar) with export_encoder",
        )
    if example is None:
        example = torch.full((1, *_image_shape(name, model)), input_range[0])
    written = export_encoder(
        encoder,
        example,
        path,
        heads=("embedding",) if name in WITHOUT_POSTERIOR else None,
        input_range=input_range,
        sample_type=sample_type,
        resize=resize,
    )
    if decoder_path is None:
        return written, None
    z = torch.zeros(1, written.metadata.latent_dim)
    family = written.metadata.family
    return written, export_decoder(
        decoder, z, decoder_path, family=family, output_range=input_range, sample_type=sample_type
    )


def _image_shape(name: str, model: Any) -> Sequence[int]:
    shape = getattr(model, "input_dim", None) or ()
    if len(shape) != 3:
        raise OptionError(
            f"the images of {name} have no known shape",
            expected="an input_dim of (C, H, W)",
            found=f"{tuple(shape)}",
            remedy="give a batch of its images with example=",
        )
    return tuple(shape)
