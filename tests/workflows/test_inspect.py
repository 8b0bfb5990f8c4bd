import dataclasses
import hashlib
import json

import numpy as np
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import SHAPE, Linear, nodes, write

from ngvae_tools.errors import ContractError, OptionError
from ngvae_tools.inference.heads import HeadNames
from ngvae_tools.inference.inputs import InputOptions
from ngvae_tools.workflows.inspect import inspect
from ngvae_tools.workflows.prune import prune


def test_an_own_encoder(tmp_path):
    linear = Linear()
    path = linear.save(tmp_path / "m.onnx")
    found = inspect(path)
    assert found.usable
    assert found.missing == found.notes == ()
    assert (found.role, found.family, found.latent_dim, found.positions) == ("encoder", "normal-gamma", 3, 1)
    assert (found.image_shape, found.layout, found.sample_type) == (SHAPE, "NHWC", "uint8")
    assert (found.scales_inside, found.fixed_batch, found.any_size) == (True, None, False)
    assert found.heads == ("mu", "p")
    assert found.bytes == path.stat().st_size
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.opset == 18
    assert found.operators == (("Add", 2), ("MatMul", 2), ("Cast", 1), ("Flatten", 1))
    # Two matrices of 90 x 3, two biases, and the two constants that the builder adds.
    assert found.parameters == 2 * 90 * 3 + 2 * 3 + 2
    assert found.inputs == ("image tensor(uint8) (N, 6, 5, 3)",)
    assert found.outputs == ("mu tensor(float) (N, 3)", "p tensor(float) (N, 3)")


def test_what_it_says_is_json_without_nan(tmp_path):
    found = inspect(Linear().save(tmp_path / "m.onnx"))
    again = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
    assert again["latent_dim"] == 3
    assert set(again) == {field.name for field in dataclasses.fields(found)}


def test_a_model_from_elsewhere_with_its_assumptions(tmp_path):
    linear = Linear(second="logvar")
    path = linear.save(
        tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("z_mean", "z_log_var")
    )
    found = inspect(path, input_options=InputOptions(low=-1, high=1))
    assert found.usable
    assert (found.family, found.layout, found.input_range) == ("gaussian", "NCHW", (-1, 1))
    text = " ".join(found.notes)
    for part in ("no ngvae_tools metadata", "from -1 to 1", "z_mean is taken for mu", "z_log_var is taken for logvar"):
        assert part in text


def test_everything_that_is_missing_is_said_at_once(tmp_path):
    linear = Linear(shape=(8, 8, 8))
    path = linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32", names=("one", "two"))
    found = inspect(path)
    assert not found.usable
    assert found.role == "unknown"
    assert len(found.missing) == 2
    assert "--layout" in found.missing[0]
    assert "--mu" in found.missing[1]
    mended = inspect(path, heads=HeadNames("one", "two"), input_options=InputOptions(layout="NHWC"))
    assert mended.usable
    assert mended.missing == ()


def test_decoders(tmp_path, run):
    found = inspect(run.decoder)
    assert (found.role, found.usable, found.latent_dim) == ("decoder", True, 6)
    assert (found.image_shape, found.layout, found.sample_type) == ((32, 32, 3), "NHWC", "uint8")
    assert (found.output_range, found.input_range, found.fixed_batch, found.heads) == ((0.0, 1.0), None, None, None)
    assert found.missing == found.notes == ()
    assert found.seconds_per_image > 0
    steps = nodes(("Reshape", "image shape", "out"))
    path = write(tmp_path / "d.onnx", steps, ["out"], axes=("N", 192), values={"shape": np.array([0, 3, 8, 8])})
    found = inspect(path)
    assert (found.role, found.usable, found.latent_dim) == ("decoder", True, 192)
    assert (found.image_shape, found.layout, found.family) == ((8, 8, 3), "NCHW", None)
    assert found.notes == ("The decoder has no ngvae_tools metadata: assumed layout NCHW, and images from 0 to 1.",)
    assert inspect(path, input_options=InputOptions(low=-1, high=1)).output_range == (-1, 1)


def test_decoders_that_cannot_be_used(tmp_path):
    linear = LinearDecoder(shape=(3, 5, 3))
    found = inspect(linear.save(tmp_path / "d.onnx", metadata=None))
    assert (found.role, found.usable, found.latent_dim) == ("decoder", False, None)
    assert "channel axis that can be told apart" in found.missing[0]
    found = inspect(linear.save(tmp_path / "d.onnx", metadata=linear.metadata(latent_dim=4).to_json()))
    assert (found.role, found.usable, found.latent_dim) == ("decoder", False, 4)
    assert len(found.missing) == 1


