import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import exporters
from exporters import export_decoder, export_encoder
from exporters.check import TOLERANCE
from ngvae_tools.contract import InputScale, ModelMetadata
from ngvae_tools.errors import ExportError, MissingDependencyError, OptionError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.session import EncoderSession

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Convolutional(nn.Module):
    """Somebody's own encoder, with all that training mode changes; images of 12 x 16 x 3."""

    def __init__(self, latent_dim=4, form=None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.heads = nn.Linear(8 * 6 * 8, 2 * latent_dim)
        # Statistics that are far from those of any batch.
        self.body[1].running_mean += torch.randn(8)
        self.body[1].running_var += torch.rand(8)
        self.form = form or (lambda mu, second: (mu, second))

    def forward(self, images):
        return self.form(*self.heads(self.body(images)).chunk(2, dim=1))


def samples(count, seed=0, shape=(12, 16, 3)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def images_of(samples, low=0.0, high=1.0):
    """Images for bytes, written out once more in float64."""
    unit = samples.astype(np.float64).transpose(0, 3, 1, 2) / 255
    return torch.from_numpy((low + (high - low) * unit).astype(np.float32))


def assert_heads(path, batch, expected, atol=2e-5):
    session = EncoderSession(path)
    heads = session.encode(batch)
    for ours, theirs in zip((heads.mu, heads.second), expected, strict=True):
        if theirs is None:
            assert ours is None
        else:
            np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=atol)
    return session


def expected_of(module, images):
    """What the module returns in evaluation mode; it stays in the mode that it is in."""
    training = {part: part.training for part in module.modules()}
    with torch.no_grad():
        result = module.eval()(images)
    for part, mode in training.items():
        part.training = mode
    return result


class TestEncoder:
    def test_three_lines_export_a_network_in_training(self, tmp_path):
        module = Convolutional().train()
        module.body[1].eval()  # a part that its owner froze
        modes = [part.training for part in module.modules()]
        state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        report = export_encoder(module, torch.rand(1, 3, 12, 16), tmp_path / "encoder.onnx")
        assert [part.training for part in module.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert report.max_abs_difference <= TOLERANCE
        assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]
        batch = samples(5)
        session = assert_heads(report.path, batch, expected_of(module, images_of(batch)))
        assert session.metadata == report.metadata
        found = report.metadata
        assert (found.role, found.family, found.latent_dim) == ("encoder", "gaussian", 4)
        assert (found.image_shape, found.sample_type, found.scale) == ((12, 16, 3), "uint8", InputScale())
        assert session.notes == []

    # torch.compile loads modules of torch that torch itself has deprecated; its own compiler takes half a minute.
    @pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
    @pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
    def test_p_in_a_dict_of_a_compiled_network_and_another_range(self, tmp_path, backend):
        module = Convolutional(form=lambda mu, raw: {"p": raw.sigmoid(), "mu": mu})
        example = torch.rand(2, 3, 12, 16) * 2 - 1
        report = export_encoder(
            torch.compile(module, backend=backend),
            example,
            tmp_path / "e.onnx",
            family="normal-gamma-mixture",
            hyperparameters={"informative_beta": (0.5, 1.0, 1.5, 2.0)},
            input_range=(-1, 1),
            resize="crop",
        )
        batch = samples(3)
        expected = expected_of(module, images_of(batch, -1, 1))
        session = assert_heads(report.path, batch, (expected["mu"], expected["p"]))
        assert session.metadata.hyperparameters == {"informative_beta": (0.5, 1.0, 1.5, 2.0)}
        assert (session.second_head, session.metadata.resize) == ("p", "crop")

    def test_mu_alone_by_a_method_of_a_normalised_network_in_half_precision(self, tmp_path):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = Convolutional(form=lambda mu, _: mu)

            def encode(self, images):
                return self.encoder(images)

            def forward(self, images):
                raise NotImplementedError

        model = Model().half()
        reference = Model().eval()
        reference.load_state_dict(model.state_dict())
        example = ((torch.rand(2, 3, 12, 16) - torch.tensor(MEAN).reshape(3, 1, 1)) / 0.25).half()
        report = export_encoder(
            model, example, tmp_path / "e.onnx", method="encode", mean=MEAN, std=0.25, sample_type="float32"
        )
        assert next(model.parameters()).dtype == torch.float16
        batch = samples(3)
        normal = (images_of(batch) - torch.tensor(MEAN).reshape(3, 1, 1)) / 0.25
        session = assert_heads(report.path, batch.astype(np.float32) / 255, (reference.encode(normal), None), atol=5e-5)
        assert (session.second_head, session.metadata.family) == (None, "deterministic")
        assert session.metadata.scale == InputScale(0.0, 1.0)

    @pytest.mark.parametrize("dimensions", ["channel", pytest.param("channel-position", marks=pytest.mark.slow)])
    def test_spatial_latents(self, tmp_path, dimensions):
        torch.manual_seed(0)
        module = nn.Conv2d(3, 2, 4, stride=4)
        report = export_encoder(module, torch.rand(1, 3, 12, 16), tmp_path / "e.onnx", dimensions=dimensions)
        batch = samples(4)
        with torch.no_grad():
            mu = module(images_of(batch))
        assert mu.shape == (4, 2, 3, 4)
        by_channel = dimensions == "channel"
        rows = mu.permute(0, 2, 3, 1).reshape(-1, 2) if by_channel else mu.flatten(1)
        session = assert_heads(report.path, batch, (rows, None))
        assert (session.latent_dim, session.positions) == ((2, 12) if by_channel else (24, 1))

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"example": torch.rand(3, 12, 16)}, OptionError, r"float images of shape \(B, C, H, W\)"),
            ({"example": torch.zeros(1, 3, 12, 16, dtype=torch.uint8)}, OptionError, "export_sample_encoder"),
            ({"example": torch.full((1, 3, 12, 16), torch.nan)}, OptionError, "not finite"),
            ({"example": "image.png"}, OptionError, "found a str"),
            ({"example": torch.rand(1, 3, 12, 16) * 255}, ExportError, "input_range="),
            ({"example": torch.rand(1, 1, 12, 16)}, ExportError, "does not run on the example.*expected input"),
            ({"method": "encode"}, OptionError, "no method encode"),
            ({"sample_type": "int16"}, OptionError, "int16"),
            ({"dimensions": "position"}, OptionError, "channel or channel-position"),
            ({"family": "normal-gamma", "form": lambda mu, raw: (mu, raw)}, ExportError, "p between 0 and 1"),
            ({"form": lambda mu, raw: (mu, raw[:, :2])}, ExportError, "heads of one shape"),
            pytest.param(
                {"form": lambda mu, raw: (mu + torch.randn_like(mu), raw)},
                ExportError,
                "run to run",
                marks=pytest.mark.slow,
            ),
            ({"form": lambda mu, raw: (mu - mu.mean(0), raw)}, ExportError, "other rows"),
            ({"form": lambda mu, raw: (mu if mu.sum() > 0 else -mu, raw)}, ExportError, "torch cannot write"),
        ],
    )
    def test_what_cannot_be_exported_is_said_in_a_sentence(self, tmp_path, options, error, words):
        options = dict(options)
        module = Convolutional(form=options.pop("form", None))
        example = options.pop("example", torch.rand(1, 3, 12, 16))
        with pytest.raises(error, match=words) as caught:
            export_encoder(module, example, tmp_path / "e.onnx", **options)
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        assert module.training

    def test_a_network_that_cannot_be_brought_to_the_cpu_is_refused(self, tmp_path):
        module = Convolutional().to("meta")
        with pytest.raises(ExportError, match=r'cannot be copied to the CPU.*module\.to\("cpu"'):
            export_encoder(module, torch.rand(1, 3, 12, 16), tmp_path / "e.onnx")

    def test_without_onnxscript_one_sentence_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MissingDependencyError, match=r"ngvae-tools\[cpu,train\]"):
            export_encoder(Convolutional(), torch.rand(1, 3, 12, 16), tmp_path / "e.onnx")


