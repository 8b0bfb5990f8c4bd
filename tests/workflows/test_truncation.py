import dataclasses

import numpy as np
import onnxruntime
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import ContractError, DatasetError
from ngvae_tools.inference.decoder import OutputOptions
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.reporting.costs import doubt_of
from ngvae_tools.workflows import truncation
from ngvae_tools.workflows.truncation import measure_truncation, open_decoder, read_images


@pytest.fixture
def sample(pytestconfig):
    return pytestconfig.rootpath / "sample_data"


@pytest.fixture
def encoder(tmp_path):
    """Three dimensions and images (6, 5, 3)."""
    return EncoderSession(Linear(3, second="logvar").save(tmp_path / "encoder.onnx"))


def decoder_for(path, **options):
    return LinearDecoder((2.0, 1.0, 0.5), (6, 5, 3)).save(path, **options)


def options_for(mu):
    return {"mean": mu.mean(0).astype(np.float64), "posterior_std": np.full(mu.shape[1], 0.1), "information": None}


def test_the_sample_model_loses_what_its_decoder_says(sample):
    encoder = EncoderSession(sample / "encoder.onnx")
    decoder = open_decoder(sample / "decoder.onnx", encoder)
    with open_dataset(sample / "sprites.h5") as dataset:
        index = np.arange(0, 256, 4)
        samples = dataset.read(0, 256)[0].images[index]
        mu = encoder.encode(samples).mu
        found = measure_truncation(decoder, dataset, index, mu, **options_for(mu))
    session = onnxruntime.InferenceSession(sample / "decoder.onnx", providers=["CPUExecutionProvider"])
    images = samples.astype(np.float64) / 255

    def mse(z):
        return ((session.run(None, {"z": z})[0] - images) ** 2).mean()

    assert found.n_images == 64
    assert found.by_relevance.knee == 6
    assert sorted(found.by_relevance.order[:6]) == [2, 3, 4, 5, 7, 9]
    assert found.by_relevance.error[-1] == pytest.approx(mse(mu), rel=1e-5)
    for k in (0, 3):
        held = mu.copy()
        held[:, k] = mu[:, k].astype(np.float64).mean()
        assert found.relevance[k] == pytest.approx(mse(held) - mse(mu), rel=1e-3, abs=1e-8)
    assert found.mean_image_error == pytest.approx(images.var(axis=0).mean(), rel=1e-5)
    assert (decoder.notes, doubt_of(found)) == ([], "")
    worse = dataclasses.replace(found, mean_image_error=0.9 * mse(mu))
    assert "no better than that of the mean image" in doubt_of(worse)


def test_a_sample_in_any_order_is_measured_alike(sample):
    encoder = EncoderSession(sample / "encoder.onnx")
    decoder = open_decoder(sample / "decoder.onnx", encoder)
    with open_dataset(sample / "sprites") as dataset:
        mu = encoder.encode(dataset.read(0, 40)[0].images).mu
        found = [
            measure_truncation(decoder, dataset, index, mu[index], **options_for(mu))
            for index in (np.arange(40), np.random.default_rng(0).permutation(40))
        ]
    assert found[0] == found[1]


def test_a_folder_of_a_run_names_its_decoder(tmp_path, encoder):
    path = decoder_for(tmp_path / "decoder.onnx")
    assert open_decoder(tmp_path, encoder).path == path


def test_a_decoder_of_another_encoder(tmp_path, encoder):
    other = LinearDecoder((1.0, 1.0), (6, 5, 3)).save(tmp_path / "k.onnx")
    with pytest.raises(ContractError, match=r"expected 3 latent dimensions and .* found 2 latent dimensions"):
        open_decoder(other, encoder)
    other = LinearDecoder((1.0, 1.0, 1.0), (5, 6, 3)).save(tmp_path / "s.onnx")
    with pytest.raises(ContractError, match=r"shape \(6, 5, 3\), found .* shape \(5, 6, 3\)"):
        open_decoder(other, encoder)
    with pytest.raises(ContractError, match="cannot be used as a decoder: expected a decoder, found an encoder"):
        open_decoder(encoder.path, encoder)


