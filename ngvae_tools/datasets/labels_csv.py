"""Labels from a CSV file: a line an image, keyed by relative path (folders, tar files) or by row number (others).

    path,shape,hue:circular,size:continuous
    a/0001.png,square,0.25,1.5

The first column is the key: `path`, `file`, `filename` or `id`, or `index` for an HDF5 file. Every other column is
a factor; `name:kind` declares its kind. A column whose values are not all numbers is text, hence categorical.
An empty value, or nan, is missing.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ngvae_tools.datasets.base import BY_PATH
from ngvae_tools.datasets.factors import MAX_FACTORS, codes_of
from ngvae_tools.errors import DatasetError
from ngvae_tools.factors import KINDS, ClassNames, Factors

if TYPE_CHECKING:
    import numpy.typing as npt

    from ngvae_tools.datasets.base import ImageDataset
    from ngvae_tools.record import FactorKind

KEYS = ("path", "file", "filename", "id", "index")
_BLOCK = 65_536
_MISSING = {"", "nan"}
_EXAMPLE = "a first line such as path,shape,hue:circular and then a line for every image"


@dataclass(frozen=True, slots=True)
class CSVLabels:
    """The labels of the images of a data set that have some.

    Attributes:
        index: Positions in the data set of the M labelled images, ascending, int64 (M,).
        factors: Their factors, (M, F).
        n_unmatched: Lines of the file whose image is not in the data set.
    """

    index: npt.NDArray[np.int64]
    factors: Factors
    n_unmatched: int


def read_csv_labels(path: str | os.PathLike[str], dataset: ImageDataset) -> CSVLabels:
    """Read the labels of a data set's images; see the module for the format.

    The file is read twice, so that no more than one number a value and the keys are held.

    Raises:
        DatasetError: The file cannot be read or is not such a table, an image has two lines, a value does not
            fit its declared kind, or no line belongs to an image of the data set.
    """
    path = Path(path)
    by_row = dataset.kind not in BY_PATH
    names, kinds = _header(path, by_row=by_row)
    keys, text = _check(path, kinds, by_row=by_row)
    index, lines = _matched(keys, dataset)
    if not len(index):
        known = dataset.identifiers(0, 1)[0]
        example = next(iter(keys)) if keys else "no line below the header"
        raise DatasetError(
            f"{path} has no label for an image of {dataset.location}",
            expected=f"names such as {_shown(known)}",
            found=_shown(example) if keys else str(example),
            remedy="write every image's path below the folder (for HDF5 its row), or name another file with --labels",
        )
    values, classes = _values(path, len(keys), text)
    factors = Factors.of(names, values[lines], kinds=kinds, text=text, classes=classes)
    return CSVLabels(index, factors, len(keys) - len(index))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines with their numbers, the header first, all of the header's length."""
    try:
        # Paths need not be text: what is not UTF-8 survives as surrogate escapes.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            width = 0
            for line in reader:
                if not line:
                    continue
                width = width or len(line)
                if len(line) != width:
                    where = f"line {reader.line_num} of {path}"
                    raise _refusal(f"{where} does not fit the header", f"{width} values", f"{len(line)}")
                yield reader.line_num, line
    except OSError as error:
        raise _refusal(f"{path} cannot be read", "a CSV file of labels", str(error.strerror)) from error
    except csv.Error as error:
        raise _refusal(f"{path} is not CSV", _EXAMPLE, f"{error} in line {reader.line_num}") from error


