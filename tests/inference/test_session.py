import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from inference.graphs import SHAPE, Linear, images_of
from onnx import TensorProto, helper

from ngvae_tools.contract import METADATA_KEY
from ngvae_tools.errors import ContractError, DeviceError, OptionError
from ngvae_tools.inference.providers import CPU, CUDA, plugin_devices, require_onnxruntime
from ngvae_tools.inference.running import BoundSession
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions


def heads_of(session, images):
    heads = session.encode(images)
    assert heads.mu.dtype == heads.second.dtype == np.float32
    return heads.mu, heads.second


def assert_exact(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def linear():
    return Linear()


class TestContractFiles:
    @pytest.mark.parametrize("second", ["p", "logvar"])
    def test_reads_metadata_and_returns_the_heads(self, tmp_path, second):
        linear = Linear(second=second)
        session = EncoderSession(linear.save(tmp_path / "encoder.onnx"))
        assert session.metadata == linear.metadata()
        assert session.latent_dim == 3
        assert session.second_head == second
        assert session.provider == "CPUExecutionProvider"
        assert session.notes == []
        images = images_of(5)
        assert_exact(heads_of(session, images), linear.heads(images))

    @pytest.mark.parametrize("sample_type", ["uint16", "float32"])
    def test_samples_of_other_types_go_in_as_they_are(self, tmp_path, linear, sample_type):
        session = EncoderSession(linear.save(tmp_path / "encoder.onnx", sample_type=sample_type))
        images = images_of(4).astype(sample_type)
        assert_exact(heads_of(session, images), linear.heads(images))

    def test_a_channels_first_file_with_metadata(self, tmp_path, linear):
        session = EncoderSession(linear.save(tmp_path / "encoder.onnx", layout="NCHW"))
        images = images_of(4)
        assert_exact(heads_of(session, images), linear.heads(images))

    def test_the_hash_is_that_of_the_bytes(self, tmp_path, linear):
        import hashlib

        path = linear.save(tmp_path / "encoder.onnx")
        assert EncoderSession(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class TestForeignModels:
    def test_float_channels_first_with_named_heads(self, tmp_path, linear):
        path = linear.save(
            tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("mean", "gate")
        )
        session = EncoderSession(path, heads=HeadNames("mean", "gate"))
        assert session.metadata.layout == "NCHW"
        assert session.metadata.image_shape == SHAPE
        assert session.metadata.family == "normal-gamma"
        assert "no ngvae_tools metadata" in session.notes[0]
        assert "NCHW" in session.notes[0]
        images = images_of(6)
        found = heads_of(session, images)
        expected = linear.heads(images / 255)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_the_input_range_scales_integers_and_leaves_floats(self, tmp_path, linear, dtype):
        path = linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32")
        session = EncoderSession(path, input_options=InputOptions(low=-1, high=1))
        images = images_of(6).astype(dtype)
        top = {"uint8": 255, "uint16": 65535}.get(dtype)
        fed = images if top is None else images / top * 2 - 1
        np.testing.assert_allclose(heads_of(session, images)[0], linear.heads(fed)[0], atol=1e-6 * max(1, fed.max()))

    @pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
    def test_a_byte_model_without_metadata_scales_inside(self, tmp_path, linear, layout):
        session = EncoderSession(linear.save(tmp_path / "m.onnx", metadata=None, layout=layout))
        images = images_of(6)
        assert_exact(heads_of(session, images), linear.heads(images))
        assert "input from" not in session.notes[0]

    def test_a_gaussian_is_assumed_for_logvar(self, tmp_path):
        session = EncoderSession(Linear(second="logvar").save(tmp_path / "m.onnx", metadata=None))
        assert session.metadata.family == "gaussian"
        assert "Gaussian" in session.notes[0]

    @pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 3)])
    def test_a_layout_that_cannot_be_told_is_asked_for(self, tmp_path, shape):
        linear = Linear(shape=shape)
        path = linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32")
        with pytest.raises(ContractError, match="--layout"):
            EncoderSession(path)
        session = EncoderSession(path, input_options=InputOptions(layout="NHWC"))
        assert session.metadata.image_shape == shape

    @pytest.mark.parametrize("axes", [("N", "H", 5, 3), ("N", 6, "W", 3), ("N", 6, 5, "C")])
    def test_the_size_of_images_comes_from_the_data_where_the_graph_leaves_it_open(self, tmp_path, linear, axes):
        path = linear.save(tmp_path / "m.onnx", metadata=None, axes=axes)
        options = InputOptions(layout="NHWC")
        with pytest.raises(ContractError, match="only the batch dynamic"):
            EncoderSession(path, input_options=options)
        session = EncoderSession(path, input_options=options, image_shape=SHAPE)
        assert session.metadata.image_shape == SHAPE
        assert_exact(heads_of(session, images_of(4)), linear.heads(images_of(4)))

    def test_images_that_do_not_fit_the_weights_are_refused(self, tmp_path, linear):
        path = linear.save(tmp_path / "m.onnx", metadata=None, axes=("N", "H", 5, 3))
        with pytest.raises(ContractError, match="a graph that runs"):
            EncoderSession(path, image_shape=(9, 5, 3))

    @pytest.mark.parametrize("output_shape", [None, ("N", "K")])
    def test_a_number_of_latents_that_is_not_stated_follows_from_the_graph(self, tmp_path, linear, output_shape):
        session = EncoderSession(linear.save(tmp_path / "m.onnx", metadata=None, output_shape=output_shape))
        assert session.latent_dim == 3

    def test_missing_heads_are_listed_with_the_flags(self, tmp_path, linear):
        path = linear.save(tmp_path / "m.onnx", metadata=None, names=("mean", "gate"))
        with pytest.raises(ContractError) as error:
            EncoderSession(path)
        for part in ("mean (N, 3)", "gate (N, 3)", "(mu, p) or (mu, logvar)", "--mu", "--p", "--logvar"):
            assert part in str(error.value)
        with pytest.raises(ContractError, match=r"expected outputs \(mean, none\)"):
            EncoderSession(path, heads=HeadNames("mean", "none"))

    def test_two_second_heads_are_refused(self, tmp_path, linear):
        with pytest.raises(OptionError, match="--p or --logvar"):
            EncoderSession(linear.save(tmp_path / "m.onnx"), heads=HeadNames("mu", "p", "p"))


