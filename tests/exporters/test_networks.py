"""Every model and network option exports: encoder, decoder, a folded scale, and pruning by their weights."""

import copy

import numpy as np
import onnx
import pytest
import torch

from exporters.networks import export_model, fold_latents, fold_scale
from exporters.prune import prune_decoder, prune_encoder
from ngvae_tools.contract import InputScale
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder, weights_sha256

SHAPE = (16, 32, 3)
K = 4
OPTIONS = [
    {"model": "factor-vae"},
    {"model": "ard-vae", "decoder": "broadcast", "coordconv": True},
    {"model": "vae", "coordconv": True},
]
MORE = [{"model": "beta-tcvae"}, {"model": "ard-vae"}, {"model": "vae", "decoder": "broadcast"}]


def named(options):
    return " ".join(map(str, options.values()))


def model_of(scale=None, **options):
    model = VariationalAutoencoder(TrainingConfig(latent_dim=K, **options), SHAPE, scale or InputScale()).eval()
    if options.get("model") == "ard-vae":
        model.objective.prior_variance.copy_(torch.tensor([4.0, 1.0, 0.25, 0.01]))
    return model


def samples_of(count):
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@pytest.fixture(
    scope="module", params=[*OPTIONS, *(pytest.param(options, marks=pytest.mark.slow) for options in MORE)], ids=named
)
def exported(request, tmp_path_factory):
    model = model_of(**request.param)
    folder = tmp_path_factory.mktemp("exported")
    export_model(model, folder / "encoder.onnx", folder / "decoder.onnx", sample_type="uint8")
    return model, folder


def test_what_is_exported_is_the_gaussian_family_of_the_contract(exported):
    model, folder = exported
    samples = samples_of(5)
    with torch.no_grad():
        parts = model(torch.from_numpy(samples), torch.Generator().manual_seed(0))
        images = model.decode(parts.z)
    session = EncoderSession(folder / "encoder.onnx")
    assert session.metadata.family == "gaussian"
    heads = session.encode(samples)
    np.testing.assert_allclose(heads.mu, parts.mu, atol=1e-5)
    np.testing.assert_allclose(np.exp(heads.second), parts.posterior_variance, rtol=1e-4)
    decoder = DecoderSession(folder / "decoder.onnx")
    # Both files say which training they are of, and nothing but it.
    with torch.no_grad():
        other = copy.deepcopy(model)
        next(other.parameters()).add_(1)
    assert session.metadata.weights == decoder.metadata.weights == weights_sha256(model) != weights_sha256(other)
    decoded = decoder.decode(parts.z.numpy())
    np.testing.assert_allclose(decoded, images.permute(0, 2, 3, 1), atol=1e-5)


def test_no_discriminator_is_exported(exported):
    model, folder = exported
    weights = {
        array.size for array in map(onnx.numpy_helper.to_array, onnx.load(folder / "encoder.onnx").graph.initializer)
    }
    assert 1_000_000 not in weights
    own = sum(weights.numel() for weights in model.encoder.parameters())
    assert (folder / "encoder.onnx").stat().st_size < 4 * own + 40_000


def test_pruning_takes_dimensions_out_of_the_weights(exported, tmp_path):
    model, folder = exported
    kept = (0, 2)
    encoder = prune_encoder(folder / "encoder.onnx", kept, tmp_path / "encoder.onnx")
    mean = np.array([0.3, -0.2, 0.1, 0.7])
    decoder = prune_decoder(folder / "decoder.onnx", kept, mean, tmp_path / "decoder.onnx")
    assert encoder.in_weights
    assert decoder.in_weights
    z = np.tile(mean.astype(np.float32), (3, 1))
    z[:, kept] = np.random.default_rng(1).normal(size=(3, 2))
    with torch.no_grad():
        images = model.decode(torch.from_numpy(z)).permute(0, 2, 3, 1)
    decoded = DecoderSession(tmp_path / "decoder.onnx").decode(z[:, kept])
    np.testing.assert_allclose(decoded, images, atol=1e-5)


def test_the_default_exports_its_gated_mean_and_is_pruned_by_its_weights(tmp_path):
    model = model_of()
    objective = model.objective
    with torch.no_grad():
        objective.steps.fill_(objective.RAMP)
        objective.mean_weight.copy_(torch.tensor([0.999, 0.001, 0.6, 0.001]))
        model.encoder.heads.bias[K:] = torch.tensor([-4.0, 4.0, 0.0, 4.0])
    export_model(model, tmp_path / "encoder.onnx", tmp_path / "decoder.onnx", sample_type="uint8")
    samples = samples_of(5)
    with torch.no_grad():
        mu, raw = model.encoder(model.encoder.images(torch.from_numpy(samples)))
        parts = model(torch.from_numpy(samples))
    session = EncoderSession(tmp_path / "encoder.onnx")
    heads = session.encode(samples)
    np.testing.assert_allclose(heads.mu, torch.sigmoid(-raw) * mu, atol=1e-6)
    posterior = session.family.posterior(heads.mu.astype(float), heads.second.astype(float))
    np.testing.assert_allclose(posterior.variance, parts.posterior_variance, rtol=1e-4)
    # The exported bound charges the index once, with the prior weight of each dimension.
    index = (1 - 1 / objective.INDEX_WEIGHT) * objective.index_rate(raw)
    np.testing.assert_allclose(posterior.rate, (parts.rate - index).detach(), atol=1e-4)
    kept = (0, 2)
    pruned = prune_encoder(tmp_path / "encoder.onnx", kept, tmp_path / "pruned.onnx")
    assert pruned.in_weights
    narrow = EncoderSession(tmp_path / "pruned.onnx")
    found = narrow.encode(samples)
    np.testing.assert_allclose(found.mu, heads.mu[:, kept], atol=1e-6)
    again = narrow.family.posterior(found.mu.astype(float), found.second.astype(float))
    np.testing.assert_allclose(again.rate, posterior.rate[:, kept], atol=1e-4)


def test_folding_the_scale_leaves_the_coordinates():
    model = model_of(model="vae", coordconv=True)
    samples = torch.from_numpy(samples_of(3))
    folded = fold_scale(model.encoder, "uint8")
    assert folded.scale is None
    with torch.no_grad():
        for ours, theirs in zip(
            folded(folded.images(samples)), model.encoder(model.encoder.images(samples)), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert model.encoder.scale == InputScale()


def test_folding_the_latents_copies_the_decoder_and_scales_its_first_matrix():
    model = model_of(model="ard-vae")
    before = model.decoder.latents.weight.clone()
    scale = model.objective.decoder_scale()
    z = torch.randn(3, K)
    with torch.no_grad():
        torch.testing.assert_close(fold_latents(model.decoder, scale)(z), model.decoder(z * scale))
    assert torch.equal(model.decoder.latents.weight, before)
    assert fold_latents(model.decoder, None) is model.decoder
