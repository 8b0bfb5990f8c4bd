"""Latent files made of others: new images of the same encoder added to one, or several put together."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import DatasetError, OptionError
from ngvae_tools.files import refuse_existing, refuse_replacing, replacing
from ngvae_tools.inference.shards import ShardResult
from ngvae_tools.latents.grid import Grid
from ngvae_tools.latents.header import FILE_NAME, DataSource, LatentHeader
from ngvae_tools.latents.reader import LatentFile, latent_path, open_latents
from ngvae_tools.latents.tables import texts
from ngvae_tools.latents.writer import Block, Errors, RowsShape, write_latents
from ngvae_tools.record import FILE_NAME as RECORD_NAME
from ngvae_tools.record import RejectionReason
from ngvae_tools.reporting.rejections import RejectionTally
from ngvae_tools.workflows.combined_labels import FileLabels, combined_labels
from ngvae_tools.workflows.encode import EncodeOptions, OpenPass, encode_options_of, open_pass
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.opening import brings_floats, encoder_of
from ngvae_tools.workflows.preprocessing import Preprocessing, check_encoder
from ngvae_tools.workflows.result import REJECTED_NAME, append_rejections
from ngvae_tools.workflows.shard_folder import ShardFolder, kept_shards, results
from ngvae_tools.workflows.storing import identifiers_of

READING = ("heads", "input", "input_range", "image_shape", "resize")
"""What of the preprocessing decides the latents of an image."""

_PREFIX_NEW = "put something else before the new ones, such as --prefix 2025/"


@dataclass(frozen=True, slots=True)
class Combined:
    """A latent file that was made of others.

    Attributes:
        path: Where it lies.
        n_rows: Its rows.
        n_added: Those of them that the first file did not have.
        n_rejected: Images that could not be used.
        rejected: The file that tells which, if there are any.
        reasons: Why, the most frequent reasons first.
        notes: Sentences a reader must know.
    """

    path: Path
    n_rows: int
    n_added: int
    n_rejected: int = 0
    rejected: Path | None = None
    reasons: tuple[RejectionReason, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that go into a file.

    Attributes:
        blocks: Values in float64 and identifiers, from the start at every call.
        names: Identifiers of all rows as they come.
        labels: Their labels; None where there are none.
        sources: The data sets that they are.
        max_error: Largest error that the values already have, a dimension.
        mean_squared_error: Mean squared error that they have.
    """

    blocks: Callable[[], Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]]
    names: npt.NDArray[Any]
    labels: FileLabels | None
    sources: tuple[DataSource, ...]
    max_error: npt.NDArray[np.float64]
    mean_squared_error: npt.NDArray[np.float64]


def merge_latents(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    prefixes: Sequence[str] = (),
    overwrite: bool = False,
) -> Combined:
    """Put latent files of one encoder together; the steps of the first are kept.

    Rows of files with the same steps keep their values exactly; those of others are rounded once more, and the file
    states the error of both. Row numbers of a data set continue after those of the one before; no data set whose
    images are known by their rows comes twice. A label is kept where all files that have any have it, as numbers of
    one kind or as classes of text, which are matched by name; the notes tell of those that are left out. The rows of
    files without labels have NaN.

    Args:
        files: Two or more files, or output folders of select-latents.
        output: The file to write.
        prefixes: One for each file, put before its paths; none by default.
        overwrite: Replace what is there, the files themselves excepted.

    Raises:
        OptionError: They are of different encoders, or hold other dimensions; two images have one identifier, or
            are the same; or the output would replace one of the files, or a data set of theirs.
        OutputError: The file is there, or cannot be written.
        RecordError: A file cannot be read.
    """
    path = Path(output)
    refuse_replacing(path, *map(latent_path, files))
    refuse_existing(path, overwrite=overwrite, found="a file")
    if len(files) < 2:
        raise OptionError("there is nothing to merge", expected="two files", found=str(len(files)), remedy="name them")
    if prefixes and len(prefixes) != len(files):
        raise OptionError(
            "the prefixes do not fit the files",
            expected=f"one for each of the {len(files)} files",
            found=str(len(prefixes)),
            remedy="pass --prefix once a file, '' for none",
        )
    with locked(path.parent), ExitStack() as stack:
        opened = [stack.enter_context(open_latents(file, dtype=np.float64)) for file in files]
        for other in opened[1:]:
            _check_same(opened[0], other)
        refuse_replacing(path, *(source.path for file in opened for source in file.header.origin.sources))
        parts = [_part_of(file) for file in opened]
        return _told(_write(path, opened[0].header, parts, prefixes or ("",) * len(parts), _prefix_each(len(parts))))


