"""The analysis record: the one value that `select-latents` makes and every report renders.

JSON in, JSON out, equal. Numbers in the JSON are never NaN or infinite: a value that is not defined is null
and `notes` says why.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ngvae_tools.errors import RecordError

FORMAT = "ngvae-tools/selection"
VERSION = 3
FILE_NAME = "selection.json"

P_BINS = 20
"""Equal bins from 0 to 1 of the histogram of p."""

REPLICATES = 200
"""Bootstrap replicates unless asked otherwise."""

Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""

LatentType = Literal["passive", "mixed", "active"]
FactorKind = Literal["categorical", "continuous", "circular"]


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
        positions: Number P of positions of a spatial latent, each a sample of the K channels; 1 where there are none.
        heads: The outputs that were read, name by kind: `mu`, and `p` or `logvar`; both kinds name one output that
            holds both.
        input_range: What the least and the largest sample became before the graph; None where it scales inside.
        trained: What the file says of its training, `samples`, `data` and `weights` as in `ModelMetadata.trained`.
    """

    path: str
    sha256: str
    family: str
    latent_dim: int
    hyperparameters: Mapping[str, float | tuple[float, ...]]
    provider: str
    positions: int = 1
    heads: Mapping[str, str] = field(default_factory=dict)
    input_range: tuple[float, float] | None = None
    trained: Mapping[str, str] = field(default_factory=dict)

    @property
    def reading(self) -> str:
        """How the file was read, in words; dimensions of two analyses are the same only where it is equal."""
        heads = "".join(f", {kind} from {name}" for kind, name in sorted(self.heads.items()))
        span = "" if self.input_range is None else ", input from {:g} to {:g}".format(*self.input_range)
        return f"{self.family}, K = {self.latent_dim}, {self.positions} positions{heads}{span}"


@dataclass(frozen=True, slots=True)
class DataInfo:
    """The data that went through the encoder.

    Attributes:
        path: Where the data set was.
        kind: `folder`, `tar`, `hdf5`, `npz`, `npy`, `zarr`, `parquet`, `arrow`, `cars3d` or `smallnorb`.
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
class RejectionReason:
    """Why images could not be used.

    Attributes:
        reason: What is wrong with each, as a sentence fragment that follows an identifier.
        count: How many images.
        example: Identifier of the first of them.
    """

    reason: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dimensions a rule calls informative.

    Attributes:
        rule: Name of the rule, see `ngvae_tools.analysis.selection`; `given` where the user named the dimensions.
        threshold: Value of the score that separates informative dimensions from the others.
        keeps: On which side of the threshold a dimension is informative.
        score: One value a dimension, shape (K,).
        informative: One verdict a dimension, shape (K,).
        count_interval: Bootstrap interval of the number of informative dimensions; None without a bootstrap.
    """

    rule: str
    threshold: float
    keeps: Literal["below", "above"]
    score: tuple[float, ...]
    informative: tuple[bool, ...]
    count_interval: tuple[int, int] | None = None

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
    """What one latent dimension does over the data; None where a number is not defined for the family or the data.

    Attributes:
        index: The dimension, from 0.
        informative: Verdict of the record's selection.
        mu_mean: Mean over images of the posterior mean.
        mu_variance: Variance over images of the posterior mean (ddof 1).
        mu_low: Smallest posterior mean.
        mu_high: Largest posterior mean.
        posterior_variance: Mean over images of the posterior variance.
        posterior_variance_std: Standard deviation over images of the posterior variance (ddof 1).
        posterior_entropy: Mean over images of the posterior's differential entropy, in nats.
        rate: Mean over images of the KL to the prior that the model's objective charges, in nats.
        rate_floor: Rate of a dimension that carries nothing, in nats.
        information: I(x; z_k) in nats, aggregate posterior entropy minus mean posterior entropy.
        information_error: Standard error of `information`, in nats.
        snr: Signal-to-noise ratio, variance of mu over mean posterior variance.
        type: `passive`, `mixed` or `active` (Bonheme and Grzes), by the posterior variance over the data.
        p_mean: Mean over images of p (near 0 = informative).
        p_std: Standard deviation over images of p (ddof 1).
        p_histogram: Rows (images, or positions of a spatial latent) with p in each of `P_BINS` equal bins from 0 to 1.
        intervals: Bootstrap interval of each statistic above, by its name; empty without a bootstrap.
    """

    index: int
    informative: bool
    mu_mean: float
    mu_variance: float | None
    mu_low: float
    mu_high: float
    posterior_variance: float | None = None
    posterior_variance_std: float | None = None
    posterior_entropy: float | None = None
    rate: float | None = None
    rate_floor: float | None = None
    information: float | None = None
    information_error: float | None = None
    snr: float | None = None
    type: LatentType | None = None
    p_mean: float | None = None
    p_std: float | None = None
    p_histogram: tuple[int, ...] | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CovarianceMetrics:
    """Numbers of a covariance; None where one is not defined (the record's notes say why).

    Attributes:
        entropy: Entropy in nats of the diagonal scaled to sum to one; at most log K.
        decorrelation: Trace over the sum of absolute off-diagonal terms; the honest reading.
        decorrelation_signed: Trace over the sum of signed off-diagonal terms; the paper's reading.
        decorrelation_correlation: `decorrelation` of the correlation matrix, free of the dimensions' scales.
        total_correlation: Total correlation in nats of a Gaussian fit.
        effective_dimensions: Exponential of `entropy`.
        participation_ratio: Squared sum of the eigenvalues over the sum of their squares; at most K.
    """

    entropy: float | None
    decorrelation: float | None
    decorrelation_signed: float | None
    decorrelation_correlation: float | None
    total_correlation: float | None
    effective_dimensions: float | None
    participation_ratio: float | None


