"""What a selection is measured against besides the latents themselves: a decoder, and known factors."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ngvae_tools.analysis.survey import Findings
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.errors import DatasetError, OptionError
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.record import Reconstruction, Supervised, Truncation
from ngvae_tools.workflows.opening import scale_for

if TYPE_CHECKING:
    from ngvae_tools.analysis.disentanglement import Settings
    from ngvae_tools.inference.decoder import DecoderSession
    from ngvae_tools.workflows.supervised import Labels

LABELLED_IMAGES = 50_000
"""Labelled images that the supervised metrics draw from, at most."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured.

    Attributes:
        truncation: What dropping dimensions costs; None without a decoder.
        supervised: Disentanglement metrics; None without labels.
        seconds: How long each took, by the name of its timing.
        notes: Sentences a reader must know.
        decoder_sha256: Hash of the decoder; None without one.
        decoder_bytes: Size of its file; None without one.
        labels: Of the images; None without any.
        verify: Says what quantisation cost in the images of a latent file, and notes; None unless asked for.
    """

    truncation: Truncation | None = None
    supervised: Supervised | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decoder_sha256: str | None = None
    decoder_bytes: int | None = None
    labels: Labels | None = None
    verify: Callable[[Path], tuple[Reconstruction, tuple[str, ...]]] | None = None


class EvidenceSources:
    """A decoder and labels, opened and checked before the data set is encoded.

    Args:
        session: The encoder.
        dataset: The data set that will be encoded.
        decoder: The decoder file, or the folder of a training run.
        labels: A CSV file keyed by relative path, or `auto` for the labels within the data set.
        device: Where the decoder runs.
        settings: Of the supervised metrics; the definitions' own by default.
        verify: Decode the latent file's sample, too, when it is written.
        any_decoder: Take a decoder that says that it is of another training than the encoder.

    Raises:
        ContractError: The decoder cannot be used, or is not that of the encoder.
        DatasetError: The labels cannot be read, or do not fit the data set.
        OptionError: The encoder's latents are spatial.
    """

    def __init__(
        self,
        session: EncoderSession,
        dataset: ImageDataset,
        *,
        decoder: str | os.PathLike[str] | None,
        labels: str | os.PathLike[str] | None,
        device: str,
        settings: Settings | None = None,
        verify: bool = False,
        any_decoder: bool = False,
    ) -> None:
        self._verify = verify
        self._dataset = dataset
        self._settings = settings
        self._scale = scale_for(session, dataset)
        self._decoder: DecoderSession | None = None
        self._labels: Labels | None = None
        if session.positions > 1 and (decoder is not None or labels is not None):
            raise OptionError(
                "--decoder and --labels need one latent vector an image",
                expected="an encoder with heads of shape (N, K)",
                found=f"{session.positions} positions, each with {session.latent_dim} channels",
                remedy="pass --spatial position, which makes every channel at every position a dimension",
            )
        if decoder is not None:
            from ngvae_tools.inference.decoder import OutputOptions
            from ngvae_tools.workflows.truncation import open_decoder

            # A decoder from elsewhere is taken to return images in the range that its encoder takes.
            span = session.input_range
            output_options = None if span is None else OutputOptions(low=span[0], high=span[1])
            self._decoder = open_decoder(
                Path(decoder), session, device=device, output_options=output_options, any_decoder=any_decoder
            )
        if labels is not None:
            from ngvae_tools.workflows.supervised import open_labels

            self._labels = open_labels(labels, dataset)
            if self._labels is None:
                raise DatasetError(
                    f"{dataset.location} holds no labels",
                    expected="labels in the file itself, or a file labels.csv in the folder",
                    found="neither",
                    remedy="name a CSV file with --labels, or leave the option out",
                )

    def measure(self, findings: Findings) -> Evidence:
        """Measure on a sample of the images that were encoded."""
        seconds: dict[str, float] = {}
        with _timed(seconds, "truncation_seconds", wanted=self._decoder is not None):
            truncation = self._truncation(findings)
        with _timed(seconds, "supervised_seconds", wanted=self._labels is not None):
            supervised = self._supervised(findings)
        # Only what came out tells whether the decoder belongs to the encoder.
        decoder = self._decoder
        return Evidence(
            truncation,
            supervised,
            seconds,
            notes=() if decoder is None else tuple(decoder.notes),
            decoder_sha256=None if decoder is None else decoder.sha256,
            decoder_bytes=None if decoder is None else decoder.path.stat().st_size,
            labels=self._labels if self._labels is not None and self._labels.columns else None,
            verify=None if decoder is None or not self._verify else partial(self._verified, decoder, findings),
        )

    def _verified(
        self, decoder: DecoderSession, findings: Findings, path: Path
    ) -> tuple[Reconstruction, tuple[str, ...]]:
        from ngvae_tools.workflows.reconstruct import verify_latents
        from ngvae_tools.workflows.truncation import SAMPLE_IMAGES, scale_of

        chosen = findings.sample.smallest(SAMPLE_IMAGES)
        scale = scale_of(decoder, self._dataset, self._scale)
        rows, mu = findings.sample.row[chosen], findings.sample.mu[chosen]
        return verify_latents(path, self._dataset, decoder, rows, mu, scale)

    def _truncation(self, findings: Findings) -> Truncation | None:
        if self._decoder is None:
            return None
        from ngvae_tools.workflows.truncation import SAMPLE_IMAGES, measure_truncation

        chosen = findings.sample.smallest(SAMPLE_IMAGES)
        variance = findings.scores.variance
        return measure_truncation(
            self._decoder,
            self._dataset,
            findings.sample.row[chosen],
            findings.sample.mu[chosen],
            scale=self._scale,
            mean=findings.statistics.mu.mean,
            posterior_std=None if variance is None else np.sqrt(variance),
            information=findings.scores.information,
        )

    def _supervised(self, findings: Findings) -> Supervised | None:
        if self._labels is None:
            return None
        from ngvae_tools.workflows.supervised import measure_supervised

        chosen = findings.sample.smallest(LABELLED_IMAGES)
        rows, mu = findings.sample.row[chosen], findings.sample.mu[chosen]
        return measure_supervised(self._labels, rows, mu, settings=self._settings)


def check_decoder_options(*, decoder: object, verify: bool, any_decoder: bool) -> None:
    """Refuse --verify and --any-decoder without a decoder.

    Raises:
        OptionError: It is so.
    """
    for option, given in (("--verify", verify), ("--any-decoder", any_decoder)):
        if given and decoder is None:
            raise OptionError(
                f"{option} cannot be used",
                expected="a decoder, which makes images of the latents",
                found="none",
                remedy=f"pass --decoder, or leave {option} out",
            )


@contextmanager
def _timed(seconds: dict[str, float], name: str, *, wanted: bool) -> Iterator[None]:
    started = time.perf_counter()
    yield
    if wanted:
        seconds[name] = time.perf_counter() - started
