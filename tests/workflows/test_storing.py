"""What goes into the latent file: distortion, float32, all dimensions, an archive; from one run or from parts."""

import json

import numpy as np
import pytest
from inference.graphs import Linear, images_of
from latent_files import read_latents

from ngvae_tools import encode_part, merge, open_latents, select_latents
from ngvae_tools.errors import OptionError
from ngvae_tools.workflows.report import report
from ngvae_tools.workflows.storing import StoreOptions

LINEAR = Linear(5, second="logvar", constant=[-3.0, 0.0, -4.0, 0.0, -3.0])


@pytest.fixture
def encoder(tmp_path):
    return LINEAR.save(tmp_path / "encoder.onnx")


@pytest.fixture
def data(tmp_path, as_h5):
    return as_h5(tmp_path / "d.h5", images_of(3000))


@pytest.fixture
def mu():
    return LINEAR.heads(images_of(3000))[0]


@pytest.mark.parametrize("distortion", [0.001, 0.1])
def test_the_error_is_the_share_that_was_asked_for(tmp_path, encoder, data, mu, distortion):
    record = select_latents(encoder, data, tmp_path / "out", storing=StoreOptions(distortion=distortion))
    assert (record.latents.distortion, record.latents.dimensions) == (distortion, (0, 2, 4))
    noise = np.array([record.dimensions[k].posterior_variance for k in (0, 2, 4)])
    np.testing.assert_allclose(record.latents.mean_squared_error / noise, distortion, rtol=0.1)
    error = np.abs(read_latents(tmp_path / "out")[0] - mu[:, [0, 2, 4]])
    assert (error.max(axis=0) <= np.array(record.latents.max_error)).all()


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_float32_of_all_dimensions(tmp_path, encoder, data, mu, codec):
    options = StoreOptions(lossless=True, keep="all", codec=codec)
    record = select_latents(encoder, data, tmp_path / "out", storing=options)
    assert record.selection.indices == (0, 2, 4)
    assert record.latents.dimensions == (0, 1, 2, 3, 4)
    assert (record.latents.codec, record.latents.distortion, record.latents.entropy_bits) == (codec, None, None)
    assert set(record.latents.max_error) == {0.0}
    np.testing.assert_array_equal(read_latents(tmp_path / "out")[0], mu.astype(np.float32))


def test_what_stands_for_the_dropped_dimensions(tmp_path, encoder, data, mu):
    select_latents(encoder, data, tmp_path / "out")
    with open_latents(tmp_path / "out") as file:
        origin = file.header.origin
        np.testing.assert_allclose(origin.fill, mu.mean(axis=0), rtol=1e-5, atol=1e-6)
        assert origin.preprocessing["image_shape"] == list(images_of(1).shape[1:])
        assert (origin.rule, origin.family, origin.latent_dim) == ("variance", "gaussian", 5)
        assert [source.n_rows for source in origin.sources] == [3000]


def test_parts_give_the_same_file_with_the_same_options(tmp_path, encoder, data):
    options = StoreOptions(distortion=0.05, keep="all", codec="archive")
    record = select_latents(encoder, data, tmp_path / "whole", storing=options)
    for number in (1, 2):
        encode_part(encoder, data, tmp_path / f"{number}", number=number, of=2)
    merged = merge([tmp_path / "1", tmp_path / "2"], tmp_path / "merged", storing=options)
    assert merged.equal_but_for_timings(record)
    assert (tmp_path / "merged/latents.h5").read_bytes() == (tmp_path / "whole/latents.h5").read_bytes()


def test_an_interrupted_pass_may_go_on_with_other_options(tmp_path, encoder, data):
    encode_part(encoder, data, tmp_path / "out", number=1, of=1)
    select_latents(encoder, data, tmp_path / "out", storing=StoreOptions(lossless=True))
    with open_latents(tmp_path / "out") as file:
        assert not file.header.coding.quantised


def test_only_informative_dimensions_are_matched_across_models(tmp_path, encoder, data):
    other = Linear(5, second="logvar", constant=[-3.0, 0.0, -4.0, 0.0, -3.0], seed=1).save(tmp_path / "other.onnx")
    for model, name in ((encoder, "a"), (other, "b")):
        select_latents(model, data, tmp_path / name, storing=StoreOptions(keep="all"))
    (pair,) = report([tmp_path / "a", tmp_path / "b"]).stability.pairs
    assert {match.a for match in pair.matches} == {match.b for match in pair.matches} == {0, 2, 4}


@pytest.mark.parametrize(
    "options", [{"distortion": 0}, {"distortion": 1.5}, {"distortion": float("nan")}, {"keep": "some"}, {"codec": "x"}]
)
def test_options_that_mean_nothing(tmp_path, encoder, data, options):
    with pytest.raises(OptionError, match=f"--{next(iter(options))}"):
        select_latents(encoder, data, tmp_path / "out", storing=StoreOptions(**options))
    assert not (tmp_path / "out").exists()


def test_the_command(commands, encoder, data):
    words = ("select-latents", encoder, data, "--json")
    found = commands(*words, "-o", "a", "--distortion", "0.05", "--keep", "all", "--codec", "archive")
    assert found.returncode == 0, found.stderr
    latents = json.loads(found.stdout)["latents"]
    assert (latents["distortion"], latents["dimensions"], latents["codec"]) == (0.05, [0, 1, 2, 3, 4], "archive")
    found = commands(*words, "-o", "b", "--lossless")
    assert json.loads(found.stdout)["latents"]["distortion"] is None
    for wrong in (("--lossless", "--distortion", "0.1"), ("--distortion", "0"), ("--shard", "1/2", "--lossless")):
        found = commands("select-latents", encoder, data, "-o", "c", *wrong)
        assert found.returncode == 2
        assert wrong[-1].startswith("--") or wrong[0] in found.stderr
        assert "Traceback" not in found.stderr
