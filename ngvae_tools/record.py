"""The analysis record: the one value that `select-latents` makes and every report renders.

JSON in, JSON out, equal. Numbers in the JSON are never NaN or infinite: a value that is not defined is null
and `notes` says why.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngvae_tools.errors import RecordError

FORMAT = "ngvae-tools/selection"
VERSION = 1
FILE_NAME = "selection.json"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The encoder that was analysed.

    Attributes:
        path: Where the file was.
        sha256: Hash of the file's bytes.
        family: Law of the posterior.
        latent_dim: Number K of latent dimensions.
        hyperparameters: Numbers of the family, each a scalar or one value a dimension.
        provider: onnxruntime execution provider that ran it.
    """

    path: str
    sha256: str
    family: str
    latent_dim: int
    hyperparameters: Mapping[str, float | tuple[float, ...]]
    provider: str


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The data that went through the encoder.

    Attributes:
        path: Where the data set was.
        kind: `folder` or `hdf5`.
        fingerprint: Identifies the content, see `ngvae_tools.datasets`.
        n_images: Images seen; the latent file holds n_images - n_rejected rows.
        n_rejected: Images that could not be used; `rejected.jsonl` has a line for each.
        image_shape: (H, W, C) as the encoder took them.
        resize: How images were brought to that shape, None if they were taken as they are.
    """

    path: str
    kind: str
    fingerprint: str
    n_images: int
    n_rejected: int
    image_shape: tuple[int, int, int]
    resize: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dimensions a rule calls informative.

    Attributes:
        rule: `p` or `variance`.
        threshold: A dimension is informative where its score lies below.
        score: One value a dimension, shape (K,).
        informative: One verdict a dimension, shape (K,).
    """

    rule: str
    threshold: float
    score: tuple[float, ...]
    informative: tuple[bool, ...]

    @property
    def indices(self) -> tuple[int, ...]:
        """Indices of the informative dimensions."""
        return tuple(k for k, verdict in enumerate(self.informative) if verdict)

    @property
    def count(self) -> int:
        """Number of informative dimensions."""
        return sum(self.informative)


@dataclass(frozen=True, slots=True)
class DimensionStatistics:
    """What one latent dimension does over the data.

    Attributes:
        index: The dimension, from 0.
        informative: Verdict of the record's selection.
        mu_mean: Mean over images of the posterior mean.
        mu_variance: Variance over images of the posterior mean (ddof 1).
        posterior_variance: Mean over images of the posterior variance.
        posterior_entropy: Mean over images of the posterior's differential entropy, in nats.
        p_mean: Mean over images of p (near 0 = informative); None for a Gaussian encoder.
        p_std: Standard deviation over images of p (ddof 1); None for a Gaussian encoder.
    """

    index: int
    informative: bool
    mu_mean: float
    mu_variance: float | None
    posterior_variance: float
    posterior_entropy: float
    p_mean: float | None
    p_std: float | None


@dataclass(frozen=True, slots=True)
class CovarianceMetrics:
    """Numbers of the covariance of mu; None where one is not defined (the record's notes say why).

    Attributes:
        entropy: Entropy in nats of the diagonal scaled to sum to one; at most log K.
        decorrelation: Trace over the sum of absolute off-diagonal terms; the honest reading.
        decorrelation_signed: Trace over the sum of signed off-diagonal terms; the paper's reading.
        total_correlation: Total correlation in nats of a Gaussian fit.
    """

    entropy: float | None
    decorrelation: float | None
    decorrelation_signed: float | None
    total_correlation: float | None


