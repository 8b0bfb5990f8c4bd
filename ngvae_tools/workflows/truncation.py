"""What dropping dimensions costs: the images of a sample, read again and decoded with dimensions at their mean."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.truncation import truncation_cost
from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.errors import ContractError, DatasetError
from ngvae_tools.inference.decoder import DecoderSession, OutputOptions
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.record import Truncation
from ngvae_tools.reporting.costs import doubt_of
from ngvae_tools.run import DECODER_NAME
from ngvae_tools.workflows.decoding import APART, OR_ANY, refusal_of

SAMPLE_IMAGES = 256
"""Images that are decoded; each about 5 K times."""

SAMPLE_DIMENSIONS = 2**15
"""Images times dimensions at most, so that the decodings stay below 200,000."""

MAX_DIMENSIONS = 1024

SMALLEST_SAMPLE = 16
"""Images that are decoded however many dimensions there are."""

SAMPLE_BYTES = 2**28
"""Memory that they take at most, as float32; fewer images are used where they are large."""

Array = npt.NDArray[np.float64]


def open_decoder(
    path: Path,
    encoder: EncoderSession,
    *,
    device: str = "auto",
    threads: int | None = None,
    output_options: OutputOptions | None = None,
    any_decoder: bool = False,
) -> DecoderSession:
    """Open a decoder and check that it fits an encoder, before the expensive pass over the data.

    Args:
        path: The decoder file, or the folder of a training run.
        encoder: The encoder.
        device: `auto`, `cpu` or `cuda`.
        threads: Threads of the CPU provider.
        output_options: Layout and range of the images of a decoder from elsewhere.
        any_decoder: Take a decoder that says that it is of another training.

    Returns:
        The session; its `notes` say what a reader of the result must know.

    Raises:
        ContractError: The file cannot be used as a decoder, or is not that of the encoder.
        DeviceError: The device cannot run it.
    """
    path = path / DECODER_NAME if path.is_dir() else path
    session = DecoderSession(path, device=device, threads=threads, output_options=output_options)
    _check_fit(session, encoder)
    refusal = refusal_of(session, encoder.trained, f"the encoder {encoder.path}", OR_ANY)
    if refusal is not None:
        if not any_decoder:
            raise refusal
        session.notes.append(APART)
    return session


def measure_truncation(
    decoder: DecoderSession,
    dataset: ImageDataset,
    index: npt.NDArray[np.int64],
    mu: npt.NDArray[np.floating],
    *,
    scale: InputScale | None = None,
    mean: Array,
    posterior_std: Array | None,
    information: Array | None,
) -> Truncation:
    """What dropping dimensions costs, on a sample of images that were encoded before.

    Args:
        decoder: From `open_decoder`; its `notes` grow by what a reader must know.
        dataset: The data set as it was encoded; the sample's images are read again.
        index: Indices of the sample's images in the data set, shape (n,).
        mu: Their posterior means, shape (n, K).
        scale: How samples become images in [0, 1], where the decoder's metadata do not say it of samples of their
            type; the whole range of that type by default.
        mean: Mean of mu over the data set, shape (K,).
        posterior_std: Mean posterior standard deviation, shape (K,); None for deterministic codes.
        information: I(x; z_k), shape (K,); None where it is not defined.

    Raises:
        ContractError: The decoder's outputs do not fit.
        DatasetError: None of the sample's images can be read again.
    """
    order = np.argsort(index)
    index, mu = index[order], mu[order]
    room = min(
        SAMPLE_IMAGES,
        max(SMALLEST_SAMPLE, SAMPLE_DIMENSIONS // mu.shape[1]),
        max(1, SAMPLE_BYTES // (4 * math.prod(dataset.image_shape))),
    )
    if len(index) > room:
        chosen = np.linspace(0, len(index) - 1, room).round().astype(np.int64)
        index, mu = index[chosen], mu[chosen]
    images, found = read_images(dataset, index, scale_of(decoder, dataset, scale))
    cost = truncation_cost(images, mu[found], mean, posterior_std, information, decoder.decode)
    measured = Truncation(
        decoder=str(decoder.path),
        decoder_sha256=decoder.sha256,
        n_images=len(images),
        by_information=cost.by_information,
        by_relevance=cost.by_relevance,
        relevance=cost.relevance,
        effect=cost.effect,
        sensitivity=cost.sensitivity,
        mean_image_error=float(images.var(axis=0).mean()),
    )
    if doubt := doubt_of(measured):
        decoder.notes.append(doubt)
    return measured


def read_images(
    dataset: ImageDataset, index: npt.NDArray[np.int64], scale: InputScale
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Images by ascending index, in [0, 1], and which of the indices could be read, shape (n,).

    Raises:
        DatasetError: None of them can be read.
    """
    images = np.empty((len(index), *dataset.image_shape), dtype=np.float32)
    found = np.zeros(len(index), dtype=np.bool_)
    # One read for each run of neighbours.
    for run in np.split(np.arange(len(index)), np.flatnonzero(np.diff(index) != 1) + 1):
        samples, _ = dataset.read(int(index[run[0]]), int(index[run[-1]]) + 1)
        places = np.searchsorted(index, samples.index)
        scaled = (samples.images.astype(np.float32) - scale.low) / (scale.high - scale.low)
        images[places], found[places] = np.clip(scaled, 0, 1), True
    if not found.any():
        raise DatasetError(
            f"no image of the sample can be read again from {dataset.location}",
            expected="the images that were encoded",
            found=f"{len(index)} of {len(index)} that cannot be used",
            remedy="keep the data set unchanged while it is analysed",
        )
    return images[found], found


def _check_fit(decoder: DecoderSession, encoder: EncoderSession) -> None:
    wanted = (encoder.latent_dim, encoder.metadata.image_shape)
    found = (decoder.latent_dim, decoder.image_shape)
    if found != wanted:
        expected, other = (f"{k} latent dimensions and images of shape {shape}" for k, shape in (wanted, found))
        raise ContractError(
            f"the decoder {decoder.path} does not fit the encoder",
            expected=expected,
            found=other,
            remedy="name the decoder that was trained together with the encoder",
        )
    if decoder.latent_dim > MAX_DIMENSIONS:
        raise ContractError(
            "what dropping each dimension costs cannot be measured in reasonable time",
            expected=f"at most {MAX_DIMENSIONS} dimensions",
            found=f"{decoder.latent_dim}",
            remedy="leave --decoder out",
        )


def scale_said(decoder: DecoderSession | None, dataset: ImageDataset) -> InputScale | None:
    """How a decoder scales samples of a data set's type; None: it does not say, or only of samples of another type."""
    metadata = None if decoder is None else decoder.metadata
    return metadata.scale if metadata is not None and metadata.sample_type == dataset.dtype.name else None


def scale_of(decoder: DecoderSession | None, dataset: ImageDataset, scale: InputScale | None) -> InputScale:
    """How samples become images in [0, 1]: as the decoder says of their type, else `scale`, else its whole range."""
    whole = InputScale(0.0, float(np.iinfo(dataset.dtype).max) if dataset.dtype.kind == "u" else 1.0)
    return scale_said(decoder, dataset) or scale or whole
