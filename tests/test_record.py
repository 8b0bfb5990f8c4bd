"""The analysis record: JSON in, JSON out, equal; never NaN; errors that say what is wrong."""

import dataclasses
import json
import math

import pytest
import records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngvae_tools.errors import RecordError
from ngvae_tools.record import (
    FILE_NAME,
    AnalysisRecord,
    Bootstrap,
    CovarianceMetrics,
    DataInfo,
    DimensionStatistics,
    Factor,
    IntrinsicDimension,
    LatentsInfo,
    ModelInfo,
    Reconstruction,
    Selection,
    Supervised,
    Truncation,
    TruncationCurve,
    finite_or_none,
)

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | NUMBER
TEXT = st.text('aé"\\\n\0\u2028\udcff😀', max_size=8)  # paths hold lone surrogates


def row(length, values=NUMBER):
    return st.lists(values, min_size=length, max_size=length).map(tuple)


def maybe(strategy):
    return st.none() | strategy


INTERVAL = row(2)
WHOLE = st.integers(0, 2**62)
TYPES = st.sampled_from(["passive", "mixed", "active"])
STATISTICS = (
    *[MAYBE] * 8,
    maybe(TYPES),
    MAYBE,
    MAYBE,
    maybe(row(20, WHOLE)),
    st.dictionaries(TEXT, INTERVAL, max_size=2),
)
METRICS = st.builds(CovarianceMetrics, *[MAYBE] * 7)
FACTORS = st.builds(
    Factor, TEXT, st.sampled_from(["categorical", "continuous", "circular"]), st.booleans(), WHOLE, WHOLE
)


def options(dim):
    """What options add to a record of `dim` dimensions."""
    order = row(dim, st.integers(0, dim - 1))
    curve = st.builds(TruncationCurve, order, row(dim + 1), maybe(row(dim + 1)), maybe(WHOLE))
    labels = [TEXT, WHOLE, st.lists(FACTORS, max_size=2).map(tuple), *[MAYBE] * 8]
    settings = st.dictionaries(TEXT, NUMBER | TEXT, max_size=2)
    return {
        "sample_metrics": maybe(METRICS),
        "intrinsic_dimension": maybe(
            st.builds(IntrinsicDimension, order, WHOLE, MAYBE, maybe(INTERVAL), MAYBE, maybe(INTERVAL))
        ),
        "bootstrap": maybe(st.builds(Bootstrap, WHOLE, NUMBER, WHOLE)),
        "truncation": maybe(
            st.builds(Truncation, TEXT, TEXT, WHOLE, maybe(curve), curve, row(dim), row(dim), row(dim))
        ),
        "reconstruction": maybe(st.builds(Reconstruction, TEXT, WHOLE, *[MAYBE] * 6)),
        "supervised": maybe(
            st.builds(Supervised, *labels, st.lists(row(dim), max_size=2).map(tuple), settings, row(1, TEXT))
        ),
    }


def latent_files(dimensions):
    """What a record says of a latent file of these dimensions."""
    each = row(len(dimensions))
    sizes = [TEXT, TEXT, WHOLE, st.just(dimensions), TEXT, MAYBE, WHOLE, WHOLE]
    return st.builds(LatentsInfo, *sizes, each, maybe(each), each, each, MAYBE, MAYBE, MAYBE, maybe(WHOLE))


@st.composite
def analyses(draw):
    dim = draw(st.integers(1, 6))
    informative = draw(row(dim, st.booleans()))
    interval = maybe(st.tuples(WHOLE, WHOLE))
    rules, sides = st.sampled_from(["p", "variance", "given"]), st.sampled_from(["below", "above"])
    selections = st.builds(Selection, rules, NUMBER, sides, row(dim), st.just(informative), interval)
    dimensions = [
        draw(
            st.builds(
                DimensionStatistics, st.just(k), st.just(informative[k]), NUMBER, MAYBE, NUMBER, NUMBER, *STATISTICS
            )
        )
        for k in range(dim)
    ]
    whole = WHOLE
    hyperparameters = st.dictionaries(TEXT, NUMBER | row(dim), max_size=3)
    return AnalysisRecord(
        model=draw(st.builds(ModelInfo, TEXT, TEXT, TEXT, st.just(dim), hyperparameters, TEXT, whole)),
        data=draw(
            st.builds(DataInfo, TEXT, TEXT, TEXT, whole, whole, st.tuples(whole, whole, whole), st.none() | TEXT)
        ),
        selection=draw(selections),
        rules=tuple(draw(st.lists(selections, max_size=2))),
        dimensions=tuple(dimensions),
        covariance=draw(st.none() | row(dim, row(dim))),
        metrics=draw(METRICS),
        latents=draw(latent_files(draw(st.lists(whole, max_size=3).map(tuple)))),
        timings=draw(st.dictionaries(TEXT, NUMBER, max_size=3)),
        versions=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        notes=tuple(draw(st.lists(TEXT, max_size=3))),
        **{name: draw(strategy) for name, strategy in options(dim).items()},
    )