class TestDecoder:
    def test_images_come_back_on_the_scale_from_0_to_1(self, tmp_path):
        class Decoder(nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.linear = nn.Linear(5, 3 * 4 * 6)

            def forward(self, z):
                images = self.linear(z).tanh().reshape(-1, 3, 4, 6)
                return {"z": z, "reconstruction": images}

        module = Decoder()
        report = export_decoder(module, torch.zeros(1, 5), tmp_path / "d.onnx", output_range=(-1, 1))
        z = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
        with torch.no_grad():
            images = module(torch.from_numpy(z))["reconstruction"].numpy()
        session = DecoderSession(report.path)
        np.testing.assert_allclose(session.decode(z), (images.transpose(0, 2, 3, 1) + 1) / 2, atol=1e-5)
        assert (report.metadata.image_shape, report.metadata.latent_dim) == ((4, 6, 3), 5)

    def test_a_spatial_one(self, tmp_path):
        torch.manual_seed(0)
        module = nn.ConvTranspose2d(5, 1, 2, stride=2)
        report = export_decoder(module, torch.zeros(1, 5, 3, 2), tmp_path / "d.onnx")
        z = np.random.default_rng(0).standard_normal((4, 5, 3, 2)).astype(np.float32)
        with torch.no_grad():
            images = module(torch.from_numpy(z)).numpy()
        assert (report.metadata.latent_dim, report.metadata.image_shape) == (5, (6, 4, 1))
        found = DecoderSession(report.path).decode(z.reshape(4, 30))
        np.testing.assert_allclose(found, images.transpose(0, 2, 3, 1), atol=1e-5)

    @pytest.mark.parametrize(
        ("form", "words"),
        [
            (lambda flat: flat, r"images of shape \(1, C, H, W\), found shape \(1, 12\)"),
            (lambda flat: {"one": flat, "two": flat}, "one output named reconstruction"),
            (lambda flat: "image", "found a str"),
            (lambda flat: flat.reshape(7, 7), "does not run"),
        ],
    )
    def test_what_returns_no_images_is_refused(self, tmp_path, form, words):
        class Decoder(nn.Module):
            def forward(self, z):
                return form(z.repeat(1, 6))

        with pytest.raises(ExportError, match=words):
            export_decoder(Decoder(), torch.zeros(1, 2), tmp_path / "d.onnx")
        assert list(tmp_path.iterdir()) == []


class Weights:
    """Things that hold weights and are no module."""

    state = staticmethod(lambda folder: Convolutional().state_dict())
    checkpoint = staticmethod(lambda folder: {"model": Convolutional().state_dict(), "epoch": 3})
    path = staticmethod(lambda folder: str(folder / "model.pt"))
    module_class = staticmethod(lambda folder: Convolutional)
    nothing = staticmethod(lambda folder: None)


@pytest.mark.parametrize(
    "make", [Weights.state, Weights.checkpoint, Weights.path, Weights.module_class, Weights.nothing]
)
@pytest.mark.parametrize(
    "export",
    [
        lambda thing, path: export_encoder(thing, torch.rand(1, 3, 12, 16), path),
        lambda thing, path: export_decoder(thing, torch.rand(1, 4), path),
        lambda thing, path: exporters.export_sample_encoder(
            thing, path, ModelMetadata("encoder", "gaussian", 4, (12, 16, 3))
        ),
        exporters.export_pythae,
        exporters.export_diffusers,
    ],
)
def test_what_is_no_module_is_refused_with_the_way_to_one(tmp_path, export, make):
    with pytest.raises(OptionError, match=r"expected a torch\.nn\.Module with its weights .* module\.load_state_dict"):
        export(make(tmp_path), tmp_path / "e.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_package_loads_what_it_is_asked_for():
    code = "import sys, exporters; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
    assert all(callable(getattr(exporters, name)) for name in exporters.__all__)
    with pytest.raises(AttributeError, match="no attribute 'export_nothing'"):
        exporters.export_nothing  # noqa: B018 - looking it up is what fails
