"""Columns of a table: which holds images, their values, and labels among them. pyarrow is needed here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.datasets.decode import UnusableImageError
from ngvae_tools.datasets.encoded import Encoded
from ngvae_tools.datasets.factors import MAX_FACTORS, codes_of
from ngvae_tools.errors import DatasetError, MissingDependencyError
from ngvae_tools.factors import ClassNames, Factors, are_codes, kept_names
from ngvae_tools.record import FactorKind

GUESSED = ("image", "img", "images", "jpg", "jpeg", "png", "webp")
"""Names of columns that hold images, where nothing else says so."""

_LABELS = ("label", "labels")
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Values:
    """Consecutive rows of a column of images.

    Attributes:
        start: Number of the first row.
        stop: Number of the one after the last.
        data: Encoded images, an array of pyarrow; None: they cannot be read.
        paths: Names of the files that they were, likewise; None: no such column.
        reason: Why they cannot be read.
    """

    start: int
    stop: int
    data: Any = None
    paths: Any = None
    reason: str = ""

    @classmethod
    def failed(cls, start: int, stop: int, reason: str) -> Values:
        """Rows that cannot be read."""
        return cls(start, stop, reason=reason)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return 0 if self.data is None else int(self.data.nbytes)

    def encoded(self, row: int, most: int) -> Encoded:
        """The bytes of one image, or why there are none."""
        if self.data is None:
            return UnusableImageError(self.reason)
        value = self.data[row - self.start]
        if not value.is_valid:
            path = None if self.paths is None else self.paths[row - self.start].as_py()
            return UnusableImageError("is null" if path is None else f"holds no bytes, only the path {path!r}")
        buffer = value.as_buffer()
        if buffer.size > most:
            return UnusableImageError(f"has {buffer.size:,} bytes, more than the safe {most:,}")
        return bytes(buffer)


def values_of(array: Any, start: int, most: int) -> Values:
    """Values of a column that begin at a row, and end before `most`. Raises what pyarrow raises where it is damaged."""
    import pyarrow as pa

    array.validate(full=False)
    paths = None
    if pa.types.is_struct(array.type):
        named = {field.name: k for k, field in enumerate(array.type)}
        children = array.flatten()
        array = children[named["bytes"]]
        paths = children[named["path"]] if "path" in named else None
    # Offsets of a hostile file may lead anywhere.
    array.validate(full=True)
    if paths is not None:
        paths.validate(full=True)
    if start + len(array) > most or not len(array):
        raise ValueError(f"{len(array)} rows are there where {most - start} are stated")
    return Values(start, start + len(array), array, paths)


def image_column(schema: Any, key: str | None, location: str) -> str:
    """The column of images: `key`, else what Hugging Face's features name, else a usual name, else the only one.

    Raises:
        DatasetError: There is none.
    """
    try:
        usable = [name for name in _names(schema) if _holds_bytes(schema.field(name).type)]
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{location} cannot be read",
            expected="columns whose names are text",
            found=str(error),
            remedy="check the file, or write it again",
        ) from error
    features = _features(schema)
    told = [name for name in usable if _type(features.get(name)) == "Image"]
    usual = [name for name in GUESSED if name in usable]
    guessed = (told or usual or usable) if told or usual or len(usable) == 1 else []
    if key is None and guessed:
        return guessed[0]
    if key is not None and key in usable:
        return key
    columns = [f"{field.name} {field.type}" for field in schema]
    more = f" and {len(columns) - _LISTED} more" if len(columns) > _LISTED else ""
    wanted = f"named {key!r}" if key is not None else "of images"
    raise DatasetError(
        f"{location} has no column {wanted}",
        expected="one of bytes, or of structs with bytes and path, each an encoded image",
        found=(", ".join(columns[:_LISTED]) or "no column") + more,
        remedy="name the right one with --dataset-key",
    )


def label_columns(schema: Any) -> list[str]:
    """Columns that Hugging Face's features call class labels, else those of a label's name with numbers or text."""
    import pyarrow as pa

    features = _features(schema)
    classes = [field.name for field in schema if _type(features.get(field.name)) == "ClassLabel"]
    plain = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string)
    usual = [f.name for f in schema if f.name in _LABELS and any(test(f.type) for test in plain)]
    return (classes or usual)[:MAX_FACTORS]


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """What Hugging Face's features call the classes of columns, class i being name i; all different."""
    told = {name: about.get("names") for name, about in _features(schema).items() if _type(about) == "ClassLabel"}
    return {
        name: tuple(names)
        for name, names in told.items()
        if isinstance(names, list) and all(isinstance(each, str) for each in names) and len(set(names)) == len(names)
    }


def factors_of(columns: Mapping[str, Sequence[Any]], named: Mapping[str, tuple[str, ...]]) -> Factors:
    """Factors from the values of label columns; no label, and a negative class, are missing.

    Args:
        columns: Their values, by name.
        named: What the classes of some of them are called, by name of the column.
    """
    values: list[npt.NDArray[np.float64]] = []
    classes: list[ClassNames] = []
    for column, items in columns.items():
        names: ClassNames
        if any(isinstance(item, str) for item in items):
            codes, names = codes_of(np.array([item or "" for item in items], np.str_))
        else:
            numbers = np.array([np.nan if item is None else float(item) for item in items])
            codes = np.where(numbers < 0, np.nan, numbers)
            told = named.get(column, ())
            # With a number that has no name, the names are of something else.
            names = kept_names(told) if told and are_codes(codes, len(told)) else None
        values.append(codes)
        classes.append(names)
    kinds: tuple[FactorKind, ...] = tuple("categorical" for _ in values)
    text = (True,) * len(values)
    return Factors.of(tuple(columns), np.stack(values, axis=1), kinds=kinds, text=text, classes=classes)


def require_pyarrow(location: str) -> None:
    """Raise `MissingDependencyError` unless pyarrow can be imported."""
    try:
        import pyarrow  # noqa: F401, ICN001
    except ImportError:
        raise MissingDependencyError(
            f"{location} cannot be opened",
            expected="pyarrow, to read Parquet and Arrow files",
            found="none that can be imported",
            remedy="install it with: pip install 'ngvae-tools[parquet]'",
        ) from None


def _holds_bytes(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(name == "bytes" and _holds_bytes(kind.field(name).type) for name in _names(kind))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _names(fields: Any) -> list[str]:
    """Names that occur once. Raises `UnicodeDecodeError` where one is no text."""
    names = [field.name for field in fields]
    return [name for name in names if names.count(name) == 1]


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Hugging Face's features by column, where the schema carries them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: about for name, about in features.items() if isinstance(about, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _type(feature: Mapping[str, Any] | None) -> str:
    return str((feature or {}).get("_type"))
