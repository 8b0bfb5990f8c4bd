"""What a latent file says of itself: where its latents come from, and what was measured while they were written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from ngvae_tools.factors import ClassNames, kept_names
from ngvae_tools.latents.coding import CODE_TYPES, Coding
from ngvae_tools.latents.grid import MOST_STEPS, Array, Integers

FORMAT = "ngvae-latents"
VERSION = 1
FILE_NAME = "latents.h5"

CHUNK_ROWS = 4096
"""Rows of a chunk of codes, identifiers or labels."""

ARCHIVE_ROWS = 65536
"""Rows of a block of the denser codec."""

Codec = Literal["deflate", "archive"]
StepsFrom = Literal["posterior variance", "variance of mu"]


@dataclass(frozen=True, slots=True)
class DataSource:
    """A data set whose images the rows are, in order.

    Attributes:
        path: Where it was.
        kind: As in the record.
        fingerprint: Identifies its content.
        n_rows: Number of its rows; they follow those of the sources before.
        identifiers: What was put before the identifiers: `prefix/` before paths, or a number added to row numbers.
    """

    path: str
    kind: str
    fingerprint: str
    n_rows: int
    identifiers: str | int = ""


@dataclass(frozen=True, slots=True)
class LatentOrigin:
    """Where the latents come from; K latent dimensions at P positions, d columns.

    Attributes:
        dimensions: Latent dimensions that are kept, in the order of the columns; those of each position follow each
            other, so d is P times their number.
        latent_dim: Number K of latent dimensions of the encoder.
        positions: Number P of positions of a spatial latent; 1 where there are none.
        posterior_variance: Mean posterior variance of each kept dimension; for deterministic codes the variance
            that the steps follow.
        fill: Mean of mu of all K dimensions, which stands for those that are not kept.
        steps_from: What the steps follow.
        family: Law of the posterior.
        hyperparameters: Numbers of the family.
        rule: Rule of the selection.
        threshold: Its threshold.
        encoder_sha256: Hash of the encoder.
        decoder_sha256: Hash of the decoder that belongs to it; None where none was named.
        distortion: Error of quantisation as a share of the posterior variance; None: not quantised.
        trained: What the encoder's file says of its training, by name, as in the record.
        preprocessing: How images became the encoder's input, and which of its outputs were read.
        sources: The data sets.
        versions: Of the programs that made the latents.
    """

    dimensions: tuple[int, ...]
    latent_dim: int
    positions: int
    posterior_variance: Array
    fill: Array
    steps_from: StepsFrom
    family: str
    hyperparameters: Mapping[str, Any]
    rule: str
    threshold: float
    encoder_sha256: str
    decoder_sha256: str | None
    distortion: float | None
    trained: Mapping[str, str] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[DataSource, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> int:
        """Number d of columns."""
        return len(self.dimensions) * self.positions

    def kept(self, mu: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The columns (n, d) of all K dimensions at each of the P positions, (n, P K)."""
        by_position = mu.reshape(len(mu), self.positions, self.latent_dim)
        return by_position[:, :, list(self.dimensions)].reshape(len(mu), self.columns)


