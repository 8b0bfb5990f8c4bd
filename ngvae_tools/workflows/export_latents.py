"""Latents in files of other programs: .npy, .npz, .parquet, .csv and .h5ad."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OptionError
from ngvae_tools.files import deferring_errors, refuse_existing, refuse_replacing, replacing
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.tables import (
    codes_in,
    column_names,
    header_attributes,
    label_frame,
    label_names,
    named,
    optional,
    readable,
    readable_names,
    texts,
)

ROWS_AT_ONCE = 65536
"""Rows of identifiers and labels that are read together."""

METADATA_KEY = "ngvae_tools"
"""Key of what the latent file says of itself in the metadata of a Parquet file, as JSON."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        rows: Number N of images.
        columns: Number d of columns of latents.
        labels: Number F of labels that are in it.
        bytes: Its size.
        notes: A sentence for each thing that is not as in the latent file.
    """

    path: str
    rows: int
    columns: int
    labels: int
    bytes: int
    notes: tuple[str, ...] = ()


def export_latents(
    latents: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool = False
) -> Exported:
    """Write the decoded latents, float32, in a format that the ending of `output` names.

    - `.npy`: the values (N, d), nothing else.
    - `.npz`: `values` (N, d), `identifiers` (N,), `dimensions` (d,), `posterior_variance` (d,); `labels` (N, F) and
      `label_names` (F,) where there are labels, and `classes_k` where code i in column k of them is name i.
    - `.parquet`: a column `identifier`, one for each column of latents, one for each label. Identifiers are text, or
      bytes where one of them is not UTF-8; labels are numbers, or dictionaries of text where their classes have names.
    - `.csv`: the same columns; the bytes of paths as they are, nothing for a label that is missing.
    - `.h5ad`: AnnData with `X` the values, `obs` the identifiers and labels (categorical where their classes have
      names), `var` what is known of each column, `uns` what the latent file says of itself. It is made in memory; the
      others are written chunk by chunk.

    Args:
        latents: A latent file, or the output folder of select-latents.
        output: The file to write.
        overwrite: Replace a file that is there.

    Raises:
        OptionError: The ending is none of these, or the output would replace the data set that the latents are of.
        OutputError: The file exists, or cannot be written.
        MissingDependencyError: The package that writes the format is not installed.
        RecordError: The latent file cannot be read.

    Example:
        >>> from ngvae_tools import export_latents
        >>> export_latents("OUT/latents.h5", "latents.parquet").rows  # doctest: +SKIP
        5184
    """
    target = Path(output)
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        raise OptionError(
            "the format of the export is not known",
            expected=f"a name that ends in {', '.join(WRITERS)}",
            found=str(target),
            remedy="name the file by its format",
        )
    refuse_existing(target, overwrite=overwrite, found="a file")
    # Each chunk is read once: none is worth keeping.
    with LatentFile(latents, cache_bytes=0) as file:
        refuse_replacing(target, file.path, *(source.path for source in file.header.origin.sources))
        with replacing(target) as part:
            notes = write(part, file)
        known = 0 if target.suffix.lower() == ".npy" else len(file.header.factors)
        return Exported(str(target), len(file), file.shape[1], known, target.stat().st_size, notes)


def _write_npy(path: Path, file: LatentFile) -> tuple[str, ...]:
    with path.open("wb") as sink:
        _put_array(sink, file.shape, file.dtype, (values for values, _ in file.chunks()))
    return ()


def _write_npz(path: Path, file: LatentFile) -> tuple[str, ...]:
    n_rows, width = len(file), len(file.header.factors)
    identifier_type = file.identifiers_of(0, 0).dtype
    with zipfile.ZipFile(path, "w") as archive:

        def put(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[npt.NDArray[Any]]) -> None:
            # A time that is always the same, so that equal latents make equal files.
            entry = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(entry, "w", force_zip64=True) as sink:
                _put_array(sink, shape, dtype, pieces)

        put("values", file.shape, file.dtype, (values for values, _ in file.chunks()))
        put("identifiers", (n_rows,), identifier_type, (file.identifiers_of(*span) for span in _spans(file)))
        for name, array in (("dimensions", file.dimensions), ("posterior_variance", file.posterior_variance)):
            put(name, array.shape, array.dtype, [array])
        if width:
            put("labels", (n_rows, width), np.dtype(float), (file.labels_of(*span) for span in _spans(file)))
            names = np.array(label_names([name for name, _ in file.header.factors], taken=()))
            put("label_names", names.shape, names.dtype, [names])
        for k, classes in enumerate(file.header.classes):
            if classes:
                names = np.array(readable_names(classes))
                put(f"classes_{k}", names.shape, names.dtype, [names])
    return ()


def _write_parquet(path: Path, file: LatentFile) -> tuple[str, ...]:
    pyarrow = optional("pyarrow", extra="tables")
    parquet = optional("pyarrow.parquet", extra="tables")
    names, known = _names(file)
    escaped = _not_utf8(file)
    numbered = file.identifiers_of(0, 0).dtype.kind == "i"
    kind = pyarrow.int64() if numbered else pyarrow.binary() if escaped else pyarrow.string()
    classes = [pyarrow.array(readable_names(each), pyarrow.string()) if each else None for each in file.header.classes]
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    schema = pyarrow.schema(
        [
            ("identifier", kind),
            *((name, pyarrow.float32()) for name in names),
            *((name, pyarrow.float64() if each is None else text) for name, each in zip(known, classes, strict=True)),
        ],
        metadata={METADATA_KEY: json.dumps(header_attributes(file.header), sort_keys=True)},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for values, identifiers, labels in _rows(file):
            first = identifiers if numbered else identifiers.tolist() if escaped else texts(identifiers)
            arrays = [pyarrow.array(first, kind), *map(pyarrow.array, values.T)]
            for column, each in zip(labels.T, classes, strict=True):
                if each is None:
                    arrays.append(pyarrow.array(column))
                else:
                    codes = pyarrow.array(codes_in(column), pyarrow.int32(), mask=np.isnan(column))
                    arrays.append(pyarrow.DictionaryArray.from_arrays(codes, each))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
    return (f"{escaped:,} paths are not UTF-8: the column identifier holds bytes.",) if escaped else ()


def _write_csv(path: Path, file: LatentFile) -> tuple[str, ...]:
    names, known = _names(file)
    classes = file.header.classes
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as sink:
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(["identifier", *names, *known])
        for values, identifiers, labels in _rows(file):
            columns = [
                named(column, each, "").tolist() if each else _written(column)
                for column, each in zip(labels.T, classes, strict=True)
            ]
            writer.writerows(zip(texts(identifiers), *map(_written, values.T), *columns, strict=True))
    escaped = _not_utf8(file)
    return (f"{escaped:,} paths are not UTF-8: the file holds their bytes.",) if escaped else ()


def _write_h5ad(path: Path, file: LatentFile) -> tuple[str, ...]:
    anndata = optional("anndata", extra="anndata")
    pandas = optional("pandas", extra="anndata")
    import h5py

    header = file.header
    names, _ = _names(file)
    known = label_names([name for name, _ in header.factors], taken=["identifier"])
    identifiers, escaped = file.identifiers, _not_utf8(file)
    as_text = [readable(name) for name in identifiers.tolist()] if identifiers.dtype.kind == "S" else texts(identifiers)
    index = pandas.Index(as_text, name="identifier", dtype=object)
    labels = file.labels
    obs = pandas.DataFrame(index=index)
    if labels is not None:
        obs = label_frame(labels, index, pandas.Index(known, dtype=object))
    places = header.origin.positions
    about = {
        "dimension": file.dimensions,
        "position": np.repeat(np.arange(places), len(header.origin.dimensions)),
        "posterior_variance": file.posterior_variance,
        "step": header.coding.step,
    }
    var = pandas.DataFrame(about, index=pandas.Index(names, dtype=object))
    data = anndata.AnnData(file.to_numpy(), obs=obs, var=var, uns=dict(header_attributes(header)))
    # See DeferringFile: HDF5 itself does not survive a disk that is full.
    with deferring_errors(path) as sink, h5py.File(sink, "w") as made:
        anndata.io.write_elem(made, "/", data)
    return (f"{escaped:,} paths are not UTF-8: their other bytes are written as \\xff.",) if escaped else ()


WRITERS: dict[str, Callable[[Path, LatentFile], tuple[str, ...]]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".h5ad": _write_h5ad,
}


def _put_array(
    sink: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[npt.NDArray[Any]]
) -> None:
    """An array in numpy's format, piece by piece; through a memory map, a full disk would end the process."""
    head = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    sink.write(head.getvalue())
    for piece in pieces:
        sink.write(np.ascontiguousarray(piece, dtype).tobytes())