def test_a_pruned_model(tmp_path):
    pruned = prune(Linear(5).save(tmp_path / "m.onnx"), tmp_path / "p", dimensions=(0, 3)).encoder.path
    found = inspect(pruned)
    assert (found.latent_dim, found.kept) == (2, (0, 3))


def test_what_is_assumed_is_said_where_the_heads_are_missing(tmp_path):
    path = Linear().save(tmp_path / "m.onnx", metadata=None, sample_type="float32", names=("one", "two"))
    found = inspect(path)
    assert not found.usable
    assert "--mu" in found.missing[0]
    assert found.notes == ("The encoder has no ngvae_tools metadata: assumed layout NHWC, and input from 0 to 1.",)


def test_where_the_layout_is_missing_the_heads_are_said(tmp_path):
    path = Linear(shape=(8, 8, 8), second="logvar").save(tmp_path / "m.onnx", metadata=None, sample_type="float32")
    assert inspect(path).notes == ("The encoder has no ngvae_tools metadata: assumed a Gaussian posterior.",)


def test_an_option_for_what_the_file_says_itself(tmp_path):
    path = Linear().save(tmp_path / "m.onnx")
    with pytest.raises(
        OptionError, match=r"--input-range cannot be used with .*m\.onnx: .*its own ngvae_tools metadata"
    ):
        inspect(path, input_options=InputOptions(low=-1, high=1))


def test_images_of_any_size_are_tried_with_a_stand_in(tmp_path):
    steps = nodes(("AveragePool", "image", "mu", {"kernel_shape": [8, 8], "strides": [8, 8]}), ("Neg", "mu", "logvar"))
    path = write(tmp_path / "m.onnx", steps, ["mu", "logvar"], axes=("N", 3, "height", "width"))
    found = inspect(path)
    assert (found.usable, found.any_size, found.latent_dim, found.positions) == (True, True, 3, 64)
    assert any("64 x 64 x 3" in note for note in found.notes)
    assert inspect(path, image_shape=(16, 8, 3)).positions == 2


@pytest.mark.parametrize("constant", [-0.5, 1.5])
def test_a_p_outside_its_range(tmp_path, constant):
    found = inspect(Linear(constant=constant).save(tmp_path / "m.onnx"))
    assert not found.usable
    assert "p between 0 and 1" in found.missing[0]


def test_a_family_that_the_heads_contradict(tmp_path):
    linear = Linear()
    found = inspect(linear.save(tmp_path / "m.onnx", metadata=linear.metadata(family="gaussian").to_json()))
    assert not found.usable
    assert found.missing == (
        "Expected a head logvar, found a head p with metadata of family gaussian; export the model again.",
    )


def test_metadata_that_cannot_be_read(tmp_path):
    found = inspect(Linear().save(tmp_path / "m.onnx", metadata="{"))
    assert (found.usable, found.metadata) == (False, ("ngvae_tools",))
    assert "JSON" in found.missing[0]


def test_a_graph_that_samples(tmp_path):
    steps = nodes(("Flatten", "image", "f"), ("RandomNormalLike", "f", "mu"), ("Neg", "f", "logvar"))
    found = inspect(write(tmp_path / "m.onnx", steps, ["mu", "logvar"]))
    assert not found.usable
    assert "export mu and logvar themselves" in found.missing[0]
    assert found.heads == ("mu", "logvar")


def test_no_onnx(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ContractError, match="an ONNX file"):
        inspect(path)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # inside torch's exporter
def test_an_encoder_from_torch(tmp_path):
    """A small convolutional encoder through torch's own export, and its values."""
    torch = pytest.importorskip("torch")
    from torch import nn

    from ngvae_tools.inference.session import EncoderSession

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Flatten())
            self.mean, self.log_var = nn.Linear(128, 4), nn.Linear(128, 4)

        def forward(self, x):
            hidden = self.body(x)
            return self.mean(hidden), self.log_var(hidden)

    torch.manual_seed(0)
    module = Encoder().eval()
    path = tmp_path / "torch.onnx"
    torch.onnx.export(
        module,
        (torch.zeros(2, 3, 8, 8),),
        path,
        dynamo=True,
        external_data=True,
        input_names=["x"],
        output_names=["mean", "log_var"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    found = inspect(path)
    assert found.usable, found.missing
    assert (found.latent_dim, found.layout, found.family) == (4, "NCHW", "gaussian")
    assert found.parameters >= sum(p.numel() for p in module.parameters())
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    heads = EncoderSession(path).encode(images)
    with torch.no_grad():
        expected = module(torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2))
    for ours, theirs in zip((heads.mu, heads.second), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