def refuse(name):
    raise AssertionError(f"{name} in the JSON")


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(analyses())
def test_json_in_and_out_is_equal(record):
    text = record.to_json()
    text.encode("ascii")
    json.loads(text, parse_constant=refuse)
    again = AnalysisRecord.from_json(text)
    assert again == record
    assert again.to_json() == text
    assert again.equal_but_for_timings(record)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"full": True},
        {"dim": 1, "informative": 1},
        {"dim": 1, "informative": 0},
        {"family": "gaussian", "full": True},
        {"family": "deterministic"},
    ],
)
def test_records_as_they_occur(tmp_path, arguments):
    record = records.analysis(**arguments)
    assert AnalysisRecord.from_json(record.to_json()) == record
    assert AnalysisRecord.read(records.write_analysis(tmp_path, record)) == record


def test_the_keys_of_the_format():
    record = records.analysis(full=True)
    raw = json.loads(record.to_json())
    assert (raw["format"], raw["version"]) == ("ngvae-tools/selection", 3)
    assert set(raw) == {
        "format", "version", "model", "data", "selection", "rules", "dimensions", "covariance", "metrics",
        "sample_metrics", "intrinsic_dimension", "bootstrap", "truncation", "supervised", "reconstruction", "latents",
        "timings",
        "versions", "notes", "rejections",
    }  # fmt: skip
    assert set(raw["model"]) == {
        "path", "sha256", "family", "latent_dim", "hyperparameters", "provider", "positions", "heads", "input_range",
            "trained",
    }  # fmt: skip
    assert set(raw["data"]) == {"path", "kind", "fingerprint", "n_images", "n_rejected", "image_shape", "resize"}
    assert set(raw["selection"]) == {
        "rule", "threshold", "keeps", "informative", "count", "count_interval", "score",
    }  # fmt: skip
    assert raw["selection"]["informative"] == list(record.selection.indices)
    assert raw["selection"]["count"] == len(record.selection.indices) == 7
    assert [set(rule) for rule in raw["rules"]] == [set(raw["selection"])] * 7
    assert [row["index"] for row in raw["dimensions"]] == list(range(15))
    assert set(raw["dimensions"][0]) == {
        "index", "informative", "mu_mean", "mu_variance", "mu_low", "mu_high", "posterior_variance",
        "posterior_variance_std", "posterior_entropy", "rate", "rate_floor", "information", "information_error", "snr",
        "type", "p_mean", "p_std", "p_histogram", "intervals",
    }  # fmt: skip
    assert [row["informative"] for row in raw["dimensions"]] == list(record.selection.informative)
    assert set(raw["metrics"]) == set(raw["sample_metrics"]) == {
        "entropy", "decorrelation", "decorrelation_signed", "decorrelation_correlation", "total_correlation",
        "effective_dimensions", "participation_ratio",
    }  # fmt: skip
    assert set(raw["truncation"]["by_relevance"]) == {"order", "error", "standard_error", "knee"}
    assert [factor["name"] for factor in raw["supervised"]["factors"]] == ["shape", "hue", "x", "y", "depth"]
    assert set(raw["latents"]) == {
        "file", "sha256", "bytes", "dimensions", "codec", "distortion", "codes_bytes", "identifiers_bytes", "bits",
        "entropy_bits", "max_error", "mean_squared_error", "raw_bytes", "png_bytes", "jpeg_bytes", "decoder_bytes",
    }  # fmt: skip
    assert [len(line) for line in raw["covariance"]] == [15] * 15


def test_a_matrix_reads_as_rows():
    lines = records.analysis(dim=3, informative=1).to_json().splitlines()
    start = lines.index('  "covariance": [')
    assert [len(json.loads(line.strip().rstrip(","))) for line in lines[start + 1 : start + 4]] == [3, 3, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["metrics", "dimensions", "covariance", "score", "timings", "hyperparameters"])
