import numpy as np
import onnxruntime
import pytest
from inference.decoders import LinearDecoder, save
from inference.graphs import Linear
from onnx import helper

from ngvae_tools.errors import ContractError, DeviceError
from ngvae_tools.files import sha256_of
from ngvae_tools.inference.decoder import BATCH, DecoderSession, OutputOptions

SAMPLE = "sample_data/decoder.onnx"


@pytest.fixture
def linear():
    return LinearDecoder()


def latents(n, latent_dim=3):
    return np.random.default_rng(0).normal(size=(n, latent_dim)).astype(np.float32)


def refused(path, *words, **options):
    with pytest.raises(ContractError) as caught:
        DecoderSession(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path} cannot be used as a decoder: expected ")
    for word in words:
        assert word in text
    return text


def test_a_decoder_of_the_contract(tmp_path, linear):
    path = linear.save(tmp_path / "d.onnx")
    session = DecoderSession(path, device="cpu", threads=1)
    assert (session.latent_dim, session.image_shape, session.provider) == (3, (6, 5, 3), "CPUExecutionProvider")
    assert session.sha256 == sha256_of(path)
    assert session.metadata == linear.metadata()
    z = latents(2 * BATCH + 7)
    images = session.decode(z)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, linear(z), atol=1e-6)
    np.testing.assert_array_equal(images, session.decode(z.astype(np.float64)))
    assert session.decode(z[:0]).shape == (0, 6, 5, 3)


def test_the_sample_decoder_is_what_onnxruntime_computes(pytestconfig):
    path = pytestconfig.rootpath / SAMPLE
    session = DecoderSession(path)
    z = latents(5, 15)
    reference = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.decode(z), reference.run(None, {"z": z})[0], atol=1e-6)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_decoders_from_elsewhere(tmp_path, linear, layout, low, high):
    path = linear.save(tmp_path / "d.onnx", metadata=None, layout=layout, gain=high - low, offset=low)
    session = DecoderSession(path, output_options=OutputOptions(low=low, high=high))
    assert session.metadata is None
    z = latents(9)
    np.testing.assert_allclose(session.decode(z), linear(z), atol=1e-6)


def test_the_layout_is_a_choice_where_the_shape_does_not_tell(tmp_path):
    linear = LinearDecoder(shape=(3, 5, 3))
    path = linear.save(tmp_path / "d.onnx", metadata=None)
    refused(path, "channel axis")
    session = DecoderSession(path, output_options=OutputOptions(layout="NHWC"))
    np.testing.assert_allclose(session.decode(latents(4)), linear(latents(4)), atol=1e-6)
    assert DecoderSession(path, output_options=OutputOptions(layout="NCHW")).image_shape == (5, 3, 3)


def test_spatial_latents_are_flattened_channels_first(tmp_path):
    linear = LinearDecoder(lengths=(1.0,) * 12)
    path = linear.save(tmp_path / "d.onnx", metadata=None, axes=[2, 2, 3])
    session = DecoderSession(path)
    assert session.latent_dim == 12
    np.testing.assert_allclose(session.decode(latents(4, 12)), linear(latents(4, 12)), atol=1e-6)


def test_an_encoder_is_no_decoder(tmp_path):
    refused(Linear().save(tmp_path / "e.onnx"), "expected a decoder, found an encoder; name the decoder file.")
    refused(Linear().save(tmp_path / "f.onnx", metadata=None), "latents (N, K)", "image (N, 6, 5, 3) to mu")


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "d.onnx").write_bytes(b"nothing")
    refused(tmp_path / "d.onnx", "an ONNX file", "7 bytes")
    (tmp_path / "d.onnx").write_bytes(b"")
    refused(tmp_path / "d.onnx", "an ONNX file", "found an empty file")
    refused(tmp_path / "missing.onnx", "No such file")


def test_metadata_that_contradict_the_graph(tmp_path, linear):
    text = linear.metadata(latent_dim=4).to_json()
    refused(linear.save(tmp_path / "k.onnx", metadata=text), "4 latent dimensions, as its metadata say", "z (N, 3)")
    text = linear.metadata(image_shape=(6, 4, 3)).to_json()
    refused(linear.save(tmp_path / "s.onnx", metadata=text), "images of shape (6, 4, 3)", "shape (6, 5, 3)")


def test_latents_of_another_size(tmp_path, linear):
    session = DecoderSession(linear.save(tmp_path / "d.onnx"))
    with pytest.raises(ContractError, match=r"latents of shape \(n, 3\), found shape \(2, 4\)"):
        session.decode(latents(2, 4))