@dataclass(frozen=True, slots=True)
class IntrinsicDimension:
    """Dimension of the cloud of posterior means, from a bounded sample; None where it cannot be estimated.

    Attributes:
        dimensions: Latent dimensions that span the cloud: those that carry information.
        n_points: Distinct points used.
        two_nn: TwoNN (Facco et al. 2017).
        two_nn_interval: 95 % interval of `two_nn`.
        maximum_likelihood: Maximum likelihood over nearest neighbours (Levina and Bickel 2004).
        maximum_likelihood_interval: 95 % interval of `maximum_likelihood`.
    """

    dimensions: tuple[int, ...]
    n_points: int
    two_nn: float | None
    two_nn_interval: Interval | None
    maximum_likelihood: float | None
    maximum_likelihood_interval: Interval | None


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were made: Poisson bootstrap over images.

    Attributes:
        replicates: Number of replicates.
        confidence: Confidence level of every interval.
        seed: Seed of the weights.
    """

    replicates: int
    confidence: float
    seed: int


@dataclass(frozen=True, slots=True)
class TruncationCurve:
    """Reconstruction error against the number of dimensions kept, the others held at their mean.

    Attributes:
        order: All K dimensions, the first to keep first.
        error: Mean squared error per value of an image scaled to [0, 1], with the first n of `order` kept,
            n = 0 to K, shape (K + 1,).
        standard_error: Standard error over images of `error`, shape (K + 1,); None with one image.
        knee: Number of dimensions at the curve's knee; None where it has none.
    """

    order: tuple[int, ...]
    error: tuple[float, ...]
    standard_error: tuple[float, ...] | None
    knee: int | None


@dataclass(frozen=True, slots=True)
class Truncation:
    """What dropping dimensions costs, on a bounded sample of images through the decoder.

    Attributes:
        decoder: Where the decoder file was.
        decoder_sha256: Hash of its bytes.
        n_images: Images of the sample.
        by_information: Curve in order of information, most first; None where information is not defined.
        by_relevance: Curve in order of measured relevance, most first.
        relevance: Rise of the error when the dimension alone is held at its mean, shape (K,).
        effect: Mean squared change of the image when the dimension alone is held at its mean, shape (K,).
        sensitivity: Root mean square change of an image's values per unit of z_k, by central differences of one
            posterior standard deviation, shape (K,).
        mean_image_error: Error of the sample's mean image in place of decoded ones; None: not measured.
    """

    decoder: str
    decoder_sha256: str
    n_images: int
    by_information: TruncationCurve | None
    by_relevance: TruncationCurve
    relevance: tuple[float, ...]
    effect: tuple[float, ...]
    sensitivity: tuple[float, ...]
    mean_image_error: float | None = None


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """How close decoded images are, on a bounded sample; of the kept dimensions, the others at their mean.

    PSNR in dB is None where it is infinite: the images are equal.

    Attributes:
        decoder: Where the decoder file was.
        n_images: Images of the sample.
        psnr_quantised: Decoded from the latent file, against the originals.
        psnr_unquantised: Decoded from the latents before quantisation, against the originals.
        psnr_both: Decoded from the latent file, against decoded from the latents before quantisation.
        ssim_quantised: SSIM of the same as `psnr_quantised`.
        ssim_unquantised: Of the same as `psnr_unquantised`.
        ssim_both: Of the same as `psnr_both`.
    """

    decoder: str
    n_images: int
    psnr_quantised: float | None
    psnr_unquantised: float | None
    psnr_both: float | None
    ssim_quantised: float | None
    ssim_unquantised: float | None
    ssim_both: float | None


@dataclass(frozen=True, slots=True)
class Factor:
    """A generative factor as the supervised metrics saw it.

    Attributes:
        name: Its name in the labels.
        kind: `categorical`, `continuous` or `circular`.
        declared: Whether the labels or the user said its kind; else it was detected.
        n_values: Distinct values in the data.
        n_classes: Classes where a metric needs them: the values, or the quantile bins of a continuous factor.
        classes: What the values are called, in ascending order of their codes; empty for numbers.
    """

    name: str
    kind: FactorKind
    declared: bool
    n_values: int
    n_classes: int
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Supervised:
    """Disentanglement metrics against known factors; None where one is not defined (`notes` say why).

    Attributes:
        source: Where the labels came from.
        n_images: Labelled images used.
        factors: The factors used; constant ones are left out.
        beta_vae: Metric of Higgins et al. 2017, evaluation accuracy.
        factor_vae: Metric of Kim and Mnih 2018, evaluation accuracy.
        mig: Mutual information gap (Chen et al. 2018).
        dci_disentanglement: Eastwood and Williams 2018.
        dci_completeness: The same.
        dci_informativeness: The same: mean test accuracy.
        sap: Separated attribute predictability (Kumar et al. 2018).
        modularity: Ridgeway and Mozer 2018.
        information: I(z_k; factor) in nats, a row a factor, a column a dimension, shape (F, K).
        settings: Numbers and choices that decide the metrics.
        notes: What a reader must know.
    """

    source: str
    n_images: int
    factors: tuple[Factor, ...]
    beta_vae: float | None
    factor_vae: float | None
    mig: float | None
    dci_disentanglement: float | None
    dci_completeness: float | None
    dci_informativeness: float | None
    sap: float | None
    modularity: float | None
    information: tuple[tuple[float, ...], ...]
    settings: Mapping[str, float | str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LatentsInfo:
    """The compressed latent file beside the record.

    Attributes:
        file: Name of the file in the record's folder.
        sha256: Hash of the file's bytes.
        bytes: Size of the file.
        dimensions: Latent dimensions it holds, in the order of its columns.
        codec: `deflate`, which every HDF5 reader opens, or the denser `archive`.
        distortion: Error of quantisation as a share of the posterior variance; None: float32, not quantised.
        codes_bytes: What of the size the codes take.
        identifiers_bytes: What the identifiers take.
        bits: Bits that a value of each dimension takes, in the order of `dimensions`.
        entropy_bits: Shannon entropy of each dimension's codes in bits; None: not counted.
        max_error: Largest error of each dimension that quantisation made.
        mean_squared_error: Mean squared error of each.
        raw_bytes: Bytes of an image in memory, by a sample; None without one.
        png_bytes: Bytes of an image as PNG, the same; None where its type has none.
        jpeg_bytes: Bytes of an image as JPEG of quality 90, the same.
        decoder_bytes: Size of the decoder file; None without one.
    """

    file: str
    sha256: str
    bytes: int
    dimensions: tuple[int, ...]
    codec: str
    distortion: float | None
    codes_bytes: int
    identifiers_bytes: int
    bits: tuple[float, ...]
    entropy_bits: tuple[float, ...] | None
    max_error: tuple[float, ...]
    mean_squared_error: tuple[float, ...]
    raw_bytes: float | None = None
    png_bytes: float | None = None
    jpeg_bytes: float | None = None
    decoder_bytes: int | None = None


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
        metrics: Numbers of the covariance of mu.
        sample_metrics: Numbers of the covariance of samples of the posterior: that of mu plus the mean posterior
            variances on its diagonal; None for deterministic codes.
        intrinsic_dimension: Dimension of the latent cloud; None where it cannot be estimated.
        bootstrap: How the intervals were made, None without them.
        truncation: What dropping dimensions costs; None without a decoder.
        supervised: Disentanglement metrics; None without labels.
        reconstruction: What quantisation costs in images; None unless it was asked for.
        latents: The compressed latent file.
        timings: Seconds and images per second; the only part that may differ between equal runs.
        versions: Versions of ngvae-tools and of the libraries it ran on.
        notes: Sentences a reader must know: assumptions made, values that are not defined and why.
        rejections: The most frequent reasons why images could not be used, the most frequent first.
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
    sample_metrics: CovarianceMetrics | None = None
    intrinsic_dimension: IntrinsicDimension | None = None
    bootstrap: Bootstrap | None = None
    truncation: Truncation | None = None
    supervised: Supervised | None = None
    reconstruction: Reconstruction | None = None
    notes: tuple[str, ...] = ()
    rejections: tuple[RejectionReason, ...] = ()

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
    def from_json(cls, text: str, *, name: str = "this") -> AnalysisRecord:
        """Read a record from its JSON text; `name` is what an error calls it.

        Raises:
            RecordError: The text is not a record of this version.
        """
        try:
            raw = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _unreadable(name, "JSON that is whole", _broken(text, error), _RESTORE) from None
        form = raw.get("format") if isinstance(raw, dict) else None
        if form != FORMAT:
            found = f"JSON of format {form!r}" if form else "other JSON"
            raise _unreadable(name, f"format {FORMAT!r} version {VERSION}", found, _NAME_ONE)
        if raw.get("version") != VERSION:
            again = "make it again with select-latents of this version"
            raise _unreadable(name, f"version {VERSION} of its format", f"version {raw.get('version')!r}", again)
        try:
            return _from_json(raw)
        except KeyError as error:
            raise _unreadable(name, f"every field of version {VERSION}", f"no field {error}", _RESTORE) from None
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _unreadable(name, f"every field of version {VERSION}", str(error), _RESTORE) from None

    @classmethod
    def read(cls, folder: Path) -> AnalysisRecord:
        """Read the record of an output folder of `select-latents`.

        Raises:
            RecordError: The folder holds no record that can be read.
        """
        return cls.read_file(folder / FILE_NAME)

    @classmethod
    def read_file(cls, path: Path) -> AnalysisRecord:
        """Read a record's file.

        Raises:
            RecordError: It cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise _unreadable(path, "a file that may be read", error.strerror or str(error), _NAME_ONE) from None
        except UnicodeDecodeError:
            raise _unreadable(path, "JSON", "a file that is no text", _NAME_ONE) from None
        return cls.from_json(text, name=str(path))

    def equal_but_for_timings(self, other: AnalysisRecord) -> bool:
        """Whether two records say the same apart from how long the work took."""
        return dataclasses.replace(self, timings={}) == dataclasses.replace(other, timings={})


