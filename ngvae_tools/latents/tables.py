"""Latents as tables of other libraries: xarray's Dataset, pandas' DataFrame, and the names that these have."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import MissingDependencyError
from ngvae_tools.latents.header import FORMAT, VERSION, LatentHeader, LatentOrigin

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ngvae_tools.factors import Factors
    from ngvae_tools.latents.reader import LatentFile

_XARRAY_NAMES = ("latents", "posterior_variance", "image", "position", "dimension")


def to_xarray(file: LatentFile) -> xr.Dataset:
    """All latents as an xarray Dataset, in memory.

    The variable `latents` has the axes (image, dimension), or (image, position, dimension) for a spatial latent;
    `posterior_variance` the axis (dimension,); each label is a variable of the axis (image,): of text where its classes
    have names, None where an image has no label. The coordinate `image` is the identifiers: row numbers, or relative
    paths as text, in which bytes that are not UTF-8 are surrogate escapes as Python's file names have them. The
    coordinate `dimension` is the number of the latent dimension in the encoder.

    Raises:
        MissingDependencyError: xarray is not installed.
        RecordError: The file is damaged.
    """
    xarray = optional("xarray", extra="tables")
    origin = file.header.origin
    coordinates = {"image": _index(file.identifiers), "dimension": np.array(origin.dimensions, np.int64)}
    values = file.to_numpy()
    axes: tuple[str, ...] = ("image", "dimension")
    if origin.positions > 1:
        coordinates["position"] = np.arange(origin.positions)
        values, axes = values.reshape(len(file), origin.positions, -1), ("image", "position", "dimension")
    variables: dict[str, Any] = {
        "latents": (axes, values),
        "posterior_variance": (("dimension",), origin.posterior_variance),
    }
    labels = file.labels
    if labels is not None:
        names = label_names(labels.names, taken=_XARRAY_NAMES)
        for name, column, classes in zip(names, labels.values.T, labels.classes, strict=True):  # noqa: PD011 - Factors
            variables[name] = (("image",), named(column, readable_names(classes), None) if classes else column)
    dataset: xr.Dataset = xarray.Dataset(variables, coordinates, header_attributes(file.header))
    return dataset


def to_pandas(file: LatentFile) -> pd.DataFrame:
    """All latents as a pandas DataFrame, in memory: a row an image, a column a latent dimension, labels after them.

    The index `identifier` is as the coordinate `image` of `to_xarray`; columns are named by `column_names`. A label is
    categorical where the names of its classes are known.

    Raises:
        MissingDependencyError: pandas is not installed.
        RecordError: The file is damaged.
    """
    pandas = optional("pandas", extra="tables")
    names = column_names(file.header.origin)
    identifiers = _index(file.identifiers)
    # Named, since pandas 3 would look for a type of text, which holds no surrogate escapes.
    index = pandas.Index(identifiers, dtype=identifiers.dtype, name="identifier")
    frame: pd.DataFrame = pandas.DataFrame(file.to_numpy(), index=index, columns=pandas.Index(names, dtype=object))
    labels = file.labels
    if labels is not None:
        called = pandas.Index(label_names(labels.names, taken=names), dtype=object)
        frame = pandas.concat([frame, label_frame(labels, index, called)], axis="columns")
    return frame


def label_frame(labels: Factors, index: Any, called: Any) -> pd.DataFrame:
    """Labels as columns of the names `called`: numbers, or categorical where the names of classes are known."""
    import pandas as pd

    columns = zip(labels.values.T, labels.classes, strict=True)  # noqa: PD011 - Factors
    made = [
        pd.Categorical.from_codes(codes_in(column), readable_names(classes)) if classes else column
        for column, classes in columns
    ]
    frame = pd.DataFrame(dict(enumerate(made)), index=index)
    frame.columns = called
    return frame


def column_names(origin: LatentOrigin) -> list[str]:
    """A name for each of the d columns: `z3` for latent dimension 3, `z3_p5` for that at position 5."""
    if origin.positions == 1:
        return [f"z{k}" for k in origin.dimensions]
    return [f"z{k}_p{position}" for position in range(origin.positions) for k in origin.dimensions]


def label_names(names: Iterable[str], *, taken: Iterable[str]) -> list[str]:
    """Names of labels beside others: `_label` is added to what is taken, and bytes that are not UTF-8 are escaped."""
    return _apart(names, "_label", taken)


def readable_names(classes: Iterable[str]) -> list[str]:
    """Names of classes as `readable` has them; `_class` is added to one that would be as another."""
    return _apart(classes, "_class", ())


def codes_in(column: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Codes of classes (n,), -1 where there is none."""
    return np.where(np.isnan(column), -1, column).astype(np.int64)


def named(column: npt.NDArray[np.float64], names: Sequence[str], missing: str | None) -> npt.NDArray[np.object_]:
    """What the classes of rows (n,) are called, as objects."""
    return np.array([*names, missing], object)[codes_in(column)]


def _apart(names: Iterable[str], suffix: str, taken: Iterable[str]) -> list[str]:
    """Names in readable text, with a suffix where one is taken."""
    used, found = set(taken), []
    for name in names:
        free = readable(name.encode("utf-8", "surrogateescape"))
        while free in used:
            free += suffix
        used.add(free)
        found.append(free)
    return found


def texts(identifiers: npt.NDArray[Any]) -> list[str]:
    """Identifiers as text, from which `LatentFile.by_id` finds them again."""
    if identifiers.dtype.kind == "S":
        return [os.fsdecode(name) for name in identifiers.tolist()]
    return [str(number) for number in identifiers.tolist()]


def readable(name: bytes) -> str:
    r"""A name as UTF-8 text, with `\xff` for a byte that is none, or zero: for formats that hold nothing else."""
    return name.decode("utf-8", "backslashreplace").replace("\0", r"\x00")


def header_attributes(header: LatentHeader) -> dict[str, str | int | float]:
    """What a file says of itself, as plain text and numbers; lists and mappings are JSON, what is None is left out."""
    origin = header.origin
    found: dict[str, str | int | float | None] = {
        "format": FORMAT,
        "version": VERSION,
        "family": origin.family,
        "hyperparameters": _json(dict(origin.hyperparameters)),
        "rule": origin.rule,
        "threshold": origin.threshold,
        "latent_dim": origin.latent_dim,
        "positions": origin.positions,
        "encoder_sha256": origin.encoder_sha256,
        "decoder_sha256": origin.decoder_sha256,
        "codes_sha256": header.codes_sha256,
        "codec": header.codec,
        "distortion": origin.distortion,
        "steps_from": origin.steps_from,
        "preprocessing": _json(dict(origin.preprocessing)),
        "sources": _json([asdict(source) for source in origin.sources]),
        "versions": _json(dict(origin.versions)),
    }
    return {name: value for name, value in found.items() if value is not None}


def optional(name: str, *, extra: str) -> ModuleType:
    """A package that not everybody has installed.

    Raises:
        MissingDependencyError: It cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise MissingDependencyError(
            f"{package} is not installed",
            expected=f"the package {package}",
            found=f"none that can be imported ({error})",
            remedy=f"install it with: pip install 'ngvae-tools[{extra}]'",
        ) from None


def _index(identifiers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if identifiers.dtype.kind != "S":
        return identifiers
    found = np.empty(len(identifiers), object)
    found[:] = texts(identifiers)
    return found


def _json(value: dict[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, sort_keys=True)