def test_a_record_with_a_value_that_json_lacks_is_an_error(value, place):
    record = records.analysis(dim=2, informative=1)
    change = {
        "metrics": lambda: {"metrics": dataclasses.replace(record.metrics, entropy=value)},
        "dimensions": lambda: {"dimensions": (dataclasses.replace(record.dimensions[0], mu_mean=value),)},
        "covariance": lambda: {"covariance": ((1.0, value), (value, 1.0))},
        "score": lambda: {"selection": dataclasses.replace(record.selection, score=(value, 0.0))},
        "timings": lambda: {"timings": {"seconds": value}},
        "hyperparameters": lambda: {"model": dataclasses.replace(record.model, hyperparameters={"s": (1.0, value)})},
    }[place]()
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(record, **change).to_json()


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_a_text_with_a_value_that_json_lacks_is_refused(name):
    text = records.analysis().to_json().replace('"entropy": ', f'"entropy": {name}, "x": ', 1)
    with pytest.raises(RecordError, match=f"found the number {name}, which a record never holds"):
        AnalysisRecord.from_json(text)


GOOD = json.loads(records.analysis(dim=3, informative=2, full=True).to_json())
BAD = {
    "nothing": ("", "expected JSON that is whole, found an empty file; restore it"),
    "no JSON": ("{", "found text that is no JSON from line 1, column 2 on; restore it"),
    "nested without end": ("[" * 100_000, "expected JSON"),
    "a list": ("[]", "found other JSON; name the output folder"),
    "a number": ("3", "found other JSON; name the output folder"),
    "foreign": ('{"model_type": "bert"}', "found other JSON; name the output folder"),
    "another format": (json.dumps(GOOD | {"format": "ngvae-tools/run"}), "found JSON of format 'ngvae-tools/run'"),
    "older": (
        json.dumps(GOOD | {"version": 1}),
        "expected version 3 of its format, found version 1; make it again with select-latents of this version",
    ),
    "newer": (json.dumps(GOOD | {"version": 4}), "expected version 3 of its format, found version 4"),
    "neither below nor above": (
        json.dumps(GOOD | {"selection": GOOD["selection"] | {"keeps": "all"}}),
        "found a selection that keeps 'all'",
    ),
    "no option's field": (json.dumps({k: v for k, v in GOOD.items() if k != "truncation"}), "no field 'truncation'"),
    "a factor that is a number": (
        json.dumps(GOOD | {"supervised": GOOD["supervised"] | {"factors": [3]}}),
        "must be a mapping",
    ),
    "a curve without its order": (
        json.dumps(GOOD | {"truncation": GOOD["truncation"] | {"by_relevance": {"error": [1.0]}}}),
        "order",
    ),
    "no selection": (json.dumps({k: v for k, v in GOOD.items() if k != "selection"}), "found no field 'selection'"),
    "unknown field": (json.dumps(GOOD | {"model": GOOD["model"] | {"colour": "red"}}), "colour"),
    "wrong type": (json.dumps(GOOD | {"dimensions": 3}), "not iterable"),
    "wrong shape": (json.dumps(GOOD | {"data": GOOD["data"] | {"image_shape": [3, 3]}}), "not enough values"),
    "null": (json.dumps(GOOD | {"model": None}), "NoneType"),
    "a dimension too many": (
        json.dumps(GOOD | {"selection": GOOD["selection"] | {"informative": [0, 3]}}),
        r"found informative dimensions \[0, 3\] of a selection with 3 scores",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_is_no_record_is_refused_with_a_sentence(text, message):
    with pytest.raises(RecordError, match=message) as caught:
        AnalysisRecord.from_json(text)
    assert str(caught.value).startswith("this is not an analysis record that can be read: expected ")


def test_any_truncation_is_refused():
    text = records.analysis(dim=2, informative=1).to_json()
    for length in range(len(text.rstrip())):
        with pytest.raises(RecordError):
            AnalysisRecord.from_json(text[:length])


def test_folders_without_a_readable_record(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecordError, match=f"{FILE_NAME} is not an .*; name the output folder of select-latents"):
            AnalysisRecord.read(folder)
    (tmp_path / FILE_NAME).write_bytes(b"\xff\xfe{}")
    with pytest.raises(RecordError, match=f"{FILE_NAME} is not an .*found a file that is no text"):
        AnalysisRecord.read(tmp_path)


def test_equal_but_for_timings():
    record = records.analysis()
    slower = dataclasses.replace(record, timings={"seconds": 99.0})
    assert record != slower
    assert record.equal_but_for_timings(slower)
    for change in ({"notes": ("other",)}, {"versions": {}}, {"covariance": None}, {"selection": record.rules[1]}):
        assert not record.equal_but_for_timings(dataclasses.replace(slower, **change))


def test_finite_or_none():
    assert [finite_or_none(v) for v in (1.5, math.nan, math.inf, -math.inf, 0.0)] == [1.5, None, None, None, 0.0]