def _written(column: npt.NDArray[np.floating[Any]]) -> list[str]:
    """Numbers (n,) with as few digits as tell them apart, nothing for NaN; few differ where they were quantised."""
    distinct, places = np.unique(column, return_inverse=True)
    words = np.array(["" if text == "nan" else text for text in distinct.astype(np.str_).tolist()], object)
    found: list[str] = words[places].tolist()
    return found


def _names(file: LatentFile) -> tuple[list[str], list[str]]:
    """Names of the columns of latents, and of the labels."""
    names = column_names(file.header.origin)
    return names, label_names([name for name, _ in file.header.factors], taken=["identifier", *names])


def _spans(file: LatentFile) -> Iterator[tuple[int, int]]:
    for start in range(0, len(file), ROWS_AT_ONCE):
        yield start, min(start + ROWS_AT_ONCE, len(file))


def _rows(file: LatentFile) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float64]]]:
    """Values, identifiers and labels of consecutive rows."""
    start = 0
    for values, identifiers in file.chunks():
        yield values, identifiers, file.labels_of(start, start + len(values))
        start += len(values)


def _not_utf8(file: LatentFile) -> int:
    """How many identifiers are not UTF-8."""
    if file.identifiers_of(0, 0).dtype.kind != "S":
        return 0
    return sum(not _is_utf8(name) for span in _spans(file) for name in file.identifiers_of(*span).tolist())


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