def append_latents(
    file: str | os.PathLike[str],
    data: str | os.PathLike[str],
    encoder: str | os.PathLike[str],
    *,
    prefix: str = "",
    output: str | os.PathLike[str] | None = None,
    options: EncodeOptions | None = None,
    **encode_options: Any,
) -> Combined:
    """Encode new images as those of a latent file were, and add them to it; its steps are kept.

    A value beyond the range of the old ones makes the codes wider. Finished shards are kept in a folder beside the
    file until it is written, so an interrupted run goes on. The file is replaced in one step. Labels of the file stay;
    the new rows have NaN there.

    Args:
        file: The latent file, or the output folder of select-latents.
        data: The new images.
        encoder: The encoder of the file.
        prefix: Put before the new images' paths.
        output: Write to this file, and leave the first as it is.
        options: Who does the work; or give its fields as keyword arguments.
        **encode_options: Fields of `EncodeOptions`.

    Raises:
        ContractError: The encoder is another, or cannot be used.
        DatasetError: None of the images can be used.
        OptionError: Two images have one identifier, the data are in the file already, or they would be read
            differently; or the output would replace one of the inputs.
        OutputError: The file cannot be written.
        RecordError: The file cannot be read.
    """
    options = encode_options_of(options, encode_options)
    before = latent_path(file)
    path = before if output is None else Path(output)
    if output is not None:
        refuse_replacing(path, before, data, encoder_of(Path(encoder)))
        refuse_existing(path, overwrite=options.overwrite, found="a file")
    # The file is opened in the lock: what another process adds to it before would be lost.
    with locked(path.parent), open_latents(before, dtype=np.float64) as old:
        how = Preprocessing.read(old.path, old.header.origin.preprocessing)
        options = dataclasses.replace(
            options,
            heads=how.heads,
            input_options=how.input_options,
            resize=how.resize,
            float_samples=how.float_samples,
            bootstrap=0,
        )
        with open_pass(Path(encoder), place_of(data), options) as opened:
            _check_encoder(old, opened)
            if output is not None:
                refuse_replacing(path, *(source.path for source in old.header.origin.sources))
            return _told(_append(path, old, opened, prefix))


def _told(combined: Combined) -> Combined:
    """Note where the record beside the file tells of others than its latents."""
    if combined.path.name != FILE_NAME or not (combined.path.parent / RECORD_NAME).exists():
        return combined
    note = f"{RECORD_NAME} beside it still tells of the latents before; select-latents analyses all of the images."
    return dataclasses.replace(combined, notes=(*combined.notes, note))


def _append(path: Path, old: LatentFile, opened: OpenPass, prefix: str) -> Combined:
    """Encode all images of a pass, and write them after the rows of a file."""
    work = path.parent / f"{path.name}.append"
    before = _part_of(old)
    _check_new(old, before, opened, prefix, work)
    try:
        with kept_shards(ShardFolder(work)) as shards:
            done = opened.run(shards, range(opened.encoding.plan.n_shards))
            if done.n_images == done.n_rejected:
                raise DatasetError(
                    f"no image of {opened.encoding.data.path} can be used",
                    expected="images that fit the encoder",
                    found=f"{done.n_rejected} of {done.n_images} unfit: {_tally(results(done.files)).in_full()}",
                    remedy="name the data that the encoder was made for",
                )
            new = _encoded(old.header, opened, done.files)
            combined = _write(path, old.header, [before, new], ("", prefix), _PREFIX_NEW)
            place = path.parent / f"{path.name}.{REJECTED_NAME}"
            rejected = _tally(_written(place, results(done.files)))
            shards.remove()
    finally:
        with suppress(OSError):  # there are shards in it
            work.rmdir()
    return dataclasses.replace(
        combined,
        n_rejected=rejected.total,
        rejected=place if rejected.total else None,
        reasons=rejected.reasons,
    )