def finite_or_none(value: float) -> float | None:
    """The value, or None where JSON could not hold it."""
    return float(value) if math.isfinite(value) else None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}, which a record never holds")


def _broken(text: str, error: Exception) -> str:
    if not text.strip():
        return "an empty file"
    if isinstance(error, json.JSONDecodeError):
        return f"text that is no JSON from line {error.lineno}, column {error.colno} on"
    return str(error)


_NAME_ONE = "name the output folder of select-latents"
_RESTORE = "restore it from a copy, or make it again with select-latents"


def _unreadable(name: str | Path, expected: str, found: str, remedy: str) -> RecordError:
    return RecordError(
        f"{name} is not an analysis record that can be read", expected=expected, found=found, remedy=remedy
    )


def _selection_to_json(selection: Selection) -> dict[str, Any]:
    return {
        "rule": selection.rule,
        "threshold": selection.threshold,
        "keeps": selection.keeps,
        "informative": list(selection.indices),
        "count": selection.count,
        "count_interval": selection.count_interval,
        "score": list(selection.score),
    }


def _selection_from_json(raw: dict[str, Any]) -> Selection:
    informative = set(raw["informative"])
    score = tuple(float(v) for v in raw["score"])
    if not informative <= set(range(len(score))):
        raise ValueError(f"informative dimensions {sorted(informative)} of a selection with {len(score)} scores")
    if raw["keeps"] not in {"below", "above"}:
        raise ValueError(f"a selection that keeps {raw['keeps']!r}")
    return Selection(
        raw["rule"],
        float(raw["threshold"]),
        raw["keeps"],
        score,
        tuple(k in informative for k in range(len(score))),
        _tuples(raw["count_interval"]),
    )


