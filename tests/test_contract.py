"""The metadata of model files: out and in again, and every malformed field refused."""

import json
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.contract import (
    LOGVAR,
    SAMPLE_TYPES,
    SCHEMA_VERSION,
    Family,
    InputScale,
    Layout,
    ModelMetadata,
    P,
    Resize,
    Role,
)
from ngvae_tools.errors import ContractError
from ngvae_tools.posteriors import family_of

NUMBER = st.floats(allow_nan=False, allow_infinity=False)
SIZE = st.integers(1, 2**40)
TEXT = st.text('aé"\\\n\0\u2028\udcff😀', max_size=8)
GOOD = json.loads(ModelMetadata("encoder", "normal-gamma-mixture", 3, (32, 32, 3)).to_json())


@st.composite
def metadata(draw):
    dim = draw(st.integers(1, 20))
    vector = st.lists(NUMBER, min_size=dim, max_size=dim).map(tuple)
    return ModelMetadata(
        role=draw(st.sampled_from(get_args(Role))),
        family=draw(st.sampled_from(get_args(Family))),
        latent_dim=dim,
        image_shape=draw(st.tuples(SIZE, SIZE, SIZE)),
        sample_type=draw(st.sampled_from(SAMPLE_TYPES)),
        scale=InputScale(*draw(st.tuples(NUMBER, NUMBER).filter(lambda pair: pair[0] != pair[1]))),
        layout=draw(st.sampled_from(get_args(Layout))),
        hyperparameters=draw(st.dictionaries(TEXT, NUMBER | vector, max_size=4)),
        resize=draw(st.none() | st.sampled_from(get_args(Resize))),
        data_fingerprint=draw(st.none() | TEXT),
        weights=draw(st.none() | TEXT),
        versions=draw(st.dictionaries(TEXT, TEXT, max_size=3)),
        kept=draw(st.none() | st.lists(st.integers(0, 2**40), min_size=dim, max_size=dim, unique=True).map(tuple)),
    )


@given(metadata())
def test_json_in_and_out_is_equal(written):
    text = written.to_json()
    text.encode("ascii")
    assert ModelMetadata.from_json(text) == written
    assert ModelMetadata.from_json(text).to_json() == text
    assert json.loads(text)["schema_version"] == SCHEMA_VERSION == 1


def test_encoders_with_deterministic_codes_are_a_family():
    written = ModelMetadata("encoder", "deterministic", 3, (32, 32, 3))
    assert ModelMetadata.from_json(written.to_json()).family == "deterministic"
    assert set(get_args(Family)) == {"gaussian", "normal-gamma", "normal-gamma-mixture", "deterministic"}


@pytest.mark.parametrize("family", get_args(Family))
def test_every_family_has_a_posterior(family):
    assert family_of(family, 3, {}).second_head in {P, LOGVAR, None}


def test_absent_fields_have_their_defaults():
    needed = {name: GOOD[name] for name in ("schema_version", "role", "family", "latent_dim", "image_shape")}
    expected = ModelMetadata("encoder", "normal-gamma-mixture", 3, (32, 32, 3))
    assert ModelMetadata.from_json(json.dumps(needed)) == expected
    scaled = ModelMetadata.from_json(json.dumps(needed | {"scale": {"high": 65535}}))
    assert scaled.scale == InputScale(0.0, 65535.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metadata_that_json_lacks_are_not_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        ModelMetadata("encoder", "gaussian", 1, (1, 1, 1), hyperparameters={"s": value}).to_json()


@pytest.mark.parametrize("name", ["role", "family", "latent_dim", "image_shape"])
def test_a_missing_field_is_named(name):
    raw = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ContractError, match=f"found no field '{name}'"):
        ModelMetadata.from_json(json.dumps(raw))


BAD = {
    "role": ["student", None, 3, ["encoder"]],
    "family": ["laplace", None, {}],
    "latent_dim": [0, -1, 2.7, 3.0, "3", True, None, [3], math.inf, math.nan],
    "image_shape": [[32, 32], [32, 32, 3, 1], "323", 32, None, [0, 32, 3], [32, -1, 3], [32.0, 32, 3], ["32", 32, 3]],
    "sample_type": ["float64", None, 8],
    "layout": ["HWC", None],
    "scale": [
        {"low": math.nan}, {"high": math.inf}, {"low": 255.0}, {"low": "0"}, {"high": None}, {"low": True},
        {"middle": 1.0}, [0, 255], 255, None, {"high": 10**400},
    ],
    "hyperparameters": [
        {"s": "1"}, {"s": None}, {"s": math.nan}, {"s": -math.inf}, {"s": [1.0, 2.0]}, {"s": []},
        {"s": [1.0, 2.0, None]}, {"s": [1.0, 2.0, math.nan]}, {"s": True}, [1.0], None, {"s": 10**400},
    ],
    "resize": ["squash", 3, ["crop"]],
    "data_fingerprint": [3, ["a"]],
    "weights": [3, ["a"]],
    "versions": [{"numpy": 2}, {"numpy": None}, ["numpy"], None],
    "kept": [3, "012", [0, 1], [0, 1, 1], [0, 1, -1], [0, 1, 2.0], [0, 1, True], [[0], 1, 2], [0, 1, 2, 3]],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_malformed_field_is_a_contract_error(name, value):
    with pytest.raises(ContractError, match=r"metadata 'ngvae_tools' cannot be read.*export the model again"):
        ModelMetadata.from_json(json.dumps(GOOD | {name: value}))


def test_every_field_has_its_malformed_values():
    assert set(BAD) == set(GOOD) - {"schema_version"}


@pytest.mark.parametrize("version", [0, 2, 99, "1", 1.0, True, None])
def test_another_schema_version_is_refused(version):
    with pytest.raises(ContractError, match=f"schema_version 1, found {version!r}; use the version of ngvae-tools"):
        ModelMetadata.from_json(json.dumps(GOOD | {"schema_version": version}))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text):
    with pytest.raises(ContractError, match="expected a JSON object"):
        ModelMetadata.from_json(text)


def test_unknown_fields_of_the_same_schema_are_passed_over():
    assert ModelMetadata.from_json(json.dumps(GOOD | {"comment": "mine"})) == ModelMetadata.from_json(json.dumps(GOOD))