class TestOptionsForWhatTheFileSays:
    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (InputOptions(low=-1, high=1), "--input-range"),
            (InputOptions(layout="NCHW"), "--layout"),
            (InputOptions("NHWC", 0, 1), "--layout and --input-range"),
        ],
    )
    def test_its_own_metadata_decide(self, tmp_path, linear, options, name):
        with pytest.raises(OptionError, match=f"{name} cannot be used with .*its own ngvae_tools metadata"):
            EncoderSession(linear.save(tmp_path / "m.onnx"), input_options=options)

    def test_samples_that_go_in_as_they_are_have_no_range(self, tmp_path, linear):
        path = linear.save(tmp_path / "m.onnx", metadata=None)
        with pytest.raises(OptionError, match=r"--input-range cannot be used with .*an input of uint8"):
            EncoderSession(path, input_options=InputOptions(low=0, high=1))
        assert EncoderSession(path, input_options=InputOptions(layout="NHWC")).input_range is None


def test_how_a_model_was_read_is_known(tmp_path, linear):
    own = EncoderSession(linear.save(tmp_path / "m.onnx"))
    assert (own.heads, own.input_range) == ({"mu": "mu", "p": "p"}, None)
    path = linear.save(tmp_path / "f.onnx", metadata=None, sample_type="float32", names=("fc21", "fc22"))
    foreign = EncoderSession(path, heads=HeadNames("fc21", logvar="fc22"), input_options=InputOptions(low=-1, high=1))
    assert (foreign.heads, foreign.input_range) == ({"mu": "fc21", "logvar": "fc22"}, (-1, 1))
    assert EncoderSession(path, heads=HeadNames("fc21")).heads == {"mu": "fc21"}


