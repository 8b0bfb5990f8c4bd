import dataclasses

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear, images_of
from latent_files import read_latents
from records import analysis, write_analysis

from ngvae_tools import select_latents
from ngvae_tools.errors import ContractError, ExportError, OptionError, OutputError, RecordError
from ngvae_tools.files import sha256_of
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.heads import HeadNames
from ngvae_tools.inference.inputs import InputOptions
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.prune import default_output, prune

SHAPE = (6, 5, 3)
K = 5


@pytest.fixture
def linear():
    return Linear(K, second="logvar")


@pytest.fixture
def encoder(tmp_path, linear):
    return linear.save(tmp_path / "encoder.onnx")


@pytest.fixture
def decoder(tmp_path):
    return LinearDecoder((3.0, 2.0, 1.0, 0.5, 0.25), SHAPE).save(tmp_path / "decoder.onnx")


def selection_for(encoder, folder, informative=3):
    record = analysis(K, informative, family="gaussian")
    model = dataclasses.replace(record.model, sha256=sha256_of(encoder), path=str(encoder))
    return write_analysis(folder, dataclasses.replace(record, model=model))


@pytest.fixture
def selection(encoder, tmp_path):
    return selection_for(encoder, tmp_path / "OUT")


@pytest.fixture(scope="module")
def sample(pytestconfig, tmp_path_factory):
    """The sample model, selected, pruned, and selected again."""
    source, folder = pytestconfig.rootpath / "sample_data", tmp_path_factory.mktemp("sample")
    record = select_latents(source / "encoder.onnx", source / "sprites.h5", folder / "OUT", bootstrap=0)
    result = prune(
        source / "encoder.onnx", folder / "pruned", selection=folder / "OUT", decoder=source / "decoder.onnx"
    )
    again = select_latents(result.encoder.path, source / "sprites.h5", folder / "again", bootstrap=0)
    return source, folder, record, result, again


def test_the_pruned_sample_encoder_gives_the_selected_latents(sample):
    source, folder, record, result, again = sample
    kept = record.selection.indices
    assert result.encoder.dimensions == kept == (2, 3, 4, 5, 7, 9)
    assert result.encoder.in_weights
    assert result.encoder.bytes < result.encoder.bytes_before == (source / "encoder.onnx").stat().st_size
    assert again.selection.indices == tuple(range(6))
    for new, old in enumerate(kept):
        ours, theirs = again.dimensions[new], record.dimensions[old]
        for name in ("mu_mean", "mu_variance", "p_mean", "posterior_variance", "rate", "information"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-5, abs=1e-6), name
    before, after = (read_latents(folder / name / "latents.h5")[0] for name in ("OUT", "again"))
    with h5py.File(folder / "OUT" / "latents.h5") as file:
        step = file["scale"][:]
    # Rounding may put a value into the next step, never further.
    assert (np.abs(after - before) <= 1.001 * step).all()