def _write(path: Path, first: LatentHeader, parts: Sequence[_Part], prefixes: Sequence[str], remedy: str) -> Combined:
    """Write all rows in the steps of the first file."""
    renamed, origins = _renamed([part.names for part in parts], [part.sources for part in parts], prefixes, remedy)
    grid = Grid(first.coding.step[: len(first.origin.dimensions)]) if first.coding.quantised else None
    labels = combined_labels([part.labels for part in parts])
    unknown = sum(len(part.names) for part in parts if part.labels is None) if labels.factors else 0
    notes = (*labels.notes, *((f"The labels of {unknown:,} rows are not known: they are NaN.",) if unknown else ()))
    sources = tuple(source for part in origins for source in part)

    def rows() -> Iterator[Block]:
        for number, (part, names) in enumerate(zip(parts, renamed, strict=True)):
            start = 0
            for values, _ in part.blocks():
                stop = start + len(values)
                yield Block(values, names[start:stop], labels.rows(number, start, stop) if labels.factors else None)
                start = stop

    identifier_type = np.result_type(*(names.dtype for names in renamed))
    shape = RowsShape(sum(map(len, renamed)), identifier_type, labels.factors, labels.classes)
    origin = dataclasses.replace(first.origin, sources=sources)
    with replacing(path) as part:
        header = write_latents(
            part, rows, shape, origin, grid=grid, codec=first.codec, errors=_errors(grid, first, parts)
        )
        with LatentFile(part) as written:
            written.verify()
    return Combined(path, header.n_rows, header.n_rows - len(renamed[0]), notes=notes)


def _renamed(
    names: Sequence[npt.NDArray[Any]], sources: Sequence[tuple[DataSource, ...]], prefixes: Sequence[str], remedy: str
) -> tuple[list[npt.NDArray[Any]], list[tuple[DataSource, ...]]]:
    """Identifiers of all parts, no two of them equal, and the sources with what was done to theirs.

    `remedy` is what to do where two images have one identifier.
    """
    kinds = {part.dtype.kind for part in names if len(part)}
    if len(kinds) > 1:
        raise OptionError(
            "the images of these data sets are named differently",
            expected="relative paths in all of them, or row numbers",
            found="both",
            remedy="keep them in files of their own",
        )
    if kinds == {"i"}:
        _check_once([source for part in sources for source in part])
    renamed, moved, next_number = [], [], 0
    for part, origins, prefix in zip(names, sources, prefixes, strict=True):
        by = prefix if part.dtype.kind == "S" else next_number
        if prefix and by != prefix:
            raise OptionError(
                "row numbers have no prefix", expected="no --prefix", found=repr(prefix), remedy="leave it out"
            )
        if isinstance(by, str):
            renamed.append(np.char.add(os.fsencode(by), part) if by else part)
        else:
            renamed.append(part + by)
            next_number = int(renamed[-1].max(initial=next_number - 1)) + 1
        moved.append(tuple(_moved(source, by) for source in origins) if by else origins)
    everything = np.concatenate(renamed)
    found, first, counts = np.unique(everything, return_index=True, return_counts=True)
    if len(found) < len(everything):
        place = int(first[counts > 1].min())
        raise OptionError(
            f"two images are called {texts(everything[place : place + 1])[0]}",
            expected="identifiers that occur once",
            found=f"{int((counts > 1).sum()):,} that occur more often",
            remedy=remedy,
        )
    return renamed, moved


def _prefix_each(files: int) -> str:
    """What to do where identifiers of files that are merged clash: --prefix is given once a file, or not at all."""
    example = " ".join(f"--prefix {number}/" for number in range(1, min(files, 3) + 1))
    return f"put something else before those of each file, such as {example}{' ...' if files > 3 else ''}"


def _check_once(sources: Sequence[DataSource]) -> None:
    """Refuse a data set that comes twice: row numbers do not tell that its images are the same."""
    seen: dict[str, DataSource] = {}
    for source in sources:
        other = seen.setdefault(source.fingerprint, source)
        if other is not source:
            raise OptionError(
                f"the images of {source.path} would be there twice",
                expected="each data set once",
                found=f"the same content as {other.path}: fingerprint {source.fingerprint[:12]}",
                remedy="leave one of them out",
            )


def _check_new(old: LatentFile, before: _Part, opened: OpenPass, prefix: str, work: Path) -> None:
    """Refuse what is in the file already or would clash with it, before an image is encoded."""
    data, names = opened.encoding.data, opened.dataset.identifiers(0, len(opened.dataset))
    by_path = names.dtype.kind == "S"
    for source in before.sources:
        if source.fingerprint == data.fingerprint and (not by_path or source.identifiers == prefix):
            if opened.encoding.fingerprint == ShardFolder(work).fingerprint:
                # That append ended after the file was written, and before this.
                ShardFolder(work).remove()
                with suppress(OSError):
                    work.rmdir()
            raise OptionError(
                f"the images of {data.path} are in {old.path} already",
                expected="new images",
                found=f"the same content as {source.path}: fingerprint {data.fingerprint[:12]}",
                remedy="name other images",
            )
    new = DataSource(data.path, data.kind, data.fingerprint, len(names))
    _renamed([before.names, names], [before.sources, (new,)], ("", prefix), _PREFIX_NEW)


