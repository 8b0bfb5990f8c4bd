"""Models of other projects, made by those projects' own code: exported, opened, analysed, compared with their own.

`make test-all` installs the projects. Without them these tests fail: they are never skipped.
"""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from ngvae_tools import select_latents
from ngvae_tools.errors import OptionError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions

pytestmark = pytest.mark.slow

SHAPE = (16, 16, 3)
TRAINED = ("VAE", "BetaVAE", "AE")
FRIENDS = ("BetaTCVAE", "DisentangledBetaVAE", "INFOVAE_MMD", "IWAE", "VAMP", "WAE_MMD", "RAE_L2")
WITHOUT_POSTERIOR = ("AE", "WAE_MMD", "RAE_L2")
OTHER_LAWS = ("SVAE", "VAE_LinNF", "VAE_IAF", "HVAE", "RHVAE", "PoincareVAE")


def samples(count, shape=SHAPE, seed=0):
    """Smooth images: each a slope of its own direction and colour."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / max(shape)
    slopes = rng.uniform(-1, 1, (count, 2, 1, 1, shape[2]))
    values = 0.5 + 0.5 * (slopes[:, 0] * rows[..., None] + slopes[:, 1] * columns[..., None])
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def images_of(samples, low=0.0, high=1.0):
    import torch

    unit = samples.astype(np.float64).transpose(0, 3, 1, 2) / 255
    return torch.from_numpy((low + (high - low) * unit).astype(np.float32))


def assert_analysed(encoder, folder, mu, logvar, tmp_path, **options):
    """select_latents over the images in a folder finds the moments of the framework's own heads, (rows, K)."""
    record = select_latents(encoder, folder, tmp_path / "OUT", bootstrap=0, **options)
    assert (tmp_path / "OUT" / "latents.h5").exists()
    assert len(record.dimensions) == mu.shape[1]
    for dimension in record.dimensions:
        column = mu[:, dimension.index].astype(np.float64)
        assert dimension.mu_mean == pytest.approx(column.mean(), abs=1e-5)
        assert dimension.mu_variance == pytest.approx(column.var(ddof=1), rel=1e-3, abs=1e-9)
        if logvar is None:
            assert dimension.posterior_variance is None
        else:
            expected = np.exp(logvar[:, dimension.index].astype(np.float64)).mean()
            assert dimension.posterior_variance == pytest.approx(expected, rel=1e-4)
    return record


def pythae_model(name, **options):
    from pythae import models

    config = next(
        getattr(models, f"{name}{ending}") for ending in ("Config", "_Config") if hasattr(models, f"{name}{ending}")
    )
    return getattr(models, name)(config(input_dim=(SHAPE[2], *SHAPE[:2]), latent_dim=3, **options))


def trained_by_pythae(name, folder):
    """A model that pythae's own trainer took through two epochs."""
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    model = pythae_model(name)
    config = BaseTrainerConfig(
        output_dir=str(folder), num_epochs=2, per_device_train_batch_size=32, learning_rate=1e-3, no_cuda=True
    )
    TrainingPipeline(training_config=config, model=model)(train_data=images_of(samples(96)).numpy())
    return model