def _header(path: Path, *, by_row: bool) -> tuple[list[str], list[FactorKind | None]]:
    """Names and declared kinds of the factors."""
    _, header = next(_lines(path), (0, []))
    key = header[0].strip().lower() if header else "nothing"
    if key not in KEYS or ((key == "index") != by_row and key != "id"):
        wanted = "index" if by_row else "path (or file, filename, id)"
        raise _refusal(f"the first column of {path} is not the images'", f"a column named {wanted}", repr(key[:80]))
    names: list[str] = []
    kinds: list[FactorKind | None] = []
    for column in header[1:]:
        name, colon, word = column.rpartition(":")
        kind = next((kind for kind in KINDS if kind == word.strip().lower()), None)
        name = (name if colon else word).strip()
        if (colon and kind is None) or not name or name in names:
            expected = "different names, each alone or with :categorical, :continuous or :circular behind it"
            raise _refusal(f"a column of {path} cannot be a factor", expected, repr(column[:80]))
        names.append(name)
        kinds.append(kind)
    if not 0 < len(names) <= MAX_FACTORS:
        expected = f"1 to {MAX_FACTORS} columns of factors beside the first"
        raise _refusal(f"{path} does not hold factors", expected, str(len(names)))
    return names, kinds


def _check(
    path: Path, kinds: list[FactorKind | None], *, by_row: bool
) -> tuple[dict[bytes | int, int], tuple[bool, ...]]:
    """Which line holds each image, counted from the first below the header, and which columns are text."""
    keys: dict[bytes | int, int] = {}
    text = [False] * len(kinds)
    for number, (key, *values) in itertools.islice(_lines(path), 1, None):
        image = _key(key, path, number, by_row=by_row)
        if image in keys:
            raise _refusal(f"line {number} of {path} repeats an image", "one line an image", repr(key))
        keys[image] = len(keys)
        for k, value in enumerate(values):
            if not text[k] and _number(value) is None:
                if kinds[k] in {"continuous", "circular"}:
                    where = f"column {k + 2} in line {number} of {path}"
                    raise _refusal(f"{where} is declared {kinds[k]}", "a finite number, or nothing", repr(value[:80]))
                text[k] = True
    return keys, tuple(text)


def _key(text: str, path: Path, number: int, *, by_row: bool) -> bytes | int:
    if not by_row:
        return text.encode(errors="surrogateescape").removeprefix(b"./")
    row = text.strip()
    if not (row.isascii() and row.isdecimal() and len(row) < 19):
        raise _refusal(f"line {number} of {path} names no row of the data set", "a row number from 0", repr(text[:80]))
    return int(row)


def _number(text: str) -> float | None:
    """The value, NaN where it is missing, None where the text is no finite number."""
    text = text.strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _values(path: Path, count: int, text: tuple[bool, ...]) -> tuple[npt.NDArray[np.float64], tuple[ClassNames, ...]]:
    """Every line's values, (count, F), texts as codes in their sorted order, and the names of classes."""
    values = np.full((count, len(text)), np.nan)
    seen: list[dict[str, int]] = [{} for _ in text]
    for row, (_, (_, *line)) in zip(range(count), itertools.islice(_lines(path), 1, None), strict=False):
        for k, value in enumerate(line):
            if text[k]:
                values[row, k] = seen[k].setdefault(value.strip(), len(seen[k]))
            else:
                number = _number(value)
                values[row, k] = math.nan if number is None else number
    classes: list[ClassNames] = [None] * len(text)
    for k in np.flatnonzero(text).tolist():
        codes, classes[k] = codes_of(np.array(["" if word.lower() in _MISSING else word for word in seen[k]], np.str_))
        values[:, k] = codes[values[:, k].astype(np.int64)]
    return values, tuple(classes)


def _matched(
    keys: dict[bytes | int, int], dataset: ImageDataset
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions in the data set of the labelled images, ascending, and the line of each."""
    found: list[tuple[int, int]] = []
    for start in range(0, len(dataset), _BLOCK):
        block = dataset.identifiers(start, min(start + _BLOCK, len(dataset))).tolist()
        found += [(start + k, keys[name]) for k, name in enumerate(block) if name in keys]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _shown(key: Any) -> str:
    return repr(os.fsdecode(key)) if isinstance(key, bytes) else f"row {key}"


def _refusal(problem: str, expected: str, found: str) -> DatasetError:
    return DatasetError(
        problem, expected=expected, found=found, remedy="correct the file, or name another with --labels"
    )