def _tuples(value: Any) -> Any:
    """The value with every list in it a tuple: what the record's fields hold."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(_tuples(inner) for inner in value) if isinstance(value, list) else value


def _from_json(raw: dict[str, Any]) -> AnalysisRecord:
    raw = {key: _tuples(value) if key not in {"selection", "rules"} else value for key, value in raw.items()}
    _height, _width, _channels = raw["data"]["image_shape"]
    return AnalysisRecord(
        model=ModelInfo(**raw["model"]),
        data=DataInfo(**raw["data"]),
        selection=_selection_from_json(raw["selection"]),
        rules=tuple(_selection_from_json(rule) for rule in raw["rules"]),
        dimensions=tuple(DimensionStatistics(**row) for row in raw["dimensions"]),
        covariance=raw["covariance"],
        metrics=CovarianceMetrics(**raw["metrics"]),
        latents=LatentsInfo(**raw["latents"]),
        timings=raw["timings"],
        versions=raw["versions"],
        sample_metrics=_optional(CovarianceMetrics, raw["sample_metrics"]),
        intrinsic_dimension=_optional(IntrinsicDimension, raw["intrinsic_dimension"]),
        bootstrap=_optional(Bootstrap, raw["bootstrap"]),
        truncation=_truncation(raw["truncation"]),
        supervised=_supervised(raw["supervised"]),
        reconstruction=_optional(Reconstruction, raw.get("reconstruction")),
        notes=raw["notes"],
        rejections=tuple(RejectionReason(**reason) for reason in raw.get("rejections", ())),
    )


def _optional(cls: Any, raw: dict[str, Any] | None) -> Any:
    return None if raw is None else cls(**raw)


def _truncation(raw: dict[str, Any] | None) -> Truncation | None:
    if raw is None:
        return None
    curves = {name: _optional(TruncationCurve, raw[name]) for name in ("by_information", "by_relevance")}
    return Truncation(**{**raw, **curves})


def _supervised(raw: dict[str, Any] | None) -> Supervised | None:
    if raw is None:
        return None
    return Supervised(**{**raw, "factors": tuple(Factor(**factor) for factor in raw["factors"])})


def _dump(value: Any, indent: str = "") -> str:
    """JSON with one line for each innermost list or object, so that a matrix reads as rows."""
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(v, dict | list | tuple) for v in value.values()):
        lines = [f"{inner}{json.dumps(str(k))}: {_dump(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, dict | list | tuple) for v in value):
        return "[\n" + ",\n".join(f"{inner}{_dump(v, inner)}" for v in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