def trained_by_hand(name):
    """A model after three steps on the loss that it returns."""
    import torch
    from pythae.data.datasets import DatasetOutput

    model = pythae_model(name).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(3):
        batch = DatasetOutput(data=images_of(samples(32, seed=step)))
        loss = model(batch, epoch=1, dataset_size=96).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def sample_folder(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("samples")
    for index, image in enumerate(samples(24, seed=9)):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


@pytest.mark.parametrize("name", [*TRAINED, *FRIENDS])
def test_pythae(name, tmp_path, sample_folder):
    import torch

    from exporters import export_pythae

    torch.manual_seed(0)
    model = trained_by_pythae(name, tmp_path / "training") if name in TRAINED else trained_by_hand(name)
    model.train()
    encoder, decoder = export_pythae(model, tmp_path / "e.onnx", decoder_path=tmp_path / "d.onnx")
    assert model.training
    deterministic = name in WITHOUT_POSTERIOR
    assert encoder.metadata.family == decoder.metadata.family == ("deterministic" if deterministic else "gaussian")
    model.eval()
    batch = samples(24, seed=9)
    with torch.no_grad():
        result = model.encoder(images_of(batch))
        images = model.decoder(result.embedding).reconstruction.numpy()
    mu = result.embedding.numpy()
    logvar = None if deterministic else result.log_covariance.numpy()
    heads = EncoderSession(encoder.path).encode(batch)
    np.testing.assert_allclose(heads.mu, mu, atol=1e-5)
    if not deterministic:
        np.testing.assert_allclose(heads.second, logvar, atol=1e-5)
    found = DecoderSession(decoder.path).decode(mu)
    np.testing.assert_allclose(found, images.transpose(0, 2, 3, 1), atol=1e-5)
    if name in TRAINED:
        record = assert_analysed(encoder.path, sample_folder, mu, logvar, tmp_path, decoder=decoder.path)
        assert record.truncation is not None


@pytest.mark.parametrize("name", OTHER_LAWS)
def test_pythae_models_of_another_law_are_refused(name, tmp_path):
    from exporters import export_pythae

    with pytest.raises(OptionError, match=f"{name} cannot be exported.*latents of another law"):
        export_pythae(pythae_model(name), tmp_path / "e.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def autoencoder():
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 16),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


@pytest.mark.parametrize("dimensions", ["channel", "channel-position"])
def test_diffusers(dimensions, autoencoder, tmp_path, sample_folder):
    import torch

    from exporters import export_diffusers

    encoder, decoder = export_diffusers(
        autoencoder, tmp_path / "e.onnx", dimensions=dimensions, decoder_path=tmp_path / "d.onnx"
    )
    batch = samples(24, seed=9)
    with torch.no_grad():
        law = autoencoder.eval().encode(images_of(batch, -1, 1)).latent_dist
        images = autoencoder.decode(law.mean).sample.numpy()
    assert law.mean.shape == (24, 4, 8, 8)

    def rows(head):
        return (head.permute(0, 2, 3, 1).reshape(-1, 4) if dimensions == "channel" else head.flatten(1)).numpy()

    session = EncoderSession(encoder.path)
    assert (session.latent_dim, session.positions) == ((4, 64) if dimensions == "channel" else (256, 1))
    heads = session.encode(batch)
    np.testing.assert_allclose(heads.mu, rows(law.mean), atol=2e-5)
    np.testing.assert_allclose(heads.second, rows(law.logvar), atol=2e-5)
    found = DecoderSession(decoder.path).decode(law.mean.flatten(1).numpy())
    np.testing.assert_allclose(found, (images.transpose(0, 2, 3, 1) + 1) / 2, atol=2e-5)
    record = assert_analysed(encoder.path, sample_folder, rows(law.mean), rows(law.logvar), tmp_path)
    assert record.model.family == "gaussian"


def test_diffusers_clamps_the_log_variance(autoencoder, tmp_path):
    import torch

    from exporters import export_diffusers

    bias = autoencoder.quant_conv.bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias[4:] += torch.tensor([100.0, -100.0, 0.0, 0.0])
    try:
        export_diffusers(autoencoder, tmp_path / "e.onnx")
    finally:
        with torch.no_grad():
            bias.copy_(before)
    logvar = EncoderSession(tmp_path / "e.onnx").encode(samples(2)).second
    assert (logvar[:, 0] == 20).all()
    assert (logvar[:, 1] == -30).all()


def test_a_diffusers_model_in_half_precision_that_slices_and_then_does_not(autoencoder, tmp_path):
    import copy

    import torch

    from exporters import export_diffusers

    half = copy.deepcopy(autoencoder).to(torch.bfloat16).train()
    half.enable_slicing()
    with pytest.raises(OptionError, match="disable_slicing"):
        export_diffusers(half, tmp_path / "e.onnx")
    half.disable_slicing()
    export_diffusers(half, tmp_path / "e.onnx")
    assert half.dtype == torch.bfloat16
    assert half.training
    batch = samples(2)
    with torch.no_grad():
        law = copy.deepcopy(half).float().eval().encode(images_of(batch, -1, 1)).latent_dist
    heads = EncoderSession(tmp_path / "e.onnx").encode(batch)
    np.testing.assert_allclose(heads.mu, law.mean.permute(0, 2, 3, 1).reshape(-1, 4), atol=2e-5)


KERAS = """
import sys
import keras
import numpy as np

folder = sys.argv[1]
images = np.load(f"{folder}/images.npy")
keras.utils.set_random_seed(0)
image = keras.Input(images.shape[1:], name="image")
body = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(image)
body = keras.layers.BatchNormalization()(body)
body = keras.layers.Dropout(0.3)(keras.layers.Flatten()(body))
heads = [keras.layers.Dense(5, name="z_mean")(body), keras.layers.Dense(5, name="z_log_var")(body)]
model = keras.Model(image, heads)
model.compile("adam", ["mse", "mse"])
targets = np.random.default_rng(0).normal(size=(len(images), 5))
model.fit(images, [targets, targets], epochs=1, verbose=0)
mu, logvar = model.predict(images, verbose=0)
np.savez(f"{folder}/heads.npz", mu=mu, logvar=logvar)
model.export(f"{folder}/keras.onnx", format="onnx", verbose=False)
"""


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory):
    """An encoder that Keras trained and wrote as ONNX, in a process of its own, with the heads that it predicts."""
    folder = tmp_path_factory.mktemp("keras")
    np.save(folder / "images.npy", samples(24, seed=9).astype(np.float32) / 255)
    environment = os.environ | {"KERAS_BACKEND": "torch", "KERAS_HOME": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", KERAS, str(folder)], check=False, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    # Keras names the outputs by numbers, in the order of the model's.
    outputs = [output.name for output in onnx.load(folder / "keras.onnx").graph.output]
    return folder / "keras.onnx", HeadNames(mu=outputs[0], logvar=outputs[1]), np.load(folder / "heads.npz")


def test_keras(keras_model, tmp_path, sample_folder):
    path, names, heads = keras_model
    session = EncoderSession(path, heads=names, input_options=InputOptions(low=0.0, high=1.0))
    assert (session.latent_dim, session.metadata.image_shape, session.metadata.layout) == (5, SHAPE, "NHWC")
    found = session.encode(samples(24, seed=9))
    np.testing.assert_allclose(found.mu, heads["mu"], atol=1e-4)
    np.testing.assert_allclose(found.second, heads["logvar"], atol=1e-4)
    record = assert_analysed(path, sample_folder, heads["mu"], heads["logvar"], tmp_path, heads=names)
    assert record.model.family == "gaussian"