@dataclass(frozen=True, slots=True)
class LatentsInfo:
    """The compressed latent file beside the record.

    Attributes:
        file: Name of the file in the record's folder.
        sha256: Hash of the file's bytes.
        bytes: Size of the file.
        dimensions: Latent dimensions it holds, in the order of its columns.
    """

    file: str
    sha256: str
    bytes: int
    dimensions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AnalysisRecord:
    """Everything that `select-latents` found out.

    Attributes:
        model: The encoder.
        data: The data set.
        selection: The verdict by the rule that was asked for.
        rules: The verdict of every rule that applies to the family, each at its own threshold.
        dimensions: One row a latent dimension.
        covariance: Covariance over images of mu, shape (K, K) (ddof 1); None with fewer than two images.
        metrics: Numbers of the covariance.
        latents: The compressed latent file.
        timings: Seconds and images per second; the only part that may differ between equal runs.
        versions: Versions of ngvae-tools and of the libraries it ran on.
        notes: Sentences a reader must know: assumptions made, values that are not defined and why.
    """

    model: ModelInfo
    data: DataInfo
    selection: Selection
    rules: tuple[Selection, ...]
    dimensions: tuple[DimensionStatistics, ...]
    covariance: tuple[tuple[float, ...], ...] | None
    metrics: CovarianceMetrics
    latents: LatentsInfo
    timings: Mapping[str, float]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The record as JSON text, indented, one line a matrix row.

        Raises:
            ValueError: A number is NaN or infinite.
        """
        body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        body["selection"] = _selection_to_json(self.selection)
        body["rules"] = [_selection_to_json(rule) for rule in self.rules]
        return _dump(body) + "\n"

    @classmethod
    def from_json(cls, text: str) -> AnalysisRecord:
        """Read a record from its JSON text.

        Raises:
            RecordError: The text is not a record of this version.
        """
        try:
            raw = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _unreadable("JSON", str(error)) from None
        found = (raw.get("format"), raw.get("version")) if isinstance(raw, dict) else (type(raw).__name__, None)
        if found != (FORMAT, VERSION):
            raise _unreadable(f"format {FORMAT!r} version {VERSION}", f"format {found[0]!r} version {found[1]!r}")
        try:
            return _from_json(raw)
        except KeyError as error:
            raise _unreadable(f"every field of version {VERSION}", f"no field {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise _unreadable(f"every field of version {VERSION}", str(error)) from None

    @classmethod
    def read(cls, folder: Path) -> AnalysisRecord:
        """Read the record of an output folder of `select-latents`.

        Raises:
            RecordError: The folder holds no record that can be read.
        """
        path = folder / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(str(path), str(error)) from None
        return cls.from_json(text)

    def equal_but_for_timings(self, other: AnalysisRecord) -> bool:
        """Whether two records say the same apart from how long the work took."""
        return dataclasses.replace(self, timings={}) == dataclasses.replace(other, timings={})


def finite_or_none(value: float) -> float | None:
    """The value, or None where JSON could not hold it."""
    return float(value) if math.isfinite(value) else None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}, which a record never holds")


def _unreadable(expected: str, found: str) -> RecordError:
    return RecordError(
        "this is not an analysis record that can be read",
        expected=expected,
        found=found,
        remedy="name a folder that select-latents of this version wrote",
    )


def _selection_to_json(selection: Selection) -> dict[str, Any]:
    return {
        "rule": selection.rule,
        "threshold": selection.threshold,
        "informative": list(selection.indices),
        "count": selection.count,
        "score": list(selection.score),
    }


def _selection_from_json(raw: dict[str, Any]) -> Selection:
    informative = set(raw["informative"])
    score = tuple(float(v) for v in raw["score"])
    if not informative <= set(range(len(score))):
        raise ValueError(f"informative dimensions {sorted(informative)} of a selection with {len(score)} scores")
    return Selection(raw["rule"], float(raw["threshold"]), score, tuple(k in informative for k in range(len(score))))


def _from_json(raw: dict[str, Any]) -> AnalysisRecord:
    model, data, latents = dict(raw["model"]), dict(raw["data"]), dict(raw["latents"])
    model["hyperparameters"] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in model["hyperparameters"].items()
    }
    height, width, channels = data["image_shape"]
    data["image_shape"] = (height, width, channels)
    latents["dimensions"] = tuple(latents["dimensions"])
    covariance = raw["covariance"]
    return AnalysisRecord(
        model=ModelInfo(**model),
        data=DataInfo(**data),
        selection=_selection_from_json(raw["selection"]),
        rules=tuple(_selection_from_json(rule) for rule in raw["rules"]),
        dimensions=tuple(DimensionStatistics(**row) for row in raw["dimensions"]),
        covariance=None if covariance is None else tuple(tuple(row) for row in covariance),
        metrics=CovarianceMetrics(**raw["metrics"]),
        latents=LatentsInfo(**latents),
        timings=raw["timings"],
        versions=raw["versions"],
        notes=tuple(raw["notes"]),
    )


def _dump(value: Any, indent: str = "") -> str:
    """JSON with one line for each innermost list or object, so that a matrix reads as rows."""
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(v, dict | list | tuple) for v in value.values()):
        lines = [f"{inner}{json.dumps(str(k))}: {_dump(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, dict | list | tuple) for v in value):
        return "[\n" + ",\n".join(f"{inner}{_dump(v, inner)}" for v in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
