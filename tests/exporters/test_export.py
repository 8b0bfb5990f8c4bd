import socket
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from exporters import export_sample_decoder, export_sample_encoder
from exporters.check import TOLERANCE
from exporters.networks import export_model, fold_scale
from ngvae_tools.contract import InputScale, ModelMetadata
from ngvae_tools.errors import ExportError
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.model import VariationalAutoencoder

SHAPE = (16, 16, 3)
BATCHES = (1, 2, 7, 33)
SCALES = {"uint8": InputScale(), "uint16": InputScale(100.0, 40_000.0), "float32": InputScale(-1.5, 2.5)}


def model_for(sample_type, **options):
    return VariationalAutoencoder(TrainingConfig(latent_dim=4, **options), SHAPE, SCALES[sample_type])


def samples_of(sample_type, count, seed=0):
    rng = np.random.default_rng(seed)
    if sample_type == "float32":
        return rng.normal(size=(count, *SHAPE)).astype(np.float32)
    return rng.integers(0, np.iinfo(sample_type).max, (count, *SHAPE), endpoint=True).astype(sample_type)


def expected_heads(model, samples):
    # The formula of InputScale, written out once more.
    scale = model.scale
    images = ((samples.astype(np.float64) - scale.low) / (scale.high - scale.low)).clip(0, 1)
    with torch.no_grad():
        mu, raw = model.encoder(torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2)))
        return mu.numpy(), model.objective.link(raw).numpy()


@pytest.fixture(
    scope="module", params=["uint8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uint16", "float32"))]
)
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = model_for(request.param)
    reports = export_model(
        model,
        folder / "encoder.onnx",
        folder / "decoder.onnx",
        sample_type=request.param,
        resize="crop",
        data_fingerprint="f" * 64,
    )
    return model, request.param, folder, reports


class TestModel:
    def test_one_file_each_and_a_difference_within_bounds(self, exported):
        _, _, folder, reports = exported
        assert sorted(path.name for path in folder.iterdir()) == ["decoder.onnx", "encoder.onnx"]
        for report in reports:
            assert 0 <= report.max_abs_difference <= TOLERANCE == 1e-4
            assert report.bytes == report.path.stat().st_size

    def test_the_encoder_is_the_network_at_any_batch(self, exported):
        model, sample_type, folder, _ = exported
        session = EncoderSession(folder / "encoder.onnx")
        for batch in BATCHES:
            samples = samples_of(sample_type, batch)
            heads = session.encode(samples)
            for ours, theirs in zip((heads.mu, heads.second), expected_heads(model, samples), strict=True):
                assert ours.shape == (batch, 4)
                np.testing.assert_allclose(ours, theirs, atol=2e-5)

    def test_the_decoder_is_the_network_at_any_batch(self, exported):
        model, _, folder, _ = exported
        session = onnxruntime.InferenceSession(folder / "decoder.onnx")
        for batch in BATCHES:
            z = np.random.default_rng(batch).standard_normal((batch, 4)).astype(np.float32)
            (images,) = session.run(["image"], {"z": z})
            with torch.no_grad():
                expected = model.decoder(torch.from_numpy(z)).permute(0, 2, 3, 1).numpy()
            assert images.shape == (batch, *SHAPE)
            np.testing.assert_allclose(images, expected, atol=1e-5)

    def test_metadata_read_back(self, exported):
        model, sample_type, folder, _ = exported
        for role in ("encoder", "decoder"):
            session = onnxruntime.InferenceSession(folder / f"{role}.onnx")
            found = ModelMetadata.from_json(session.get_modelmeta().custom_metadata_map["ngvae_tools"])
            assert (found.role, found.family, found.latent_dim) == (role, "normal-gamma-mixture", 4)
            assert (found.image_shape, found.sample_type, found.layout) == (SHAPE, sample_type, "NHWC")
            assert (found.scale, found.resize, found.data_fingerprint) == (SCALES[sample_type], "crop", "f" * 64)
            assert found.hyperparameters == model.objective.hyperparameters()
            assert {"ngvae-tools", "torch", "onnx", "onnxruntime"} <= set(found.versions)

    def test_nothing_of_this_machine_is_inside(self, exported):
        _, _, folder, _ = exported
        for path in folder.iterdir():
            data = path.read_bytes()
            traces = [str(Path.home()), str(Path.cwd()), "site-packages", ".py", socket.gethostname(), str(folder)]
            for trace in traces:
                if len(trace) < 5:  # the weights hold any short word
                    continue
                assert trace.encode() not in data, trace
            model = onnx.load(path)
            assert model.doc_string == model.graph.doc_string == ""
            assert all(node.doc_string == "" and not node.metadata_props for node in model.graph.node)
            assert [prop.key for prop in model.metadata_props] == ["ngvae_tools"]

    def test_equal_weights_give_equal_bytes(self, exported, tmp_path):
        _, sample_type, folder, _ = exported
        export_model(
            model_for(sample_type),
            tmp_path / "encoder.onnx",
            tmp_path / "decoder.onnx",
            sample_type=sample_type,
            resize="crop",
            data_fingerprint="f" * 64,
        )
        for name in ("encoder.onnx", "decoder.onnx"):
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()

    def test_only_the_batch_is_dynamic(self, exported):
        _, _, folder, _ = exported
        graph = onnx.load(folder / "encoder.onnx").graph
        axes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input]
        assert [axis[1:] for axis in axes] == [list(SHAPE)]
        assert isinstance(axes[0][0], str)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "second"), [({"model": "vae"}, "logvar"), ({"objective": "paper"}, "p")])