def test_images_that_are_not_finite(tmp_path, linear):
    always = [helper.make_node("Log", ["minus"], ["nan"]), helper.make_node("Add", ["whole", "nan"], ["image"])]
    minus = helper.make_node("Neg", ["whole"], ["minus0"])
    absolute = helper.make_node("Abs", ["minus0"], ["minus1"])
    negative = helper.make_node("Neg", ["minus1"], ["minus"])
    path = linear.save(tmp_path / "always.onnx", extra=(minus, absolute, negative, *always))
    refused(path, "finite images")
    # The square root of 4 - z_0^2 or less is not real for a large z only.
    values = {"W": np.ones((3, 90)), "four": 100.0, "shape": np.array([0, 6, 5, 3])}
    nodes = [
        helper.make_node("MatMul", ["z", "W"], ["sum"]),
        helper.make_node("Sub", ["four", "sum"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Reshape", ["root", "shape"], ["image"]),
    ]
    ports = {"inputs": {"z": ["N", 3]}, "outputs": {"image": ["N", 6, 5, 3]}}
    session = DecoderSession(save(tmp_path / "sometimes.onnx", nodes, values, **ports))
    assert np.isfinite(session.decode(latents(4))).all()
    with pytest.raises(ContractError, match="finite images, found values that are NaN"):
        session.decode(np.full((1, 3), 1000.0))


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"z": ["N", "K"]}, {"image": ["N", 6, 5, 3]}, "no dynamic axis but the batch"),
        ({"z": [2**28, 3]}, {"image": [2**28, 6, 5, 3]}, "values at once"),
        ({"z": ["N", 3]}, {"values": ["N", 90]}, "one float32 output of images"),
        ({"z": ["N", 3], "y": ["N", 3]}, {"image": ["N", 6, 5, 3]}, "one float32 input"),
        ({"z": ["N", 3]}, {"image": ["N", 6, 5, 3], "values": ["N", 90]}, "one float32 output"),
    ],
)
def test_graphs_that_are_no_simple_decoder(tmp_path, linear, inputs, outputs, words):
    values = {"W": linear.weight, "b": linear.bias, "shape": np.array([-1, 6, 5, 3])}
    nodes = [
        helper.make_node("Gemm", ["z", "W", "b"], ["values"]),
        helper.make_node("Reshape", ["values", "shape"], ["image"]),
    ]
    refused(save(tmp_path / "d.onnx", nodes, values, inputs=inputs, outputs=outputs), words)


def test_a_decoder_whose_images_do_not_follow_its_latents(tmp_path, linear):
    values = {"W": linear.weight, "b": linear.bias, "shape": np.array([1, -1, 5, 3])}
    nodes = [
        helper.make_node("Gemm", ["z", "W", "b"], ["values"]),
        helper.make_node("Reshape", ["values", "shape"], ["image"]),
    ]
    path = save(tmp_path / "d.onnx", nodes, values, inputs={"z": ["N", 3]}, outputs={"image": ["one", "rows", 5, 3]})
    refused(path, "one image of height, width and channels for each latent")


@pytest.mark.parametrize("count", [0, 1, 4, 9])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_fed_in_pieces(tmp_path, linear, batch, count):
    values = {"W": linear.weight, "b": linear.bias, "shape": np.array([batch, 6, 5, 3])}
    nodes = [
        helper.make_node("Gemm", ["z", "W", "b"], ["values"]),
        helper.make_node("Reshape", ["values", "shape"], ["image"]),
    ]
    ports = {"inputs": {"z": [batch, 3]}, "outputs": {"image": [batch, 6, 5, 3]}}
    session = DecoderSession(save(tmp_path / "d.onnx", nodes, values, **ports))
    assert (session.fixed_batch, session.image_shape) == (batch, (6, 5, 3))
    assert session.notes == (
        [] if batch == 1 else ["The decoder takes exactly 4 latents at once; the last run is filled up."]
    )
    np.testing.assert_allclose(session.decode(latents(count)), linear(latents(count)), atol=1e-6)


def test_a_batch_of_one_that_the_graph_does_not_admit(tmp_path, linear):
    values = {"W": linear.weight, "b": linear.bias, "shape": np.array([1, 6, 5, 3])}
    nodes = [
        helper.make_node("Gemm", ["z", "W", "b"], ["values"]),
        helper.make_node("Reshape", ["values", "shape"], ["image"]),
    ]
    ports = {"inputs": {"z": ["N", 3]}, "outputs": {"image": ["N", 6, 5, 3]}}
    session = DecoderSession(save(tmp_path / "d.onnx", nodes, values, **ports))
    assert session.fixed_batch == 1
    assert "only one at once" in session.notes[0]
    np.testing.assert_allclose(session.decode(latents(5)), linear(latents(5)), atol=1e-6)


@pytest.mark.parametrize("batch", ["N", 4])
def test_images_that_depend_on_the_others_of_their_batch(tmp_path, linear, batch):
    values = {"W": linear.weight, "b": linear.bias, "shape": np.array([-1, 6, 5, 3]), "axes": np.array([0])}
    nodes = [
        helper.make_node("ReduceMean", ["z", "axes"], ["mean"]),
        helper.make_node("Sub", ["z", "mean"], ["centred"]),
        helper.make_node("Gemm", ["centred", "W", "b"], ["values"]),
        helper.make_node("Reshape", ["values", "shape"], ["image"]),
    ]
    ports = {"inputs": {"z": [batch, 3]}, "outputs": {"image": [batch, 6, 5, 3]}}
    refused(save(tmp_path / "d.onnx", nodes, values, **ports), "depends on the rest of its batch", "module.eval()")


def test_cuda_is_never_replaced_by_the_cpu(tmp_path, linear):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime offers CUDA")
    with pytest.raises(DeviceError):
        DecoderSession(linear.save(tmp_path / "d.onnx"), device="cuda")
