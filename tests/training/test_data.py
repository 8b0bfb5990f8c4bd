"""Training images: the split, the scale, and what cannot be trained on."""

import h5py
import numpy as np
import pytest
import torch

from ngvae_tools.contract import InputScale
from ngvae_tools.datasets import open_dataset
from ngvae_tools.errors import DatasetError, DeviceError
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.data import load_images
from ngvae_tools.training.devices import training_device, training_devices
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.networks import Decoder, Encoder, scaled


def loaded(path, samples, **options):
    with h5py.File(path, "w") as file:
        file["images"] = samples
    with open_dataset(path) as dataset:
        return load_images(dataset, **({"held_out": 0.25, "seed": 0} | options))


def noise(dtype, n=200, seed=0):
    values = np.random.default_rng(seed).normal(3000, 500, (n, 16, 16, 1))
    return values.astype(dtype)


def test_the_split_is_a_partition_that_the_seed_decides(tmp_path, sprites):
    samples = sprites[:101]
    images = loaded(tmp_path / "a.h5", samples)
    assert (len(images.train), len(images.held_out)) == (76, 25)
    np.testing.assert_array_equal(np.union1d(images.train, images.held_out), np.arange(101))
    np.testing.assert_array_equal(images.samples, samples)
    again, other = loaded(tmp_path / "a.h5", samples), loaded(tmp_path / "a.h5", samples, seed=1)
    np.testing.assert_array_equal(images.train, again.train)
    assert not np.array_equal(images.train, other.train)


def test_nothing_need_be_held_out(tmp_path, sprites):
    images = loaded(tmp_path / "a.h5", sprites[:5], held_out=0.0)
    assert (len(images.train), len(images.held_out)) == (5, 0)


def test_bytes_are_scaled_by_255(tmp_path, sprites):
    assert loaded(tmp_path / "a.h5", sprites[:8]).scale == InputScale(0, 255)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scientific_images_are_scaled_by_percentiles_of_the_training_share(tmp_path, dtype):
    samples = noise(dtype)
    images = loaded(tmp_path / "a.h5", samples)
    low, high = np.percentile(samples[images.train], (0.1, 99.9))
    assert (images.scale.low, images.scale.high) == (pytest.approx(low), pytest.approx(high))
    # What is held out has no say.
    samples[images.held_out] = 60_000
    assert loaded(tmp_path / "a.h5", samples).scale == images.scale


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_constant_images_get_a_scale_that_divides(tmp_path, value):
    scale = loaded(tmp_path / "a.h5", np.full((4, 16, 16, 1), value, np.float32)).scale
    assert scale == InputScale(value, value + 1)


def test_rare_bright_pixels_set_the_scale_where_percentiles_agree(tmp_path):
    samples = np.zeros((8, 16, 16, 1), np.uint16)
    samples[0, 3, 3, 0] = 900
    images = loaded(tmp_path / "a.h5", samples, held_out=0.0)
    assert images.scale == InputScale(0, 900)


def test_images_that_are_rejected_are_left_out(tmp_path):
    samples = noise(np.float32, n=10)
    samples[[2, 7], 0, 0, 0] = np.nan
    images = loaded(tmp_path / "a.h5", samples)
    assert len(images.samples) == 8
    assert [rejection.index for rejection in images.rejected] == [2, 7]
    np.testing.assert_array_equal(images.samples, np.delete(samples, [2, 7], axis=0))


def test_one_image_cannot_be_trained_on(tmp_path, sprites):
    with pytest.raises(DatasetError, match="too few images"):
        loaded(tmp_path / "a.h5", sprites[:1])
    with pytest.raises(DatasetError, match="too few images"):
        loaded(tmp_path / "a.h5", sprites[:2], held_out=0.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_are_scaled_inside_the_encoder(dtype):
    samples = (noise(np.float32, n=3) / (20 if dtype == np.uint8 else 1)).astype(dtype)
    scale = InputScale() if dtype == np.uint8 else InputScale(2000, 3500)
    encoder = Encoder((16, 16, 1), 2, scale)
    images = encoder.images(torch.from_numpy(samples))
    values = (samples.astype(np.float64) - scale.low) / (scale.high - scale.low)
    expected = np.clip(values, 0, 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(images.numpy(), expected, atol=1e-6)
    assert images.dtype == torch.float32
    assert dtype == np.uint8 or {0.0, 1.0} <= set(images.flatten().tolist())


def test_a_scale_from_zero_clips():
    samples = torch.tensor([-1.0, 0.0, 2.0, 5.0])
    assert scaled(samples, InputScale(0, 4)).tolist() == [0, 0, 0.5, 1]


@pytest.mark.parametrize("shape", [(32, 48, 1), (48, 16, 5), (16, 16, 3)])
def test_rectangular_images_of_any_channels_pass_both_networks(shape):
    height, width, channels = shape
    encoder, decoder = Encoder(shape, 7, InputScale()), Decoder(shape, 7)
    mu, raw = encoder(encoder.images(torch.zeros(2, *shape, dtype=torch.uint8)))
    assert (mu.shape, raw.shape) == ((2, 7), (2, 7))
    assert decoder(mu).shape == (2, channels, height, width)


@pytest.mark.parametrize("shape", [(31, 32, 3), (32, 40, 1), (0, 16, 1), (8, 16, 1), (28, 28, 1)])
def test_sides_that_are_no_multiple_of_sixteen_are_refused(shape):
    for build in (lambda: Encoder(shape, 2, InputScale()), lambda: Decoder(shape, 2)):
        with pytest.raises(DatasetError, match="multiples of 16") as refusal:
            build()
        assert refusal.value.found == f"{shape[0]} x {shape[1]}"


def test_the_networks_are_the_paper_s():
    model = VariationalAutoencoder(TrainingConfig(latent_dim=15), (64, 64, 3), InputScale())
    convolutions = [layer for layer in model.encoder.convolutions if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64]
    assert {(layer.kernel_size, layer.stride) for layer in convolutions} == {((3, 3), (2, 2))}


def test_cuda_without_cuda_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(DeviceError, match="--device cuda"):
        training_device("cuda")
    assert training_device("auto") == torch.device("cpu")
    assert training_devices() == ("cpu",)


def test_cpu_is_taken_when_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device("cpu") == torch.device("cpu")
    assert training_device("auto") == training_device("cuda") == torch.device("cuda")