def _moved(source: DataSource, by: str | int) -> DataSource:
    """A source whose identifiers got something more before them."""
    if isinstance(by, int):
        before = source.identifiers if isinstance(source.identifiers, int) else 0
        return dataclasses.replace(source, identifiers=before + by)
    return dataclasses.replace(source, identifiers=f"{by}{source.identifiers}")


def _errors(grid: Grid | None, first: LatentHeader, parts: Sequence[_Part]) -> Errors:
    """The errors that all rows have together with those that they came with."""
    kept, positions = len(first.origin.dimensions), first.origin.positions
    most, total, rows = np.zeros(kept), np.zeros(kept), 0
    for part in parts:
        largest, squares, count = np.zeros(kept), np.zeros(kept), 0
        for values, _ in part.blocks():
            each = values.reshape(len(values) * positions, kept)
            exact = each.astype(np.float64)
            decoded = exact if grid is None else grid.step * grid.numbers(exact)
            error = np.abs(exact - decoded)
            largest = np.maximum(largest, error.max(axis=0, initial=0.0))
            squares += (error * error).sum(axis=0)
            count += len(each)
        most = np.maximum(most, largest + part.max_error)
        total += squares + count * part.mean_squared_error
        rows += count
    return Errors(most, total / max(rows, 1))


def _part_of(file: LatentFile) -> _Part:
    header = file.header
    return _Part(
        blocks=file.chunks,
        names=file.identifiers,
        labels=FileLabels(str(file.path), header.factors, header.classes, file.labels_of) if header.factors else None,
        sources=header.origin.sources,
        max_error=header.max_error,
        mean_squared_error=header.mean_squared_error,
    )


def _encoded(header: LatentHeader, opened: OpenPass, files: Sequence[Path]) -> _Part:
    data, kept = opened.encoding.data, len(header.origin.dimensions)

    def blocks() -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]:
        for result in results(files):
            if len(result.index):
                yield header.origin.kept(result.mu), identifiers_of(result)

    names, largest = [], np.zeros(kept)
    quantised = header.coding.quantised
    for values, some in blocks():
        names.append(some)
        largest = np.maximum(
            largest, np.abs(values.reshape(len(values) * header.origin.positions, kept)).max(axis=0, initial=0.0)
        )
    return _Part(
        blocks=blocks,
        names=np.concatenate(names),
        labels=None,
        sources=(DataSource(data.path, data.kind, data.fingerprint, sum(map(len, names))),),
        # Most will read the values of steps as float32, whose rounding belongs to the error.
        max_error=largest * (2.0**-24 if quantised else 0.0),
        mean_squared_error=np.zeros(kept),
    )


def _check_same(first: LatentFile, other: LatentFile) -> None:
    """Refuse files whose columns do not mean the same."""
    one, two = first.header.origin, other.header.origin
    columns = (
        ("encoder with SHA-256", one.encoder_sha256, two.encoder_sha256),
        ("dimensions", list(one.dimensions), list(two.dimensions)),
        ("positions", one.positions, two.positions),
    )
    differing = [(what, a, b) for what, a, b in columns if a != b]
    for what, expected, found in (*differing, *_differences(one.preprocessing, two.preprocessing)):
        raise OptionError(
            f"{first.path} and {other.path} cannot be put together",
            expected=f"{what} {expected} in both",
            found=f"{found} in the second",
            remedy="encode both with the same encoder, options and --dimensions",
        )


def _check_encoder(old: LatentFile, opened: OpenPass) -> None:
    expected = old.header.origin
    found = opened.encoding
    check_encoder(opened.session, old)
    for name, before, now in _differences(expected.preprocessing, found.preprocessing.to_json()):
        raise OptionError(
            f"the images of {found.data.path} would be read differently than those of {old.path}",
            expected=f"{name} {before}",
            found=f"{now}",
            remedy="bring them to the same form",
        )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What two latent files' preprocessing has otherwise, of what decides the latents of an image."""
    for name in READING:
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)
    floats = [tuple(each.get("float_samples") or ()) for each in (one, other)]
    # Data of whole numbers say nothing of floats.
    if all(floats) and brings_floats(floats[0]) != brings_floats(floats[1]):
        yield "float_samples", floats[0], floats[1]


def _tally(shards: Iterable[ShardResult]) -> RejectionTally:
    """The rejected images of shards, counted."""
    tally = RejectionTally()
    for result in shards:
        tally.update(result.rejected)
    return tally


def _written(place: Path, shards: Iterable[ShardResult]) -> Iterator[ShardResult]:
    """The same shards, their rejected images told in a file; without any no file is made."""
    for result in shards:
        append_rejections(place, result.rejected)
        yield result
