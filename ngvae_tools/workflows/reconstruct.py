"""reconstruct: images from a latent file and its decoder, and how close they are."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.image_quality import Quality, quality
from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.datasets.base import evenly_spaced
from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import ContractError, OptionError, RecordError
from ngvae_tools.files import refuse_existing, refuse_replacing
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.latents.reader import LatentFile, open_latents
from ngvae_tools.record import Reconstruction, finite_or_none
from ngvae_tools.workflows.decoder_check import checked_by_images
from ngvae_tools.workflows.decoding import OR_ANY, Decoding, open_decoding
from ngvae_tools.workflows.image_files import (
    HDF5_ENDINGS,
    PNG_CHANNELS,
    refuse_images,
    write_folder,
    write_hdf5,
)
from ngvae_tools.workflows.opening import fit_floats, open_images, scale_for
from ngvae_tools.workflows.originals import Originals, check_data, index_in, places_of
from ngvae_tools.workflows.preprocessing import Preprocessing, check_encoder
from ngvae_tools.workflows.truncation import SAMPLE_BYTES, read_images, scale_of

COMPARED = 256
"""Images whose quality is measured unless asked otherwise."""

OTHER_ENDING = re.compile(
    r"\.(png|jpe?g|gif|bmp|tiff?|webp|mp4|np[yz]|parquet|tar|zip|gz|txt|csv|json|html|pdf)", re.IGNORECASE
)
"""Of names that nobody gives a folder."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class ReconstructionQuality:
    """How close decoded images are to others, on a sample; the values clipped to [0, 1].

    Attributes:
        n_images: Images of the sample.
        quantised: Decoded from the latent file, against the originals.
        unquantised: Decoded from the latents before quantisation, against the originals. Dimensions that the file
            does not keep are at their mean here too, so that the difference is what quantisation costs.
        both: Decoded from the latent file, against decoded from the latents before quantisation.
    """

    n_images: int
    quantised: Quality
    unquantised: Quality
    both: Quality


@dataclass(frozen=True, slots=True)
class ReconstructResult:
    """What was written.

    Attributes:
        output: The folder or file.
        n_images: Number of images.
        image_shape: (H, W, C) of each.
        quality: How close they are; None without the originals.
        notes: What a reader must know, a sentence each.
    """

    output: Path
    n_images: int
    image_shape: tuple[int, int, int]
    quality: ReconstructionQuality | None
    notes: tuple[str, ...]


