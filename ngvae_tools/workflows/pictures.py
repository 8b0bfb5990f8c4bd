"""The images that a report shows of an analysis, gathered from its latent file, its decoder and its data set.

What is shown is decided by the rows of the latent file alone, so that equal files give equal pictures.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.overview import Extreme, Overview, principal_plane
from ngvae_tools.contract import InputScale
from ngvae_tools.datasets.base import evenly_spaced
from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import ContractError, NgvaeToolsError, OptionError, RecordError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.latents.neighbours import nearest, weights_of
from ngvae_tools.latents.reader import LatentFile, open_latents
from ngvae_tools.latents.tables import texts
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.reporting.pictures import Extremes, LatentMap, Pictures, Reconstructed, Traversal
from ngvae_tools.reporting.sources import NamedAnalysis
from ngvae_tools.reporting.words import plain
from ngvae_tools.workflows.decoder_check import checked_by_images
from ngvae_tools.workflows.decoder_file import decoder_of_record
from ngvae_tools.workflows.decoding import OR_ANALYSE, Decoding, open_decoding
from ngvae_tools.workflows.latent_map import POINTS, Method, colourings, umap_points, units_of
from ngvae_tools.workflows.opening import scale_in
from ngvae_tools.workflows.originals import Originals, identifiers_at, labels_at, places_of
from ngvae_tools.workflows.shown_images import FRAME, ShownImages
from ngvae_tools.workflows.thumbnails import Bytes
from ngvae_tools.workflows.traversals import SHARES, posterior_span, ranges, traversal, uninformative, whole_latents
from ngvae_tools.workflows.truncation import scale_of, scale_said

EXTREME_IMAGES = 5
"""Images at each end of a dimension."""

RECONSTRUCTED = 10
"""Images that are shown beside what the decoder makes of them."""

MOST_DIMENSIONS = 32
"""Dimensions that images are shown of at most, those that carry most."""

QUANTILE_ROWS = 2**16
QUANTILE_VALUES = 2**23
"""Rows, and values of all their columns together, that quantiles are taken from at most, evenly spaced."""

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Pictures, and why what was named for them could not be used.

    Attributes:
        pictures: The pictures.
        data_refused: None: no data set was named, or it was used.
        decoder_refused: None: no decoder was named, or it was used.
    """

    pictures: Pictures
    data_refused: NgvaeToolsError | None = None
    decoder_refused: NgvaeToolsError | None = None


def gather_pictures(
    named: NamedAnalysis,
    *,
    data: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    device: str = "auto",
    method: Method = "pca",
) -> Pictures:
    """The images to show of an analysis; `notes` say what is left out and how to have it.

    Args:
        named: The analysis, beside whose record its latent file lies.
        data: The data set that the latents are of; where the record says that it was, by default.
        decoder: The decoder that belongs to the latents, or the folder of its run; the same.
        device: Where the decoder runs: `auto`, `cpu` or `cuda`.
        method: How the map is made.

    Raises:
        ContractError: The decoder that was named cannot be used, or does not belong to the latents.
        DatasetError: The data set that was named cannot be used, or is not the one that the latents are of.
        DeviceError: The device cannot run the decoder.
        MissingDependencyError: A package that the decoder, the data set or the map needs is not installed.
        RecordError: Data or a decoder were named for an analysis whose latent file cannot be read.
    """
    found = gather(named, data=data, decoder=decoder, device=device, method=method)
    for refused in (found.data_refused, found.decoder_refused):
        if refused is not None:
            raise refused
    return found.pictures


def gather(
    named: NamedAnalysis,
    *,
    data: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    device: str = "auto",
    method: Method = "pca",
    alone: bool = True,
) -> Gathered:
    """As `gather_pictures`, but what was named and cannot be used is passed over, and said.

    Args:
        named: See there.
        data: See there.
        decoder: See there.
        device: See there.
        method: See there.
        alone: Whether data and decoder were named for this analysis alone. A decoder that was not is used only where
            the latents or their images say that it is theirs.

    Raises:
        DeviceError: The device cannot run the decoder.
        MissingDependencyError: A package that the decoder or the map needs is not installed.
    """
    try:
        # The record does not say where to look, only what to look for.
        with open_latents(named.folder / Path(named.record.latents.file).name, dtype=np.float64) as file:
            _check_file(file, named.record)
            return _Gatherer(file, named.record, method).gather(data, decoder, device, alone=alone)
    except RecordError as error:
        pictures = Pictures(notes=(f"No images are shown: {plain(error)}",))
        return Gathered(pictures, error if data else None, error if decoder else None)