class TestUnfitFiles:
    @pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x07", b"\x89HDF\r\n\x1a\n" + bytes(100)])
    def test_not_onnx(self, tmp_path, content):
        path = tmp_path / "encoder.onnx"
        path.write_bytes(content)
        with pytest.raises(ContractError, match="expected an ONNX file"):
            EncoderSession(path)

    def test_a_directory_and_a_missing_file(self, tmp_path):
        with pytest.raises(ContractError, match="directory"):
            EncoderSession(tmp_path)
        with pytest.raises(ContractError, match="No such file"):
            EncoderSession(tmp_path / "none.onnx")

    def test_a_truncated_file_at_any_length(self, tmp_path, linear):
        whole = linear.save(tmp_path / "whole.onnx").read_bytes()
        path = tmp_path / "part.onnx"
        for share in (1, 7, 13, 19):
            path.write_bytes(whole[: len(whole) * share // 20])
            with pytest.raises(ContractError):
                EncoderSession(path)

    def test_a_decoder(self, tmp_path, linear):
        path = linear.save(tmp_path / "decoder.onnx", metadata=linear.metadata(role="decoder").to_json())
        with pytest.raises(ContractError, match="expected an encoder, found a decoder"):
            EncoderSession(path)

    def test_an_exported_decoder(self, run):
        with pytest.raises(ContractError, match="expected an encoder, found a decoder"):
            EncoderSession(run.decoder)

    @pytest.mark.parametrize("change", [{"schema_version": 2}, {"family": "laplace"}, {"latent_dim": 0}])
    def test_metadata_that_cannot_be_used(self, tmp_path, linear, change):
        text = json.dumps(json.loads(linear.metadata().to_json()) | change)
        with pytest.raises(ContractError, match=str(next(iter(change)))):
            EncoderSession(linear.save(tmp_path / "m.onnx", metadata=text))

    def test_metadata_that_is_no_json(self, tmp_path, linear):
        with pytest.raises(ContractError, match="JSON"):
            EncoderSession(linear.save(tmp_path / "m.onnx", metadata="{"))

    @pytest.mark.parametrize(
        "change", [{"image_shape": (8, 5, 3)}, {"sample_type": "float32"}, {"layout": "NCHW"}, {"family": "gaussian"}]
    )
    def test_metadata_that_contradict_the_graph(self, tmp_path, linear, change):
        metadata = dataclasses.replace(linear.metadata(), **change)
        with pytest.raises(ContractError, match="export"):
            EncoderSession(linear.save(tmp_path / "m.onnx", metadata=metadata.to_json()))

    @pytest.mark.parametrize("place", ["initializer", "constant", "subgraph"])
    def test_weights_in_another_file(self, tmp_path, linear, place):
        (tmp_path / "secret.bin").write_bytes(bytes(12))
        model = onnx.load(linear.save(tmp_path / "m.onnx"))
        tensor = helper.make_tensor("outside", TensorProto.FLOAT, [3], bytes(12), raw=True)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=str(tmp_path / "secret.bin"))
        constant = helper.make_node("Constant", [], ["outside"], value=tensor)
        if place == "initializer":
            model.graph.initializer.append(tensor)
        elif place == "constant":
            model.graph.node.append(constant)
        else:
            output = helper.make_tensor_value_info("outside", TensorProto.FLOAT, [3])
            branch = helper.make_graph([constant], "branch", [], [output])
            choice = helper.make_node("If", ["choice"], ["chosen"], then_branch=branch, else_branch=branch)
            model.graph.initializer.append(helper.make_tensor("choice", TensorProto.BOOL, [], [True]))
            model.graph.node.append(choice)
        path = tmp_path / "external.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ContractError, match="one file"):
            EncoderSession(path)

    @pytest.mark.parametrize("axes", [("N", 90), ("N", 6, 5, 3, 1)])
    def test_an_input_that_is_no_image(self, tmp_path, linear, axes):
        with pytest.raises(ContractError, match="four axes"):
            EncoderSession(linear.save(tmp_path / "m.onnx", metadata=None, axes=axes))

    def test_outputs_of_another_shape(self, tmp_path, linear):
        metadata = linear.metadata(latent_dim=5).to_json()
        with pytest.raises(ContractError, match=r"mu of shape \(1, 5\).*shape \(1, 3\)"):
            EncoderSession(linear.save(tmp_path / "m.onnx", metadata=metadata))


class TestDevices:
    def test_cuda_never_falls_back(self, tmp_path, linear):
        if CUDA in require_onnxruntime().get_available_providers():
            pytest.skip("CUDA is offered here")
        with pytest.raises(DeviceError, match="--device cuda"):
            EncoderSession(linear.save(tmp_path / "m.onnx"), device="cuda")

    @pytest.mark.gpu
    def test_cuda_runs_on_cuda(self, tmp_path, linear):
        session = EncoderSession(linear.save(tmp_path / "m.onnx"), device="cuda")
        assert session.provider == CUDA
        images = images_of(8)
        assert_exact(heads_of(session, images), linear.heads(images))

    @pytest.mark.gpu
    def test_cuda_latents_are_those_of_the_cpu(self, tmp_path):
        rng = np.random.default_rng(0)
        path = Path(__file__).parents[2] / "sample_data/encoder.onnx"
        cuda, cpu = (EncoderSession(path, device=device) for device in ("cuda", "cpu"))
        cuda.pad_batches(64)
        for count in (64, 5, 64, 63):
            images = rng.integers(0, 256, (count, *cuda.metadata.image_shape), dtype=np.uint8)
            one, other = heads_of(cuda, images), heads_of(cpu, images)
            for a, b in zip(one, other, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)

    def test_tensorrt_never_falls_back(self, tmp_path, linear):
        if "TensorrtExecutionProvider" in require_onnxruntime().get_available_providers():
            pytest.skip("TensorRT is offered here")
        with pytest.raises(DeviceError, match="--device tensorrt"):
            EncoderSession(linear.save(tmp_path / "m.onnx"), device="tensorrt")

    def test_providers_that_are_plugins_are_discovered(self, tmp_path, linear, monkeypatch):
        """The CPU's own provider is found as plugins are; here it stands for one of CUDA."""
        onnxruntime = require_onnxruntime()
        (device,) = [found for found in onnxruntime.get_ep_devices() if found.ep_name == CPU]
        assert plugin_devices(CPU) == (device,)
        assert plugin_devices("NoExecutionProvider") == ()
        path = linear.save(tmp_path / "m.onnx")
        monkeypatch.setattr("ngvae_tools.inference.providers.plugin_devices", lambda _: (device,))
        session = EncoderSession(path, device="auto")
        assert session.provider == CPU
        images = images_of(8)
        assert_exact(heads_of(session, images), linear.heads(images))
        with pytest.raises(DeviceError, match="found a session on CPUExecutionProvider"):
            EncoderSession(path, device="cuda")

    def test_bound_buffers_give_the_same(self, tmp_path, linear):
        onnxruntime = require_onnxruntime()
        session = onnxruntime.InferenceSession(linear.save(tmp_path / "m.onnx"), providers=[CPU])
        bound = BoundSession(session, "cpu")
        names = [output.name for output in session.get_outputs()]
        for count, seed in ((8, 0), (3, 1), (8, 2), (8, 3)):
            fed = images_of(count, seed=seed)
            expected = session.run(names, {session.get_inputs()[0].name: fed})
            found = bound.run(names, session.get_inputs()[0].name, fed)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
    def test_padded_batches_give_the_same(self, tmp_path, linear, count):
        session = EncoderSession(linear.save(tmp_path / "m.onnx"), threads=1)
        session.pad_batches(32)
        images = images_of(count)
        assert_exact(heads_of(session, images), linear.heads(images))

    def test_an_unknown_device(self, tmp_path, linear):
        with pytest.raises(OptionError, match="auto or cpu or cuda"):
            EncoderSession(linear.save(tmp_path / "m.onnx"), device="tpu")


def test_the_builder_writes_what_it_says(tmp_path, linear):
    model = onnx.load(linear.save(tmp_path / "m.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {p.key for p in model.metadata_props} == {METADATA_KEY}
