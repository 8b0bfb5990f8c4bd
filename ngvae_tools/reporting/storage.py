"""What the latent file takes and what it costs, as rows of label and text; stdlib only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import ABSENT, count, number, plain

if TYPE_CHECKING:
    from ngvae_tools.record import AnalysisRecord, LatentsInfo


def rows(record: AnalysisRecord) -> list[tuple[str, str]]:
    """Size of the file, its codes against their entropy, the error made, and the images it stands for."""
    latents = record.latents
    images = record.data.n_images - record.data.n_rejected
    per_image = number(latents.bytes / images, 2) if images > 0 else ABSENT
    codec = "" if latents.codec == "deflate" else f", codec {plain(latents.codec)}"
    found = [
        ("Latent file", f"{plain(latents.file)}, {count(latents.bytes)} bytes, {per_image} an image{codec}"),
        ("Codes", _codes(latents)),
        ("Error of codes", _error(record)),
        ("Against images", _against_images(latents, images)),
    ]
    return [(label, text) for label, text in found if text]


BIT_HEADS = ("dimension", "bits an image", "entropy, bits", "times the entropy", "largest error", "mean squared error")

RATIO_HEADS = ("an image as", "bytes an image", "times the latents", "times the latents and the decoder")


def bit_rows(record: AnalysisRecord) -> list[list[str]]:
    """What each stored dimension takes against its entropy, and the error made, cells as `BIT_HEADS` names them."""
    latents = record.latents
    entropy: tuple[float | None, ...] = latents.entropy_bits or (None,) * len(latents.bits)
    lines = zip(latents.dimensions, latents.bits, entropy, latents.max_error, latents.mean_squared_error, strict=False)
    return [
        [
            str(k),
            number(bits, 2),
            number(least, 2),
            number(bits / least) if least else ABSENT,
            number(largest),
            number(error),
        ]
        for k, bits, least, largest, error in lines
    ]


def ratio_rows(record: AnalysisRecord) -> list[list[str]]:
    """Bytes an image, and how many times those of the latents, cells as `RATIO_HEADS` names them; the latents first."""
    latents = record.latents
    images = record.data.n_images - record.data.n_rejected
    if images < 1:
        return []
    each = latents.bytes / images
    both = None if latents.decoder_bytes is None else each + latents.decoder_bytes / images
    kinds = [
        ("latents", each),
        ("latents and the decoder", both),
        ("raw", latents.raw_bytes),
        ("PNG", latents.png_bytes),
        ("JPEG, quality 90", latents.jpeg_bytes),
    ]
    return [
        [name, number(size, 2), f"{size / each:.3g}", ABSENT if both is None else f"{size / both:.3g}"]
        for name, size in kinds
        if size
    ]


def _codes(latents: LatentsInfo) -> str:
    if not latents.bits:
        return ""
    stored, entropy = sum(latents.bits), sum(latents.entropy_bits or ())
    text = f"{number(stored, 2)} bits in {count(len(latents.bits))} dimensions"
    return f"{text}, {stored / entropy:.3f} of their entropy" if entropy else text


def _error(record: AnalysisRecord) -> str:
    latents = record.latents
    if latents.distortion is None:
        return "none: float32"
    variances = [record.dimensions[k].posterior_variance for k in latents.dimensions]
    shares = [error / noise for error, noise in zip(latents.mean_squared_error, variances, strict=True) if noise]
    if not shares:
        return ""
    return f"{100 * max(shares):.2g} % of the posterior variance at most, on average over images"


def _against_images(latents: LatentsInfo, images: int) -> str:
    """How many times smaller the file is than the images it stands for, the decoder counted or not."""
    kinds = [("raw", latents.raw_bytes), ("PNG", latents.png_bytes), ("JPEG (quality 90)", latents.jpeg_bytes)]
    known = [(name, size) for name, size in kinds if size]
    if not known or images < 1:
        return ""

    def times(extra: int) -> str:
        each = (latents.bytes + extra) / images
        return ", ".join(f"{name} {size / each:.3g}" for name, size in known) + " times as large"

    text = times(0)
    return (
        text if latents.decoder_bytes is None else f"{text}; counted with the decoder: {times(latents.decoder_bytes)}"
    )