class _Gatherer:
    """Gathers from one open latent file."""

    def __init__(self, file: LatentFile, record: AnalysisRecord, method: Method) -> None:
        self._file, self._record, self._method = file, record, method
        self._origin = file.header.origin
        self._rows = {row.index: row for row in record.dimensions}
        self._notes: list[str] = []
        self._map_rows = np.array(evenly_spaced(len(file), POINTS), np.int64)
        self._map_values = np.empty((len(self._map_rows), len(self._origin.dimensions)))

    def gather(
        self,
        data: str | os.PathLike[str] | None,
        decoder: str | os.PathLike[str] | None,
        device: str,
        *,
        alone: bool,
    ) -> Gathered:
        with ExitStack() as stack:
            originals, data_refused = self._opened(data, stack)
            decoding, decoder_refused = self._decoding(decoder, originals, device, alone=alone)
            return Gathered(self._pictures(decoding, originals), data_refused, decoder_refused)

    def _pictures(self, decoding: Decoding | None, originals: Originals | None) -> Pictures:
        overview = self._overview()
        shown = self._shown()
        told = self._record.data.n_images - self._record.data.n_rejected
        if len(self._file) != told:
            self._notes.append(
                f"The images are of the {len(self._file):,} rows of the latent file; the record beside it tells of "
                f"{told:,}."
            )
        if self._origin.positions > 1 and shown:
            self._notes.append(
                f"The latents have {self._origin.positions} positions: of each dimension their mean is shown, and "
                "there are no traversals."
            )
        base, traversals = self._traversals(decoding, overview, shown)
        compared = np.array(evenly_spaced(len(self._file), RECONSTRUCTED), np.int64)
        images = ShownImages(self._file, thumbnails=self._map_rows, beside=compared, decoding=decoding)
        ends = [overview.extremes[column] for column in shown]
        if originals:
            frames = {row for each in ends for end in (each.low_rows, each.high_rows) for row in end.tolist()}
            images.read(originals, self._scale(originals, None if decoding is None else decoding.session), frames)
        return Pictures(
            traversals=traversals,
            base=base,
            ranges=ranges(self._record) if traversals else "",
            reconstructed=self._reconstructed(images),
            extremes=self._extremes(shown, ends, images),
            map=self._map(overview, images),
            decoder=None if decoding is None else str(decoding.session.path),
            data=originals.location if originals else None,
            notes=tuple(dict.fromkeys([*self._notes, *images.notes])),
        )

    def _decoding(
        self, decoder: str | os.PathLike[str] | None, originals: Originals | None, device: str, *, alone: bool
    ) -> tuple[Decoding | None, NgvaeToolsError | None]:
        refused: NgvaeToolsError | None = None
        if decoder is not None:
            try:
                found = open_decoding(Path(decoder), self._file, device=device, otherwise=OR_ANALYSE)
                found = checked_by_images(found, self._file, originals, otherwise=OR_ANALYSE)
                if not alone and not found.known:
                    raise _unknown_decoder(self._file)
            except ContractError as error:
                refused = error
            else:
                self._notes += [*found.notes, *found.session.notes]
                return found, None
        decoding, why = decoder_of_record(self._record, self._file, device=device)
        if decoding is None:
            why = f"{why}; have it with --decoder PATH." if refused is None else plain(refused)
            self._notes.append(f"What the decoder makes of the latents is left out: {why}")
        else:
            self._notes += decoding.session.notes
        return decoding, refused

    def _overview(self) -> Overview:
        """What one pass over all rows tells, and the values of the map's points."""
        count, columns = len(self._file), len(self._origin.dimensions)
        room = min(QUANTILE_ROWS, max(1, QUANTILE_VALUES // max(columns, 1)))
        sample = np.array(evenly_spaced(count, room), np.int64)
        overview = Overview(columns, count=EXTREME_IMAGES, sample=sample)
        start = 0
        for block, _ in self._file.chunks():
            values = block.reshape(len(block), self._origin.positions, columns)
            means = values[:, 0] if self._origin.positions == 1 else values.mean(axis=1)
            overview.add(means)
            first, last = np.searchsorted(self._map_rows, [start, start + len(block)])
            self._map_values[first:last] = means[self._map_rows[first:last] - start]
            start += len(block)
        return overview

    def _shown(self) -> list[int]:
        """Columns of the dimensions that images are shown of, in the order of the record."""
        columns = list(range(len(self._origin.dimensions)))
        if len(columns) > MOST_DIMENSIONS:
            columns = sorted(columns, key=self._weight, reverse=True)[:MOST_DIMENSIONS]
            self._notes.append(
                f"Images are shown of {MOST_DIMENSIONS} of the {len(self._origin.dimensions)} dimensions that are "
                "kept, those that carry most."
            )
        return sorted(columns, key=self._origin.dimensions.__getitem__)

    def _weight(self, column: int) -> tuple[bool, float]:
        row = self._rows[self._origin.dimensions[column]]
        carried = row.information if row.information is not None else row.mu_variance
        return row.informative, carried or 0.0

    def _traversals(
        self, decoding: Decoding | None, overview: Overview, shown: Sequence[int]
    ) -> tuple[str, tuple[Traversal, ...]]:
        if decoding is None or self._origin.positions > 1 or not len(self._file):
            return "", ()
        dimensions, informative = self._origin.dimensions, self._record.selection.informative
        row = int(nearest(self._file, overview.moments.mean[None], 1).rows[0, 0])
        base = whole_latents(decoding, self._file[row])
        spans = {}
        for column in shown:
            if informative[dimensions[column]]:
                low, high = overview.quantiles(column, SHARES)
                spans[dimensions[column]] = (low, high)
        movable = dimensions if decoding.kept_only else range(self._origin.latent_dim)
        spans |= {k: posterior_span(self._rows[k]) for k in uninformative(self._record, movable)}
        try:
            found = tuple(
                traversal(decoding, base, k, span, informative=informative[k], longest=FRAME)
                for k, span in spans.items()
            )
        except ContractError as error:
            self._notes.append(f"Traversals are left out: {plain(error)}")
            return "", ()
        return texts(identifiers_at(self._file, np.array([row])))[0], found

    def _opened(
        self, data: str | os.PathLike[str] | None, stack: ExitStack
    ) -> tuple[Originals | None, NgvaeToolsError | None]:
        """The images, and why not those of the data set that was named."""
        sources, named = self._origin.sources, None if data is None else place_of(data)
        remote = [source.path for source in sources if not isinstance(place_of(source.path), Path)]
        if remote and data is None:
            # A report of somebody else's analysis must not make this machine ask around.
            self._without_data(f"they lie at {plain(remote[0])}, which is fetched only when it is named")
        places = places_of(self._file, data)
        try:
            originals = stack.enter_context(Originals(self._file, places))
        except RecordError as error:
            self._without_data(plain(error))
            return None, None if named is None else error
        if (lacking := len(self._file) - originals.rows) > 0 and not remote:
            of_some = f" of {lacking:,} of the {len(self._file):,} images" if originals else ""
            gone = next((source.path for source, tried in zip(sources, places, strict=True) if not tried), "it")
            self._without_data(plain(originals.why) or f"{plain(gone)} is not there", of_some)
        return originals, None if named is None else originals.refusal(named)

    def _without_data(self, why: str, of_some: str = "") -> None:
        self._notes.append(
            f"Images of the data set are left out{of_some}: {why.removesuffix('.')}; have them with --data PATH."
        )

    def _scale(self, originals: Originals, decoder: DecoderSession | None) -> InputScale:
        """How samples become values in [0, 1]: as decoder or encoder say, else the whole range of their type."""
        dataset = originals.dataset
        floats = originals.how.float_range if dataset.dtype.kind == "f" else None
        scale = None if floats is None else InputScale(*floats)
        if scale is None and dataset.dtype != np.uint8 and scale_said(decoder, dataset) is None:
            scale = scale_in(Path(self._record.model.path), self._record.model.sha256)
            if scale is None and decoder is None:
                self._notes.append(
                    f"The images are shown on the whole range of {dataset.dtype.name}: neither decoder nor encoder are "
                    "at hand, which know their scale."
                )
        return scale_of(decoder, dataset, scale)

    def _reconstructed(self, images: ShownImages) -> Reconstructed | None:
        rows = sorted(images.beside)
        if not rows:
            return None
        each = [images.beside[row] for row in rows]
        return Reconstructed(
            names=tuple(texts(identifiers_at(self._file, np.array(rows, np.int64)))),
            originals=np.stack([one.original for one in each]),
            decoded=np.stack([one.decoded for one in each]),
            error=tuple(one.error for one in each),
        )

    def _extremes(self, shown: Sequence[int], ends: Sequence[Extreme], images: ShownImages) -> tuple[Extremes, ...]:
        if not images.frames:
            return ()
        rows = np.array(sorted(images.frames), np.int64)
        names = dict(zip(rows.tolist(), texts(identifiers_at(self._file, rows)), strict=True))
        blank = next(iter(images.frames.values()))[None][:0]

        def end(rows: Rows, values: Array) -> tuple[tuple[str, ...], tuple[float, ...], Bytes]:
            there = [(row, value) for row, value in zip(rows.tolist(), values.tolist(), strict=True) if row in names]
            return (
                tuple(names[row] for row, _ in there),
                tuple(value for _, value in there),
                np.concatenate([blank, *(images.frames[row][None] for row, _ in there)]),
            )

        return tuple(
            Extremes(
                self._origin.dimensions[column],
                *end(each.low_rows, each.low_values),
                *end(each.high_rows, each.high_values),
            )
            for column, each in zip(shown, ends, strict=True)
        )

    def _map(self, overview: Overview, images: ShownImages) -> LatentMap | None:
        weights = weights_of(self._file)[: len(self._origin.dimensions)]
        plane = principal_plane(overview.moments, weights)
        if plane is None:
            return None
        points = plane.points(self._map_values)
        if self._method == "umap":
            moved = umap_points(self._map_values * weights)
            if moved is None:
                self._notes.append("There are too few images for UMAP; the map is a PCA.")
                return self._as_map("PCA", points, plane.explained, images)
            return self._as_map("UMAP", moved, None, images)
        return self._as_map("PCA", points, plane.explained, images)

    def _as_map(
        self, method: str, points: Array, explained: tuple[float, float] | None, images: ShownImages
    ) -> LatentMap:
        return LatentMap(
            method=method,
            units=units_of(self._file),
            points=points,
            explained=explained,
            names=tuple(texts(identifiers_at(self._file, self._map_rows))),
            thumbnails=images.thumbnails,
            colourings=colourings(self._file, labels_at(self._file, self._map_rows), self._map_values),
            n_images=len(self._file),
        )


def _check_file(file: LatentFile, record: AnalysisRecord) -> None:
    """Refuse a latent file that is not the record's; rows that were appended since are fine."""
    origin = file.header.origin
    theirs = (record.model.sha256, record.model.latent_dim, record.model.positions)
    found = (origin.encoder_sha256, origin.latent_dim, origin.positions)
    if found != theirs or len(record.dimensions) != origin.latent_dim:
        raise RecordError(
            f"{plain(file.path)} is not the latent file of the record beside it",
            expected=f"latents of the encoder with SHA-256 {theirs[0][:12]}..., K = {theirs[1]}",
            found=f"those of {found[0][:12]}..., K = {found[1]}",
            remedy="run select-latents again",
        )


def _unknown_decoder(file: LatentFile) -> ContractError:
    return ContractError(
        f"the latent file {plain(file.path)} does not say which decoder belongs to it",
        expected="one analysis that --decoder is meant for",
        found="several",
        remedy="report that analysis alone",
    )


def gather_all(
    analyses: Sequence[NamedAnalysis],
    *,
    data: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    device: str = "auto",
    method: Method = "pca",
) -> tuple[NamedAnalysis, ...]:
    """The analyses with their pictures; data and decoder are used for those that they belong to.

    Raises:
        ContractError: The decoder that was named cannot be used, or belongs to none of them.
        DatasetError: The data set that was named cannot be used, or none of them is of it.
        DeviceError: The device cannot run a decoder.
        MissingDependencyError: A package that a decoder or the map needs is not installed.
        OptionError: Something was named, but there is no analysis.
        RecordError: Something was named, but no latent file can be read.
    """
    given = [option for option, value in (("--data", data), ("--decoder", decoder)) if value is not None]
    if given and not analyses:
        raise OptionError(
            f"{given[0]} has nothing to show",
            expected="an analysis of select-latents",
            found="none",
            remedy="name its output folder, or leave the option out",
        )
    alone = len(analyses) == 1
    found = [gather(named, data=data, decoder=decoder, device=device, method=method, alone=alone) for named in analyses]
    for refusals in ([each.data_refused for each in found], [each.decoder_refused for each in found]):
        if refusals and all(refusals):
            raise next(error for error in refusals if error is not None)
    return tuple(replace(named, pictures=each.pictures) for named, each in zip(analyses, found, strict=True))