def reconstruct(
    latents: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    decoder: str | os.PathLike[str],
    rows: tuple[int | None, int | None] | None = None,
    ids: Sequence[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    compare: int = COMPARED,
    as_float: bool = False,
    any_decoder: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReconstructResult:
    """Decode the images of a latent file, block by block.

    Args:
        latents: The file, or the output folder of select-latents.
        output: A folder for PNGs named by the images' identifiers, or a file `.h5` with `images` (N, H, W, C) and
            `identifiers`. It appears when all of it is written.
        decoder: The decoder file, or the folder of a training run.
        rows: Only the rows from the first to before the second number, as a slice takes them.
        ids: Only the images of these identifiers.
        data: The data set that the latents are of; with `encoder` the quality is measured.
        encoder: The encoder that made the latents, or the folder of its run.
        compare: Images whose quality is measured, evenly spread over the rows.
        as_float: Write float32 on [0, 1] to HDF5 instead of uint8.
        any_decoder: Take a decoder that is not the one that the file names.
        device: Where decoder and encoder run.
        overwrite: Replace a file that is there, or a folder that holds only what was written by a call before.
        on_progress: Called with the number of images done and of all.

    Raises:
        ContractError: Decoder or encoder cannot be used, or do not belong to the file.
        DatasetError: The data set is not the one that the latents are of.
        OptionError: An option does not apply, the output would replace one of the inputs or the data set that the
            latents were made from, or its ending is that of another format.
        OutputError: The output exists or cannot be written.
        RecordError: The latent file is damaged, or an identifier cannot name a file.
        UnknownIdentifierError: There is no image of an identifier.

    Example:
        >>> from ngvae_tools import reconstruct
        >>> reconstruct("OUT", "images", decoder="decoder.onnx").n_images  # doctest: +SKIP
        256
    """
    place = Path(output)
    as_hdf5 = place.suffix.lower() in HDF5_ENDINGS
    _check_options(
        place, rows=rows, ids=ids, data=data, encoder=encoder, compare=compare, as_float=as_float, hdf5=as_hdf5
    )
    refuse_replacing(place, latents, decoder, *(each for each in (data, encoder) if each is not None))
    if as_hdf5:
        refuse_existing(place, overwrite=overwrite, found="a file")
    else:
        refuse_images(place, overwrite=overwrite)
    with open_latents(latents) as file:
        refuse_replacing(place, *(source.path for source in file.header.origin.sources))
        chosen = _rows_of(file, rows, ids)
        decoding = open_decoding(
            Path(decoder),
            file,
            device=device,
            any_decoder=any_decoder,
            otherwise=OR_ANY,
        )
        if not decoding.known:
            with _originals(file, data) as originals:
                decoding = checked_by_images(decoding, file, originals, otherwise=OR_ANY, any_decoder=any_decoder)
        shape = decoding.session.image_shape
        if not as_hdf5 and shape[2] not in PNG_CHANNELS:
            raise OptionError(
                "the images cannot be written as PNG",
                expected="1 to 4 channels",
                found=f"{shape[2]}",
                remedy="write an HDF5 file: --output FILE.h5",
            )
        measured, notes = None, decoding.notes
        if len(file) and not len(chosen):
            notes += (f"No image was asked for: the file has {len(file):,} rows, and none of them is among --rows.",)
        if data is not None and encoder is not None:
            sample = np.asarray(chosen, np.int64)[evenly_spaced(len(chosen), compare)]
            measured, more = _measured(file, sample, decoding, os.fspath(data), Path(encoder), device)
            notes += more
        blocks = _decoded(file, chosen, decoding, on_progress or (lambda _done, _total: None))
        if as_hdf5:
            write_hdf5(place, blocks, len(chosen), shape, as_float=as_float)
        else:
            write_folder(place, blocks, overwrite=overwrite)
    return ReconstructResult(place, len(chosen), shape, measured, (*notes, *decoding.session.notes))


def compared(decoding: Decoding, quantised: Floats, unquantised: Floats, originals: Floats) -> ReconstructionQuality:
    """Decode a bounded sample of latents (n, d) twice and compare, with each other and with originals in [0, 1]."""
    first, second = (
        np.concatenate(
            [
                np.clip(decoding.images(values[start : start + decoding.batch]), 0, 1)
                for start in range(0, len(values), decoding.batch)
            ]
        )
        for values in (quantised, unquantised)
    )
    return ReconstructionQuality(
        len(originals), quality(first, originals), quality(second, originals), quality(first, second)
    )


def _decoded(
    file: LatentFile, chosen: range | npt.NDArray[np.int64], decoding: Decoding, on_progress: Callable[[int, int], None]
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[Any]]]:
    done = 0
    for values, identifiers in _chunks(file, chosen):
        for start in range(0, len(values), decoding.batch):
            piece = slice(start, start + decoding.batch)
            images = decoding.images(values[piece])
            yield images, identifiers[piece]
            done += len(images)
            on_progress(done, len(chosen))


def _chunks(file: LatentFile, chosen: range | npt.NDArray[np.int64]) -> Iterator[tuple[Floats, npt.NDArray[Any]]]:
    if isinstance(chosen, range) and chosen == range(len(file)):
        yield from file.chunks()
        return
    rows = np.asarray(chosen, np.int64)
    size = file.header.chunk_rows
    for start in range(0, len(rows), size):
        piece = rows[start : start + size]
        yield file[piece], file.identifiers[piece]


def _rows_of(
    file: LatentFile, rows: tuple[int | None, int | None] | None, ids: Sequence[str] | None
) -> range | npt.NDArray[np.int64]:
    if ids is not None:
        found: npt.NDArray[np.int64] = file.row_of(list(dict.fromkeys(ids)))
        return found
    return range(*slice(*(rows or (None, None))).indices(len(file)))


def _originals(file: LatentFile, data: str | os.PathLike[str] | None) -> AbstractContextManager[Originals | None]:
    """The images of a latent file, as many as are at hand: where they are named, or where the file says."""
    try:
        return Originals(file, places_of(file, data))
    except RecordError:
        return nullcontext()


def _measured(
    file: LatentFile, rows: npt.NDArray[np.int64], decoding: Decoding, data: str, encoder: Path, device: str
) -> tuple[ReconstructionQuality | None, tuple[str, ...]]:
    """Encode the images of rows again, and compare."""
    if not len(rows):
        return None, ("There is no image to compare.",)
    rows = np.sort(rows)
    origin = file.header.origin
    how = Preprocessing.read(file.path, origin.preprocessing)
    session = how.session(encoder, device=device)
    check_encoder(session, file)
    with open_images(session, place_of(data), how.dataset_key, how.resize) as dataset:
        index = _indices(file, dataset, rows)
        said = fit_floats(session, dataset, how.float_samples)
        if decoding.session.image_shape != dataset.image_shape:
            raise ContractError(
                f"the decoder {decoding.session.path} does not fit the data set",
                expected=f"images of shape {dataset.image_shape}",
                found=f"{decoding.session.image_shape}",
                remedy="name the decoder that was trained together with the encoder",
            )
        scale = scale_of(decoding.session, dataset, scale_for(session, dataset))
        originals, found = read_images(dataset, index, scale)
        # Image by image: those of a sample lie apart.
        mu = np.concatenate(
            [session.encode(dataset.read(place, place + 1)[0].images).mu for place in index[found].tolist()]
        )
    kept = origin.kept(mu.reshape(len(originals), -1))
    return compared(decoding, file[rows[found]], kept, originals), said


def verify_latents(
    path: Path,
    dataset: ImageDataset,
    decoder: DecoderSession,
    index: npt.NDArray[np.int64],
    mu: Floats,
    scale: InputScale,
) -> tuple[Reconstruction, tuple[str, ...]]:
    """What quantisation costs in the images of a sample, and a note where a number is infinite.

    Args:
        path: The latent file.
        dataset: The data set as it was encoded.
        decoder: Takes all K dimensions; the latents are not spatial.
        index: Indices of the sample's images in the data set, shape (n,).
        mu: Their posterior means, shape (n, K).
        scale: How samples become images in [0, 1].

    Raises:
        ContractError: The decoder's outputs do not fit.
        DatasetError: None of the images can be read again.
    """
    order = np.argsort(index)
    room = max(1, min(COMPARED, SAMPLE_BYTES // (4 * math.prod(dataset.image_shape))))
    order = order[evenly_spaced(len(order), room)]
    originals, found = read_images(dataset, index[order], scale)
    index, mu = index[order][found], mu[order][found]
    with LatentFile(path) as file:
        origin = file.header.origin
        names = [dataset.identifiers(place, place + 1)[0] for place in index.tolist()]
        quantised = file[file.row_of(names)]
        decoding = Decoding(decoder, origin, kept_only=False)
        measured = compared(decoding, quantised, origin.kept(mu), originals)
    each = (measured.quantised, measured.unquantised, measured.both)
    psnr = [finite_or_none(one.psnr) for one in each]
    notes = () if None not in psnr else ("A PSNR of the reconstruction is infinite, which is null: images are equal.",)
    reconstruction = Reconstruction(str(decoder.path), measured.n_images, *psnr, *(one.ssim for one in each))
    return reconstruction, notes


def _indices(file: LatentFile, dataset: ImageDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Which images of a data set rows are."""
    sources = file.header.origin.sources
    if len(sources) != 1 or sources[0].identifiers not in {"", 0}:
        raise OptionError(
            "the images cannot be compared with their originals",
            expected="a latent file of one data set",
            found=f"one of {len(sources)}, or with identifiers that were changed",
            remedy="compare before latent files are joined, or leave --data out",
        )
    check_data(dataset, sources[0])
    return index_in(dataset, file.identifiers[rows])


def _check_options(
    place: Path, *, rows: object, ids: object, data: object, encoder: object, compare: int, as_float: bool, hdf5: bool
) -> None:
    if OTHER_ENDING.fullmatch(place.suffix):
        raise OptionError(
            f"the images cannot be written to {place}",
            expected=f"a name that ends in {' or '.join(HDF5_ENDINGS)}, or that of a folder for PNGs",
            found=f"a name that ends in {place.suffix}",
            remedy="name one of them",
        )

    def refuse(problem: str, expected: str, found: str, remedy: str) -> None:
        raise OptionError(problem, expected=expected, found=found, remedy=remedy)

    if rows is not None and ids is not None:
        refuse("the images are named twice", "one of --rows and --id", "both", "leave one out")
    if (data is None) != (encoder is None):
        missing = "--data" if data is None else "--encoder"
        refuse("the quality cannot be measured", "--data together with --encoder", f"no {missing}", "pass both or none")
    if compare < 1:
        refuse("--compare cannot be used", "a number of images above 0", str(compare), "correct it")
    if as_float and not hdf5:
        refuse("--float cannot be used", "an HDF5 file as --output", "a folder of PNGs", "pass --output FILE.h5")
