"""The numbers of analyses, training runs and several models that a condition may name; stdlib only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ngvae_tools.reporting.known import METRICS
from ngvae_tools.reporting.metrics import LABELS
from ngvae_tools.reporting.rules import score_name

if TYPE_CHECKING:
    from ngvae_tools.analysis.stability import Stability
    from ngvae_tools.record import AnalysisRecord, Reconstruction
    from ngvae_tools.run import EpochRecord, RunRecord

T = TypeVar("T")

RULE_NAMES = ("p", "variance", "active", "rate", "information", "type", "snr")
"""Rules whose counts have a name."""


@dataclass(frozen=True, slots=True)
class Quantity(Generic[T]):
    """A number with a name.

    Attributes:
        meaning: What it is, with its unit.
        of: Its value; None where it is not there or not defined.
        needs: What gives it where it is not there.
    """

    meaning: str
    of: Callable[[T], float | None]
    needs: str


_NOTES = "the notes of the analysis say why"
_DECODER = "select-latents --decoder measures it"
_VERIFY = "select-latents --verify with --decoder measures it"
_LABELS = "select-latents measures it where there are labels; else the notes say why"
_BOOTSTRAP = "select-latents gives it unless --bootstrap is 0"


def _ends(place: int) -> Callable[[AnalysisRecord], float | None]:
    return lambda r: None if r.selection.count_interval is None else r.selection.count_interval[place]


def _count_by(rule: str) -> Callable[[AnalysisRecord], float | None]:
    return lambda r: next((found.count for found in (r.selection, *r.rules) if found.rule == rule), None)


def _metric(name: str) -> Callable[[AnalysisRecord], float | None]:
    return lambda r: getattr(r.metrics, name)


def _known(name: str) -> Callable[[AnalysisRecord], float | None]:
    return lambda r: None if r.supervised is None else getattr(r.supervised, name)


def _reconstruction(of: Callable[[Reconstruction], float | None]) -> Callable[[AnalysisRecord], float | None]:
    return lambda r: None if r.reconstruction is None else of(r.reconstruction)


def _decibels(value: float | None) -> float:
    # The record says None where equal images make it infinite.
    return math.inf if value is None else value


def _used(record: AnalysisRecord) -> int:
    return record.data.n_images - record.data.n_rejected


def _per_image(record: AnalysisRecord) -> float | None:
    return record.latents.bytes / _used(record) if _used(record) > 0 else None


def _times(name: str) -> Callable[[AnalysisRecord], float | None]:
    def times(record: AnalysisRecord) -> float | None:
        size, each = getattr(record.latents, name), _per_image(record)
        return None if size is None or not each else size / each

    return times


ANALYSIS: dict[str, Quantity[AnalysisRecord]] = {
    "informative": Quantity("informative dimensions by the analysis's own rule", lambda r: r.selection.count, _NOTES),
    "informative.low": Quantity("lower end of that count's interval", _ends(0), _BOOTSTRAP),
    "informative.high": Quantity("upper end of that count's interval", _ends(1), _BOOTSTRAP),
    **{
        f"informative.{rule}": Quantity(
            f"informative dimensions by {'their type' if rule == 'type' else score_name(rule)}",
            _count_by(rule),
            "the rule does not apply to the model's family",
        )
        for rule in RULE_NAMES
    },
    "latent_dim": Quantity("latent dimensions K of the model", lambda r: r.model.latent_dim, _NOTES),
    "images": Quantity("images used", _used, _NOTES),
    "rejected": Quantity("images that could not be used", lambda r: r.data.n_rejected, _NOTES),
    "rejected_share": Quantity(
        "the same as a share of all images, 0 to 1",
        lambda r: r.data.n_rejected / r.data.n_images if r.data.n_images else None,
        "there are no images",
    ),
    **{name: Quantity(label, _metric(name), _NOTES) for name, label in LABELS.items()},
    "intrinsic_dimension": Quantity(
        "intrinsic dimension of the latents by TwoNN",
        lambda r: None if r.intrinsic_dimension is None else r.intrinsic_dimension.two_nn,
        _NOTES,
    ),
    "intrinsic_dimension.ml": Quantity(
        "the same by maximum likelihood",
        lambda r: None if r.intrinsic_dimension is None else r.intrinsic_dimension.maximum_likelihood,
        _NOTES,
    ),
    "knee": Quantity(
        "dimensions at the knee of the reconstruction error, in order of relevance",
        lambda r: None if r.truncation is None else r.truncation.by_relevance.knee,
        f"{_DECODER}, or its curve has no knee",
    ),
    "reconstruction_error": Quantity(
        "mean squared error with every dimension kept, images in [0, 1]",
        lambda r: None if r.truncation is None else r.truncation.by_relevance.error[-1],
        _DECODER,
    ),
    "psnr": Quantity(
        "PSNR of images decoded from the latent file, dB",
        _reconstruction(lambda x: _decibels(x.psnr_quantised)),
        _VERIFY,
    ),
    "ssim": Quantity("SSIM of the same", _reconstruction(lambda x: x.ssim_quantised), _VERIFY),
    "psnr_quantisation": Quantity(
        "PSNR of what quantisation alone changes, dB", _reconstruction(lambda x: _decibels(x.psnr_both)), _VERIFY
    ),
    **{name: Quantity(label, _known(name), _LABELS) for name, label in METRICS.items()},
    "bytes": Quantity("size of the latent file", lambda r: r.latents.bytes, _NOTES),
    "bytes_per_image": Quantity("the same an image", _per_image, "there are no images"),
    "smaller_than_raw": Quantity(
        "how many times the images in memory are as large as the latent file", _times("raw_bytes"), _NOTES
    ),
    "smaller_than_png": Quantity("the same of the images as PNG", _times("png_bytes"), "their type has no PNG"),
    "smaller_than_jpeg": Quantity(
        "the same of the images as JPEG of quality 90", _times("jpeg_bytes"), "their type has no JPEG"
    ),
    "images_per_second": Quantity(
        "speed of select-latents", lambda r: r.timings.get("images_per_second"), "the record has no timings"
    ),
}
"""Of each analysis."""


def _udr(stability: Stability) -> float | None:
    return min((model.udr for model in stability.models if model.udr is not None), default=None)


_COMPARABLE = "only analyses of the same data can be matched"

STABILITY: dict[str, Quantity[Stability]] = {
    "stability.spread": Quantity(
        "largest less smallest number of informative dimensions, of several analyses",
        lambda s: s.count_range[1] - s.count_range[0],
        _COMPARABLE,
    ),
    "stability.udr": Quantity("smallest UDR of several analyses, at most 1", _udr, _COMPARABLE),
    "stability.unmatched": Quantity(
        "most dimensions without a partner in one of two analyses",
        lambda s: max((max(len(pair.alone_a), len(pair.alone_b)) for pair in s.pairs), default=None),
        _COMPARABLE,
    ),
}
"""Of all analyses together."""


def _last(of: Callable[[EpochRecord], float | None]) -> Callable[[RunRecord], float | None]:
    return lambda r: of(r.epochs[-1]) if r.epochs else None


def _held_out(name: str) -> Callable[[EpochRecord], float | None]:
    return lambda epoch: None if epoch.held_out is None else getattr(epoch.held_out, name)


def _train(name: str) -> Callable[[EpochRecord], float | None]:
    return lambda epoch: getattr(epoch.train, name)


_EPOCH = "no epoch has finished"
_FIGURES = {
    "loss": "loss of the last epoch (constants dropped), nats",
    "distortion": "distortion of the last epoch, nats",
    "rate": "rate of the last epoch, nats",
    "mse": "mean squared error of a pixel in the last epoch",
}

RUN: dict[str, Quantity[RunRecord]] = {
    "run.epochs": Quantity("epochs of a training", lambda r: len(r.epochs), _EPOCH),
    "run.finished": Quantity("1 where a training has finished, else 0", lambda r: r.summary is not None, _EPOCH),
    "run.diverged": Quantity("1 where a training diverged, else 0", lambda r: r.diverged is not None, _EPOCH),
    "run.informative": Quantity("informative dimensions after its last epoch", _last(lambda e: e.informative), _EPOCH),
    **{f"run.{name}": Quantity(meaning, _last(_train(name)), _EPOCH) for name, meaning in _FIGURES.items()},
    **{
        f"run.held_out_{name}": Quantity(
            f"{meaning}, on held-out images", _last(_held_out(name)), f"{_EPOCH}, or no images are held out"
        )
        for name, meaning in _FIGURES.items()
    },
    "run.seconds": Quantity("seconds of all its epochs", lambda r: sum(e.seconds for e in r.epochs), _EPOCH),
}
"""Of each training run."""

MEANINGS: dict[str, str] = {
    **{name: quantity.meaning for name, quantity in ANALYSIS.items()},
    **{name: quantity.meaning for name, quantity in STABILITY.items()},
    **{name: quantity.meaning for name, quantity in RUN.items()},
}
"""Every name and what it means."""