@dataclass(frozen=True, slots=True)
class LatentHeader:
    """All of a latent file but its rows.

    Attributes:
        origin: Where the latents come from.
        n_rows: Number N of rows.
        coding: What the codes mean.
        codec: How they are packed.
        chunk_rows: Rows of a column that are packed together.
        codes_sha256: SHA-256 of the codes, little-endian, row by row.
        max_error: Largest error of each kept dimension that quantisation made, over all positions.
        mean_squared_error: Mean squared error of each kept dimension.
        entropy: Shannon entropy of each kept dimension's codes in bits; None where there were too many to count.
        factors: Names and kinds of the labels, one each; empty without labels.
        classes: The names of each label's classes.
    """

    origin: LatentOrigin
    n_rows: int
    coding: Coding
    codec: Codec
    chunk_rows: int
    codes_sha256: str
    max_error: Array
    mean_squared_error: Array
    entropy: Array | None
    factors: tuple[tuple[str, str], ...] = ()
    classes: tuple[ClassNames, ...] = ()

    def metadata(self) -> str:
        """What has no attribute or array of its own, as JSON."""
        origin, entropy = self.origin, self.entropy
        body: dict[str, Any] = {
            "chunk_rows": self.chunk_rows,
            "code_type": self.coding.dtype.name,
            "codec": self.codec,
            "decoder_sha256": origin.decoder_sha256,
            "distortion": origin.distortion,
            "entropy_bits": None if entropy is None else _rounded(entropy),
            "hyperparameters": dict(origin.hyperparameters),
            "latent_dim": origin.latent_dim,
            "max_error": self.max_error.tolist(),
            "mean_squared_error": _rounded(self.mean_squared_error),
            "positions": origin.positions,
            "preprocessing": dict(origin.preprocessing),
            "shift": self.coding.shift[: len(origin.dimensions)].tolist(),
            "sources": [asdict(source) for source in origin.sources],
            "steps_from": origin.steps_from,
            "trained": dict(origin.trained),
            "versions": dict(origin.versions),
        }
        if self.factors:
            body["classes"] = self.classes
        return json.dumps(body, sort_keys=True, allow_nan=False, separators=(",", ":"))

    @classmethod
    def parse(cls, attributes: Mapping[str, Any], arrays: HeaderArrays) -> Self:
        """The header that attributes and arrays tell of.

        Raises:
            ValueError, TypeError, KeyError: They do not fit each other or the format.
        """
        body = json.loads(attributes["metadata"], parse_float=_finite, parse_constant=_finite)
        positions, latent_dim = _whole(body["positions"]), _whole(body["latent_dim"])
        columns = len(arrays.dimensions)
        if positions < 1 or columns % positions or arrays.fill.shape != (latent_dim,):
            raise ValueError(
                f"{columns} columns of {positions} positions, {len(arrays.fill)} of {latent_dim} dimensions"
            )
        kept = arrays.dimensions[: columns // positions]
        outside = len(kept) and not 0 <= kept.min() <= kept.max() < latent_dim
        if outside or len(set(kept.tolist())) < len(kept) or (arrays.dimensions != np.tile(kept, positions)).any():
            raise ValueError("dimensions that the encoder does not have, or not the same at each position")
        origin = LatentOrigin(
            dimensions=tuple(kept.tolist()),
            latent_dim=latent_dim,
            positions=positions,
            posterior_variance=arrays.posterior_variance[: len(kept)],
            fill=arrays.fill,
            steps_from=_one_of(get_args(StepsFrom), body["steps_from"]),
            family=attributes["family"],
            hyperparameters=_of_type(dict, body["hyperparameters"]),
            rule=attributes["rule"],
            threshold=float(attributes["threshold"]),
            encoder_sha256=attributes["encoder_sha256"],
            decoder_sha256=_of_type(str, body["decoder_sha256"], optional=True),
            distortion=None if body["distortion"] is None else _share(body["distortion"]),
            trained=_texts(body.get("trained", {})),
            preprocessing=_of_type(dict, body["preprocessing"]),
            sources=tuple(_source(source) for source in _of_type(list, body["sources"])),
            versions=_texts(body["versions"]),
        )
        entropy = body["entropy_bits"]
        return cls(
            origin=origin,
            n_rows=arrays.n_rows,
            coding=arrays.coding(_code_type(body["code_type"]), np.tile(_shifts(body["shift"], len(kept)), positions)),
            codec=_one_of(get_args(Codec), body["codec"]),
            chunk_rows=_chunk_rows(body["chunk_rows"]),
            codes_sha256=attributes["codes_sha256"],
            max_error=_numbers(body["max_error"], len(kept)),
            mean_squared_error=_numbers(body["mean_squared_error"], len(kept)),
            entropy=None if entropy is None else _numbers(entropy, len(kept)),
            factors=arrays.factors,
            classes=_classes(body.get("classes"), arrays.factors),
        )


@dataclass(frozen=True, slots=True)
class HeaderArrays:
    """The small arrays of a file.

    Attributes:
        n_rows: Number N of rows.
        dimensions: Latent dimension of each column, shape (d,).
        scale: Shape (d,).
        offset: Shape (d,).
        posterior_variance: Shape (d,).
        fill: Shape (K,).
        factors: Names and kinds of the labels.
    """

    n_rows: int
    dimensions: Integers
    scale: Array
    offset: Array
    posterior_variance: Array
    fill: Array
    factors: tuple[tuple[str, str], ...]

    def coding(self, dtype: np.dtype[Any], shift: Integers) -> Coding:
        """What codes of a type mean.

        Raises:
            ValueError: Scale and offset are not those of a grid.
        """
        if dtype.kind == "f":
            coding = Coding.lossless(len(self.dimensions))
        else:
            if not (np.isfinite(self.scale).all() and (self.scale > 0).all() and np.isfinite(self.offset).all()):
                raise ValueError("a scale or offset that is no number, or no scale above 0")
            if shift.size and not 0 <= shift.min() <= shift.max() < 8 * dtype.itemsize:
                raise ValueError("a shift beyond the bits of a code")
            with np.errstate(over="ignore", invalid="ignore"):
                step = np.ldexp(self.scale, shift)
                base = np.rint(self.offset / step)
            if base.size and not np.abs(base).max() < MOST_STEPS:
                raise ValueError("an offset beyond what a grid has")
            coding = Coding(dtype, step, base.astype(np.int64), shift)
        if (coding.scale != self.scale).any() or (coding.offset != self.offset).any():
            raise ValueError("a scale or offset that does not fit the grid")
        return coding


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} among the metadata")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} in place of a number of things")
    return value


