"""The record of a benchmark: every cell's figures, and their means and spreads over seeds; stdlib only.

JSON in, JSON out, equal.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ngvae_tools.errors import RecordError

FORMAT = "ngvae-tools/benchmark"
VERSION = 1
FILE_NAME = "benchmark.json"
TABLE_NAME = "table.md"

NOT_RUN = "not run yet"
"""In place of a failure for a cell that has not ended."""

FIGURES: Mapping[str, str] = {
    "entropy": "entropy of the scaled variances of mu, nats",
    "decorrelation": "trace over the sum of absolute covariances of mu",
    "decorrelation_signed": "trace over the sum of signed covariances of mu (the paper's reading)",
    "beta_vae": "beta-VAE disentanglement metric",
    "factor_vae": "FactorVAE metric",
    "mig": "mutual information gap",
    "count": "informative dimensions by the rule that the model is made for",
    "count_information": "informative dimensions by information > 0.1 nat",
    "distance": "distance of the count to the known interval of intrinsic dimension",
    "near": "1 where that distance is at most 1, else 0",
    "mse": "held-out mean squared error of a pixel, z drawn from the posterior",
    "seconds": "seconds of training",
    "epochs": "epochs of training",
    "rest_p": "value of p at which an unused dimension rests",
    "crisp": "share of dimensions with a mean p below 0.1 or within 0.05 of the rest value",
    "agreement": "share of dimensions on which the verdict of p and information > 0.1 nat agree",
}
"""What is measured of a cell, by name; a cell has those that are defined for it."""


@dataclass(frozen=True, slots=True)
class BenchmarkData:
    """A data set.

    Attributes:
        name: Short name.
        path: The file or folder.
        fingerprint: Identifies the content.
        n_images: Number of images.
        image_shape: (H, W, C).
        factors: Names of the known factors; empty where none are known.
        intrinsic: Fewest and most dimensions that the factors are; None where none are known.
    """

    name: str
    path: str
    fingerprint: str
    n_images: int
    image_shape: tuple[int, int, int]
    factors: tuple[str, ...] = ()
    intrinsic: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkCell:
    """One training, or one run of a rival for the count.

    Attributes:
        name: Of its folder below `cells`.
        data: Name of the data set.
        model: Name of the model.
        latent_dim: Number K of latent dimensions; None where the method looks for it.
        seed: Of the training.
        failed: Why there are no figures, `NOT_RUN` among the reasons; None where there are.
        figures: By the names of `FIGURES`; those that are defined.
    """

    name: str
    data: str
    model: str
    latent_dim: int | None
    seed: int
    failed: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over seeds.

    Attributes:
        mean: Its mean.
        sd: Its standard deviation (ddof 1); None with one value.
        n: Number of values.
    """

    mean: float
    sd: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of at least one value."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), spread, len(values))


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """All seeds of a model on a data set at one K.

    Attributes:
        data: Name of the data set.
        model: Name of the model.
        latent_dim: Number K of latent dimensions; None where the method looks for it.
        cells: Number of cells.
        figures: By the names of `FIGURES`, over the cells that have them.
        failures: Name and reason of each cell that failed.
        not_run: Number of cells that have not run yet.
        mse_ratio: Mean `mse` over that of the plain VAE at the same noise level; None without one.
        drift: Mean count less the mean count at the next smaller K of this model on these data; None without one.
    """

    data: str
    model: str
    latent_dim: int | None
    cells: int
    figures: Mapping[str, Summary]
    failures: tuple[str, ...] = ()
    not_run: int = 0
    mse_ratio: float | None = None
    drift: float | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkRecord:
    """Everything that a benchmark found out.

    Attributes:
        preset: Its name.
        command: What made it, as words of a command line.
        data: The data sets.
        models: Each model's name and the options that make it, `label` among them.
        cells: Every cell.
        rows: Their means and spreads, see `rows_of`.
        device: What it was trained on, in words.
        timings: Seconds; with the figures `seconds` the only part that may differ between equal benchmarks.
        versions: Versions of ngvae-tools and of the libraries it ran on.
        notes: Sentences a reader must know.
    """

    preset: str
    command: str
    data: tuple[BenchmarkData, ...]
    models: Mapping[str, Mapping[str, Any]]
    cells: tuple[BenchmarkCell, ...]
    rows: tuple[BenchmarkRow, ...]
    device: str
    timings: Mapping[str, float]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The record as JSON text.

        Raises:
            ValueError: A number is NaN or infinite.
        """
        body = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}
        return json.dumps(body, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BenchmarkRecord:
        """Read a record from its JSON text.

        Raises:
            RecordError: The text is not a record of this version.
        """
        try:
            raw = json.loads(text)
            if (raw["format"], raw["version"]) != (FORMAT, VERSION):
                raise _unreadable(f"format {raw['format']!r} version {raw['version']!r}")
            fields = {key: _tuples(value) for key, value in raw.items() if key not in {"format", "version"}}
            fields["data"] = tuple(BenchmarkData(**data) for data in fields["data"])
            fields["cells"] = tuple(BenchmarkCell(**cell) for cell in fields["cells"])
            fields["rows"] = tuple(_row(row) for row in fields["rows"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from None

    @classmethod
    def read(cls, folder: Path) -> BenchmarkRecord:
        """Read the record of a benchmark's folder.

        Raises:
            RecordError: The folder holds no record that can be read.
        """
        try:
            text = (folder / FILE_NAME).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(str(error)) from None
        return cls.from_json(text)


def rows_of(cells: Sequence[BenchmarkCell], models: Mapping[str, Mapping[str, Any]]) -> tuple[BenchmarkRow, ...]:
    """Means and spreads over seeds, in the order of the cells.

    Args:
        cells: In any number and order.
        models: Options by model; `model`, `sigma` and `beta` among them say which is the plain VAE of which.
    """
    groups: dict[tuple[str, str, int | None], list[BenchmarkCell]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.model, cell.latent_dim), []).append(cell)
    rows = {key: _summarised(*key, group) for key, group in groups.items()}
    return tuple(
        dataclasses.replace(row, mse_ratio=_mse_ratio(row, rows, models), drift=_drift(row, rows))
        for row in rows.values()
    )


def _summarised(data: str, model: str, latent_dim: int | None, cells: Sequence[BenchmarkCell]) -> BenchmarkRow:
    values = {name: [cell.figures[name] for cell in cells if name in cell.figures] for name in FIGURES}
    return BenchmarkRow(
        data,
        model,
        latent_dim,
        len(cells),
        {name: Summary.of(found) for name, found in values.items() if found},
        tuple(f"{cell.name}: {cell.failed}" for cell in cells if cell.failed not in {None, NOT_RUN}),
        sum(cell.failed == NOT_RUN for cell in cells),
    )


def _mse_ratio(
    row: BenchmarkRow,
    rows: Mapping[tuple[str, str, int | None], BenchmarkRow],
    models: Mapping[str, Mapping[str, Any]],
) -> float | None:
    """Against the plain VAE with the same noise, sigma sqrt(beta)."""
    for name, options in models.items():
        plain = rows.get((row.data, name, row.latent_dim))
        if (
            options.get("model") == "vae"
            and plain is not None
            and math.isclose(effective_sigma(options), effective_sigma(models[row.model]), rel_tol=1e-3)
            and "mse" in row.figures
            and "mse" in plain.figures
        ):
            return row.figures["mse"].mean / plain.figures["mse"].mean
    return None


def effective_sigma(options: Mapping[str, Any]) -> float:
    """The noise level at which a model with weight 1 of the rate is the same: sigma sqrt(beta)."""
    return float(options["sigma"]) * math.sqrt(options.get("beta") or 1.0)


def _drift(row: BenchmarkRow, rows: Mapping[tuple[str, str, int | None], BenchmarkRow]) -> float | None:
    if row.latent_dim is None or "count" not in row.figures:
        return None
    smaller = [
        other
        for other in rows.values()
        if (other.data, other.model) == (row.data, row.model)
        and other.latent_dim is not None
        and other.latent_dim < row.latent_dim
        and "count" in other.figures
    ]
    if not smaller:
        return None
    nearest = max(smaller, key=lambda other: other.latent_dim or 0)
    return row.figures["count"].mean - nearest.figures["count"].mean


def _row(raw: dict[str, Any]) -> BenchmarkRow:
    return BenchmarkRow(**{**raw, "figures": {name: Summary(**value) for name, value in raw["figures"].items()}})


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def _unreadable(found: str) -> RecordError:
    return RecordError(
        "this is not the record of a benchmark that can be read",
        expected=f"{FILE_NAME} of format {FORMAT!r} version {VERSION} with every field",
        found=found,
        remedy="name a folder that benchmark of this version wrote",
    )