def test_other_families(tmp_path, options, second):
    model = model_for("uint8", **options)
    export_model(model, tmp_path / "e.onnx", tmp_path / "d.onnx", sample_type="uint8")
    session = EncoderSession(tmp_path / "e.onnx")
    assert session.second_head == second
    samples = samples_of("uint8", 3)
    np.testing.assert_allclose(session.encode(samples).second, expected_heads(model, samples)[1], atol=2e-5)


def test_folding_the_scale_changes_no_head():
    model = model_for("uint8")
    samples = torch.from_numpy(samples_of("uint8", 9))
    folded = fold_scale(model.encoder, "uint8")
    assert folded.scale is None
    assert model.encoder.scale == InputScale()
    with torch.no_grad():
        for ours, theirs in zip(
            folded(folded.images(samples)), model.encoder(model.encoder.images(samples)), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    other = model_for("float32").encoder
    assert fold_scale(other, "float32") is other
    # The same ends by chance: only bytes cannot leave them.
    assert fold_scale(model.encoder, "uint16") is model.encoder


class Plain(nn.Module):
    """Somebody's own encoder."""

    def __init__(self, latent_dim=2, noise=0.0, value=0.0):
        super().__init__()
        self.linear = nn.Linear(int(np.prod(SHAPE)), 2 * latent_dim)
        self.noise, self.value = noise, value

    def forward(self, samples):
        mu, logvar = self.linear(samples.float().flatten(1) / 255).chunk(2, dim=1)
        if self.noise:
            mu = mu + self.noise * torch.randn_like(mu)
        return mu + self.value, logvar


METADATA = ModelMetadata(role="encoder", family="gaussian", latent_dim=2, image_shape=SHAPE)


class TestPlainModules:
    def test_three_lines_export_a_module(self, tmp_path):
        module = Plain()
        metadata = ModelMetadata(role="encoder", family="gaussian", latent_dim=2, image_shape=SHAPE)
        report = export_sample_encoder(module, tmp_path / "encoder.onnx", metadata)
        assert report.max_abs_difference <= TOLERANCE
        session = EncoderSession(report.path)
        assert session.sha256 == report.sha256
        samples = samples_of("uint8", 5)
        with torch.no_grad():
            expected = module(torch.from_numpy(samples))
        heads = session.encode(samples)
        np.testing.assert_allclose(heads.mu, expected[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(heads.second, expected[1].numpy(), atol=1e-5)

    @pytest.mark.parametrize("noise", [1.0, 1e-6])
    def test_an_encoder_that_samples_is_refused(self, tmp_path, noise):
        with pytest.raises(ExportError, match=r"same outputs|largest absolute difference"):
            export_sample_encoder(Plain(noise=noise), tmp_path / "e.onnx", METADATA)
        assert list(tmp_path.iterdir()) == []

    def test_heads_of_another_size_are_refused(self, tmp_path):
        with pytest.raises(ExportError, match=r"shape \(1, 2\).*shape \(1, 3\)"):
            export_sample_encoder(Plain(3), tmp_path / "e.onnx", METADATA)
        assert list(tmp_path.iterdir()) == []

    def test_images_of_another_shape_are_refused(self, tmp_path):
        metadata = ModelMetadata(role="decoder", family="gaussian", latent_dim=2, image_shape=SHAPE)
        with pytest.raises(ExportError, match="shape"):
            export_sample_decoder(nn.Linear(2, 5), tmp_path / "d.onnx", metadata)
        assert list(tmp_path.iterdir()) == []

    def test_values_that_are_not_finite_are_refused(self, tmp_path):
        with pytest.raises(ExportError, match="nan or infinite"):
            export_sample_encoder(Plain(value=float("nan")), tmp_path / "e.onnx", METADATA)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_disagrees_with_its_reference_is_refused(self, tmp_path):
        with pytest.raises(ExportError, match=r"0\.0001, found"):
            export_sample_encoder(Plain(), tmp_path / "e.onnx", METADATA, reference=Plain(value=0.01))
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_export_keeps_the_old_file(self, tmp_path):
        (tmp_path / "e.onnx").write_bytes(b"old")
        with pytest.raises(ExportError):
            export_sample_encoder(Plain(3), tmp_path / "e.onnx", METADATA)
        assert (tmp_path / "e.onnx").read_bytes() == b"old"