def _share(value: Any) -> float:
    found = float(_numbers([value], 1)[0])
    if found <= 0:
        raise ValueError(f"{value!r} in place of a number above 0")
    return found


def _of_type(kind: type, value: Any, *, optional: bool = False) -> Any:
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(f"{value!r} in place of what is a {kind.__name__} in JSON")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {name: _of_type(str, text) for name, text in _of_type(dict, value).items()}


def _source(body: Any) -> DataSource:
    source = DataSource(**_of_type(dict, body))
    _whole(source.n_rows)
    for text in (source.path, source.kind, source.fingerprint):
        _of_type(str, text)
    if type(source.identifiers) not in {str, int}:
        raise TypeError(f"{source.identifiers!r} before identifiers")
    return source


def _classes(body: Any, factors: tuple[tuple[str, str], ...]) -> tuple[ClassNames, ...]:
    """The names of each label's classes; files of before do not say whether numbers of classes stand for texts."""
    if body is None:
        return tuple(() if kind == "categorical" else None for _, kind in factors)
    found = tuple(None if names is None else tuple(_of_type(list, names)) for names in _of_type(list, body))
    for names, (name, kind) in zip(found, factors, strict=True):
        texts = all(isinstance(each, str) for each in names or ())
        if names is not None and (
            kind != "categorical" or not texts or len(set(names)) < len(names) or kept_names(names) != names
        ):
            raise ValueError(f"names of classes of {name!r} that cannot be")
    return found


def _numbers(values: Any, count: int) -> Array:
    if not all(type(value) in {int, float} for value in _of_type(list, values)):
        raise TypeError(f"{values!r} in place of numbers")
    found = np.array(values, dtype=np.float64)
    if found.shape != (count,) or not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"{len(values)} numbers for {count} dimensions, or numbers below 0 or not finite")
    return found


def _shifts(values: Any, count: int) -> Integers:
    found = _numbers(values, count)
    if (found != np.rint(found)).any() or (found > MOST_STEPS).any():
        raise ValueError("a shift that is no number of bits")
    return found.astype(np.int64)


def _code_type(name: Any) -> np.dtype[Any]:
    return next(kind for kind in CODE_TYPES if kind.name == _one_of(tuple(each.name for each in CODE_TYPES), name))


def _chunk_rows(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= ARCHIVE_ROWS:
        raise ValueError(f"{value!r} rows of a chunk")
    return value


def _one_of(allowed: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{value!r} in place of one of {', '.join(allowed)}")
    return value


def _rounded(values: Array) -> list[float]:
    """Numbers as people read them; 6 digits."""
    return [float(f"{value:.6g}") for value in values]