def test_pruned_heads_equal_those_of_the_whole_encoder(sample, pytestconfig):
    source, _, record, result, _ = sample
    kept = list(record.selection.indices)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    whole, part = (EncoderSession(path).encode(images) for path in (source / "encoder.onnx", result.encoder.path))
    np.testing.assert_allclose(part.mu, whole.mu[:, kept], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(part.second, whole.second[:, kept], rtol=1e-6, atol=1e-6)


def test_the_pruned_sample_decoder_holds_the_others_at_their_mean(sample):
    source, _, record, result, _ = sample
    kept = list(record.selection.indices)
    z = np.tile(np.array([row.mu_mean for row in record.dimensions], np.float32), (20, 1))
    z[:, kept] = np.random.default_rng(0).normal(size=(20, 6))
    session = onnxruntime.InferenceSession(source / "decoder.onnx", providers=["CPUExecutionProvider"])
    images = DecoderSession(result.decoder.path).decode(z[:, kept])
    np.testing.assert_allclose(images, session.run(None, {"z": z})[0], atol=1e-5)
    assert result.decoder.bytes < result.decoder.bytes_before


def test_a_selection_decides(encoder, decoder, selection, tmp_path, linear, listed):
    result = prune(encoder, tmp_path / "out", selection=selection, decoder=decoder)
    record = AnalysisRecord.read(selection)
    kept = list(record.selection.indices)
    assert len(kept) == 3
    assert result.folder == tmp_path / "out"
    assert (result.encoder.path, result.decoder.path) == (tmp_path / "out/encoder.onnx", tmp_path / "out/decoder.onnx")
    assert result.encoder.dimensions == result.decoder.dimensions == tuple(kept)
    assert result.encoder.sha256 == sha256_of(result.encoder.path)
    assert result.data == record.data.path
    assert listed(tmp_path / "out") == ["decoder.onnx", "encoder.onnx"]
    mu = EncoderSession(result.encoder.path).encode(images_of(5)).mu
    np.testing.assert_array_equal(mu, linear.heads(images_of(5))[0][:, kept].astype(np.float32))


def test_the_record_itself_may_be_named(encoder, selection, tmp_path):
    one, other = (
        prune(encoder, tmp_path / n, selection=s) for n, s in (("a", selection), ("b", selection / "selection.json"))
    )
    assert one.encoder.sha256 == other.encoder.sha256


def test_dimensions_that_are_named(encoder, decoder, selection, tmp_path):
    assert prune(encoder, tmp_path / "a", dimensions=[4, 0]).encoder.dimensions == (0, 4)
    result = prune(encoder, tmp_path / "b", dimensions=[4, 0], selection=selection, decoder=decoder)
    assert result.encoder.dimensions == result.decoder.dimensions == (0, 4)
    with pytest.raises(OptionError, match=r"the decoder cannot be pruned with --dimensions alone: .* pass --selection"):
        prune(encoder, tmp_path / "c", dimensions=[4, 0], decoder=decoder)
    with pytest.raises(OptionError, match="at least one of 0 to 4, each once, found 5"):
        prune(encoder, tmp_path / "c", dimensions=[5])
    with pytest.raises(OptionError, match="it is not said which dimensions to keep"):
        prune(encoder, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_run_gives_encoder_and_decoder(encoder, decoder, selection, tmp_path):
    assert prune(tmp_path, tmp_path / "a", selection=selection).decoder is not None
    assert prune(tmp_path, tmp_path / "b", dimensions=[0]).decoder is None
    decoder.unlink()
    assert prune(tmp_path, tmp_path / "c", selection=selection).decoder is None


def test_a_selection_of_another_encoder(encoder, selection, tmp_path):
    other = Linear(K, second="logvar", seed=1).save(tmp_path / "other.onnx")
    with pytest.raises(RecordError, match=r"the selection .* is not of this encoder: expected one of .*other.onnx"):
        prune(other, tmp_path / "out", selection=selection)
    assert not (tmp_path / "out").exists()


def test_nothing_informative(encoder, tmp_path):
    selection = selection_for(encoder, tmp_path / "none", informative=0)
    with pytest.raises(OptionError, match=r"no dimension would be left: .* found none of 5 by the rule variance"):
        prune(encoder, tmp_path / "out", selection=selection)
    assert prune(encoder, tmp_path / "out", selection=selection, dimensions=[1]).encoder.dimensions == (1,)


def test_nothing_is_replaced_unasked(encoder, decoder, selection, tmp_path):
    first = prune(encoder, tmp_path / "out", dimensions=[0])
    with pytest.raises(OutputError, match=r"encoder\.onnx already exists"):
        prune(encoder, tmp_path / "out", dimensions=[1])
    assert sha256_of(first.encoder.path) == first.encoder.sha256
    again = prune(encoder, tmp_path / "out", dimensions=[1], overwrite=True)
    assert sha256_of(first.encoder.path) == again.encoder.sha256 != first.encoder.sha256
    with pytest.raises(OptionError, match="the output would replace the model itself"):
        prune(encoder, tmp_path, dimensions=[1], overwrite=True)


def test_all_or_nothing(encoder, selection, tmp_path, listed):
    other = LinearDecoder((1.0, 1.0), SHAPE).save(tmp_path / "small.onnx")
    old = prune(encoder, tmp_path / "out", dimensions=[0])
    with pytest.raises(ContractError, match="does not fit the selection"):
        prune(encoder, tmp_path / "out", selection=selection, decoder=other, overwrite=True)
    assert listed(tmp_path / "out") == ["encoder.onnx"]
    assert sha256_of(old.encoder.path) == old.encoder.sha256


def test_a_disk_that_is_full(encoder, small_disk, listed):
    disk = small_disk(8)
    (disk / "filler").write_bytes(b"x" * 8192)
    with pytest.raises(OutputError, match="cannot write to"):
        prune(encoder, disk / "out", dimensions=[0])
    assert listed(disk) == ["filler"]


def test_a_model_that_cannot_be_restored_is_refused(encoder, tmp_path, monkeypatch):
    from exporters import prune as module

    monkeypatch.setattr(module, "_difference", lambda *_: (1.0, 0.5))
    with pytest.raises(ExportError, match=r"at most 1e-06 of the largest output, found 0\.5"):
        prune(encoder, tmp_path / "out", dimensions=[0])


def test_heads_of_other_names(linear, tmp_path):
    path = linear.save(tmp_path / "e.onnx", metadata=None, names=("m", "s"))
    result = prune(path, tmp_path / "out", dimensions=[1], heads=HeadNames(mu="m", logvar="s"))
    assert [value.name for value in onnx.load(result.encoder.path).graph.output] == ["mu", "logvar"]


@pytest.mark.parametrize(("named", "kept"), [(None, ["mu", "logvar"]), (HeadNames(mu="m"), ["mu"])])
def test_the_selection_says_how_the_encoder_was_read(linear, tmp_path, as_h5, named, kept):
    path = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("m", "s"))
    data, options = as_h5(tmp_path / "d.h5", images_of(40)), InputOptions(low=-1, high=1)
    record = select_latents(
        path,
        data,
        tmp_path / "OUT",
        dimensions=(1, 3),
        heads=HeadNames(mu="m", logvar="s"),
        input_options=options,
        bootstrap=0,
    )
    assert (record.model.heads, record.model.input_range) == ({"mu": "m", "logvar": "s"}, (-1.0, 1.0))
    assert AnalysisRecord.read(tmp_path / "OUT") == record
    result = prune(path, tmp_path / "out", selection=tmp_path / "OUT", heads=named)
    assert [value.name for value in onnx.load(result.encoder.path).graph.output] == kept
    assert result.encoder.input_options == options
    again = select_latents(result.encoder.path, data, tmp_path / "again", input_options=options, bootstrap=0)
    old = [record.dimensions[k].mu_mean for k in (1, 3)]
    np.testing.assert_allclose([row.mu_mean for row in again.dimensions], old, rtol=1e-6)
    named_range = prune(path, tmp_path / "own", selection=tmp_path / "OUT", input_options=InputOptions(low=0, high=2))
    assert named_range.encoder.input_options == InputOptions(low=0, high=2)


def test_the_data_tell_the_layout_that_the_shape_does_not(tmp_path, as_h5):
    images = images_of(20, (4, 5, 3))
    linear = Linear(K, (4, 5, 3), second="logvar")
    path = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32")
    data, options = as_h5(tmp_path / "d.h5", images), InputOptions(layout="NHWC")
    select_latents(path, data, tmp_path / "OUT", dimensions=(0, 2), input_options=options, bootstrap=0)
    result = prune(path, tmp_path / "out", selection=tmp_path / "OUT")
    assert result.encoder.input_options == options
    whole, part = (EncoderSession(f, input_options=options).encode(images) for f in (path, result.encoder.path))
    np.testing.assert_array_equal(part.mu, whole.mu[:, [0, 2]])


def test_a_selection_without_a_record_of_the_heads(linear, tmp_path):
    path = linear.save(tmp_path / "e.onnx", metadata=None, names=("m", "s"))
    record = AnalysisRecord.read(selection_for(path, tmp_path / "old"))
    old = dataclasses.replace(record, model=dataclasses.replace(record.model, heads={}))
    selection = write_analysis(tmp_path / "old", old)
    with pytest.raises(ContractError, match="name the heads"):
        prune(path, tmp_path / "out", selection=selection)
    assert prune(path, tmp_path / "out", selection=selection, heads=HeadNames("m", logvar="s")).encoder.dimensions


def test_an_analysis_of_a_pruned_encoder_says_so(encoder, tmp_path, as_h5):
    pruned = prune(encoder, tmp_path / "out", dimensions=[0, 2, 3, 4]).encoder.path
    record = select_latents(pruned, as_h5(tmp_path / "d.h5", images_of(20)), tmp_path / "OUT", bootstrap=0)
    assert "The encoder was pruned: its dimensions are 0, 2-4 of the whole one, in this order." in record.notes
    assert (record.model.heads, record.model.input_range) == ({"mu": "mu", "logvar": "logvar"}, None)


def test_the_default_folder_is_named_after_the_model(tmp_path):
    assert str(default_output(tmp_path / "encoder.onnx")) == "encoder-pruned"
    assert str(default_output(tmp_path / "run")) == "run-pruned"