def test_too_many_dimensions_for_one_lifetime(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(truncation, "MAX_DIMENSIONS", 2)
    with pytest.raises(ContractError, match="at most 2 dimensions, found 3; leave --decoder out"):
        open_decoder(decoder_for(tmp_path / "d.onnx"), encoder)


WIDE = {"sample_type": "uint16", "scale": InputScale(0.0, 65535.0)}


@pytest.mark.parametrize(
    ("ours", "theirs", "refused"),
    [
        ({}, {}, None),
        ({"data_fingerprint": "a", "weights": "w"}, {}, None),
        ({"data_fingerprint": "a", "weights": "w"}, {"data_fingerprint": "a", "weights": "w"}, None),
        ({"data_fingerprint": "a"}, {"data_fingerprint": "b"}, r"fingerprint a\.\.\., .* found b\.\.\."),
        ({"weights": "v"}, {"weights": "w"}, r"SHA-256 v\.\.\., .* found w\.\.\."),
        ({}, WIDE, "samples of uint8 from 0 to 255, .* found uint16 from 0 to 65535"),
        ({}, {"scale": InputScale(0.0, 200.0)}, "found uint8 from 0 to 200"),
        (None, WIDE, None),
        ({"weights": "v"}, None, None),
    ],
)
def test_a_decoder_of_another_training(tmp_path, ours, theirs, refused):
    """None: a model from elsewhere, which says nothing."""
    linear, decoder = Linear(3, second="logvar"), LinearDecoder((2.0, 1.0, 0.5), (6, 5, 3))
    text = None if ours is None else linear.metadata(**ours).to_json()
    encoder = EncoderSession(linear.save(tmp_path / "e.onnx", metadata=text))
    text = None if theirs is None else decoder.metadata(**theirs).to_json()
    path = decoder.save(tmp_path / "d.onnx", metadata=text)
    if refused is None:
        assert open_decoder(path, encoder).notes == []
        return
    with pytest.raises(ContractError, match=f"d.onnx was not trained together with .*e.onnx: .*{refused}; .* --any-d"):
        open_decoder(path, encoder)
    (note,) = open_decoder(path, encoder, any_decoder=True).notes
    assert "as --any-decoder allows" in note


@pytest.mark.parametrize(
    ("dtype", "high", "says"),
    [
        ("uint8", 255, WIDE),
        ("uint16", 65535, {}),
        ("float32", 1, {}),
        ("uint8", 200, {"scale": InputScale(0.0, 200.0)}),
    ],
)
def test_a_decoder_scales_only_samples_of_its_own_type(tmp_path, encoder, as_h5, dtype, high, says):
    linear = LinearDecoder((2.0, 1.0, 0.5), (6, 5, 3))
    mu = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * np.float32(0.1)
    images = (linear(mu) * high).round(0 if high > 1 else 7).astype(dtype)
    path = linear.save(tmp_path / "d.onnx", metadata=linear.metadata(**says).to_json())
    decoder = open_decoder(path, encoder, any_decoder=True)
    with open_dataset(as_h5(tmp_path / "d.h5", images)) as dataset:
        found = measure_truncation(decoder, dataset, np.arange(20), mu, **options_for(mu))
    assert found.by_relevance.error[-1] < 1e-5


def test_a_decoder_that_does_not_reconstruct_is_remarked(tmp_path, encoder, as_h5):
    images = np.full((20, 6, 5, 3), 128, np.uint8)
    mu = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    decoder = open_decoder(decoder_for(tmp_path / "d.onnx"), encoder)
    with open_dataset(as_h5(tmp_path / "d.h5", images)) as dataset:
        found = measure_truncation(decoder, dataset, np.arange(20), mu, **options_for(mu))
    assert decoder.notes == [doubt_of(found)]
    assert "no better than that of the mean image (0) or of no dimension" in decoder.notes[0]


def test_the_sample_is_bounded(tmp_path, encoder, as_h5, monkeypatch):
    monkeypatch.setattr(truncation, "SAMPLE_IMAGES", 7)
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    mu = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    decoder = open_decoder(decoder_for(tmp_path / "d.onnx"), encoder)
    with open_dataset(as_h5(tmp_path / "d.h5", images)) as dataset:
        found = measure_truncation(decoder, dataset, np.arange(20), mu, **options_for(mu))
        assert found.n_images == 7
        monkeypatch.setattr(truncation, "SAMPLE_BYTES", 2 * 4 * 90)
        assert measure_truncation(decoder, dataset, np.arange(20), mu, **options_for(mu)).n_images == 2


@pytest.mark.parametrize(("dtype", "high"), [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_a_decoder_from_elsewhere_gets_images_of_the_whole_range(tmp_path, encoder, as_h5, dtype, high):
    linear = LinearDecoder((2.0, 1.0, 0.5), (6, 5, 3))
    mu = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * np.float32(0.1)
    images = (linear(mu) * high).round(0 if high > 1 else 7).astype(dtype)
    path = linear.save(tmp_path / "d.onnx", metadata=None, layout="NCHW", gain=2.0, offset=-1.0)
    decoder = open_decoder(path, encoder, output_options=OutputOptions(low=-1.0, high=1.0))
    with open_dataset(as_h5(tmp_path / "d.h5", images)) as dataset:
        found = measure_truncation(decoder, dataset, np.arange(20), mu, **options_for(mu))
        assert found.by_relevance.error[-1] < (0.6 / min(high, 1e5)) ** 2 + 1e-12
        twice = measure_truncation(
            decoder, dataset, np.arange(20), mu, scale=InputScale(0.0, 2.0 * high), **options_for(mu)
        )
        assert twice.by_relevance.error[-1] > 0.01


def test_images_are_read_by_index_and_scaled(tmp_path, as_h5):
    images = np.random.default_rng(0).uniform(-1, 3, (30, 6, 5, 3)).astype(np.float32)
    images[[4, 11]] = np.nan
    index = np.array([0, 1, 2, 4, 9, 10, 11, 29])
    with open_dataset(as_h5(tmp_path / "d.h5", images)) as dataset:
        found, usable = read_images(dataset, index, InputScale(-0.5, 2.5))
        assert list(index[usable]) == [0, 1, 2, 9, 10, 29]
        np.testing.assert_allclose(found, np.clip((images[index[usable]] + 0.5) / 3, 0, 1), atol=1e-6)
        with pytest.raises(DatasetError, match="no image of the sample can be read again"):
            read_images(dataset, np.array([4, 11]), InputScale())


def test_images_that_cannot_be_read_again_are_left_out(tmp_path, encoder, as_h5):
    images = np.random.default_rng(0).uniform(0, 1, (12, 6, 5, 3)).astype(np.float32)
    mu = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
    decoder = open_decoder(decoder_for(tmp_path / "d.onnx"), encoder)
    options = options_for(mu)
    with open_dataset(as_h5(tmp_path / "whole.h5", images)) as dataset:
        kept = np.delete(np.arange(12), [3, 4])
        expected = measure_truncation(decoder, dataset, kept, mu[kept], **options)
    images[[3, 4]] = np.inf
    with open_dataset(as_h5(tmp_path / "holes.h5", images)) as dataset:
        assert measure_truncation(decoder, dataset, np.arange(12), mu, **options) == expected
