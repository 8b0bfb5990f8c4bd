import shutil

import h5py
import latent_files
import numpy as np
import onnx
import pytest
import small_disk as disks
from inference.decoders import LinearDecoder
from inference.graphs import Linear
from onnx import TensorProto, helper
from PIL import Image

from ngvae_tools import encode_part, merge, reconstruct, select_latents
from ngvae_tools.errors import ContractError, OptionError, OutputError, RecordError, UnknownIdentifierError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.latents.header import DataSource
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows import reconstruct as module
from ngvae_tools.workflows.image_files import LIST_NAME, file_names, to_bytes
from ngvae_tools.workflows.storing import StoreOptions

SHAPE = (6, 5, 3)


@pytest.fixture
def decoder(tmp_path):
    return LinearDecoder((0.5, 0.25, 0.125, 0.5, 0.25), SHAPE).save(tmp_path / "decoder.onnx")


def values_of(n, columns=2):
    return np.random.default_rng(3).normal(0, 1, (n, columns))


def by_hand(path, decoder):
    """Kept dimensions 1 and 3 of 5, the others at their mean."""
    with open_latents(path) as file:
        z = np.tile(np.linspace(-1, 1, 5), (len(file), 1))
        z[:, list(file.header.origin.dimensions)] = file.to_numpy()
    return DecoderSession(decoder).decode(z)


@pytest.fixture
def latents(tmp_path):
    latent_files.write(tmp_path / "latents.h5", values_of(40), latent_files.names_of(40, "paths"))
    return tmp_path / "latents.h5"


def test_equals_decoding_by_hand(tmp_path, latents, decoder):
    expected = by_hand(latents, decoder)
    result = reconstruct(latents, tmp_path / "out.h5", decoder=decoder)
    floats = reconstruct(latents, tmp_path / "floats.h5", decoder=decoder, as_float=True)
    assert (result.n_images, result.image_shape, result.quality) == (40, SHAPE, None)
    assert "does not say which decoder" in result.notes[0]
    with h5py.File(tmp_path / "out.h5") as file, open_latents(latents) as stored:
        np.testing.assert_array_equal(file["images"][:], np.rint(np.clip(expected, 0, 1) * 255).astype(np.uint8))
        np.testing.assert_array_equal(file["identifiers"][:], stored.identifiers)
        assert file["images"].compression == "gzip"
        first = file["identifiers"][0].decode()
    with h5py.File(floats.output) as file:
        np.testing.assert_array_equal(file["images"][:], np.clip(expected, 0, 1))
    reconstruct(latents, tmp_path / "out", decoder=decoder)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / first)), to_bytes(expected[:1])[0])
    assert len(list((tmp_path / "out").glob("[!.]*"))) == 40
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_of_the_user_beside_the_output_stays(tmp_path, latents, decoder):
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/thesis.txt").write_text("mine")
    reconstruct(latents, tmp_path / "out", decoder=decoder)
    assert (tmp_path / "out.part/thesis.txt").read_text() == "mine"
    assert len(list((tmp_path / "out").glob("[!.]*"))) == 40
    assert not list(tmp_path.glob(".out.*"))


def test_a_decoder_from_elsewhere_returns_what_its_encoder_takes(tmp_path, latents):
    linear = LinearDecoder((0.5, 0.25, 0.125, 0.5, 0.25), SHAPE)
    own = linear.save(tmp_path / "decoder.onnx")
    foreign = linear.save(tmp_path / "foreign.onnx", metadata=None, gain=2.0, offset=-1.0)
    reconstruct(latents, tmp_path / "own.h5", decoder=own, as_float=True)
    path = tmp_path / "symmetric.h5"
    latent_files.write(path, values_of(40), latent_files.names_of(40, "paths"), preprocessing={"input_range": [-1, 1]})
    reconstruct(path, tmp_path / "foreign.h5", decoder=foreign, as_float=True)
    with h5py.File(tmp_path / "own.h5") as one, h5py.File(tmp_path / "foreign.h5") as other:
        np.testing.assert_allclose(other["images"][:], one["images"][:], atol=1e-6)


def test_batches_and_chunks_do_not_change_anything(tmp_path, decoder, monkeypatch):
    path = tmp_path / "many.h5"
    latent_files.write(path, values_of(5000))
    expected = to_bytes(by_hand(path, decoder))
    monkeypatch.setattr("ngvae_tools.workflows.decoding.BATCH_IMAGES", 77)
    monkeypatch.setattr("ngvae_tools.latents.reader.CHUNK_BYTES", 1)
    monkeypatch.setattr("ngvae_tools.workflows.image_files.CHUNK_BYTES", 90 * 100)
    seen = []
    reconstruct(path, tmp_path / "o.h5", decoder=decoder, on_progress=lambda done, total: seen.append((done, total)))
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["images"].chunks == (100, *SHAPE)
        np.testing.assert_array_equal(file["images"][:], expected)
        np.testing.assert_array_equal(file["identifiers"][:], np.arange(5000) * 3)
    assert seen[-1] == (5000, 5000)
    assert len(seen) > 60


def test_some_rows_only(tmp_path, latents, decoder):
    expected = to_bytes(by_hand(latents, decoder))
    names = [name.decode() for name in latent_files.names_of(40, "paths")]
    for number, (options, rows) in enumerate(
        [
            ({"rows": (3, 7)}, range(3, 7)),
            ({"rows": (-2, None)}, range(38, 40)),
            ({"ids": [names[9], names[2]]}, [9, 2]),
        ]
    ):
        reconstruct(latents, tmp_path / f"{number}.h5", decoder=decoder, **options)
        with h5py.File(tmp_path / f"{number}.h5") as file:
            np.testing.assert_array_equal(file["images"][:], expected[list(rows)])
    none = reconstruct(latents, tmp_path / "none.h5", decoder=decoder, rows=(5, 5))
    assert none.n_images == 0
    assert "the file has 40 rows, and none of them" in none.notes[-1]
    with pytest.raises(UnknownIdentifierError, match="has no image 'nobody'"):
        reconstruct(latents, tmp_path / "x.h5", decoder=decoder, ids=["nobody"])


def test_no_dimension_kept_is_the_image_of_the_means(decoder):
    session = DecoderSession(decoder)
    decoding = module.Decoding(session, latent_files.origin_of(0, latent_dim=5), kept_only=False)
    expected = session.decode(np.linspace(-1, 1, 5)[None])
    np.testing.assert_array_equal(decoding.images(np.zeros((4, 0))), np.repeat(expected, 4, axis=0))
    assert decoding.images(np.zeros((0, 0))).shape == (0, *SHAPE)


def test_positions_become_channels_of_maps(tmp_path):
    """The image is the latent itself: channels (3, 5, 7), so that every value shows where it went."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["image"])],
        "maps",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ("N", 3, 5, 7))],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, 5, 7))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "d.onnx")
    values = np.random.default_rng(0).random((4, 35 * 2))
    latent_files.write(
        tmp_path / "l.h5", values, positions=35, latent_dim=3, dimensions=(0, 2), fill=np.full(3, 0.5), lossless=True
    )
    reconstruct(tmp_path / "l.h5", tmp_path / "o.h5", decoder=tmp_path / "d.onnx", as_float=True)
    with h5py.File(tmp_path / "o.h5") as file:
        found = file["images"][:].reshape(4, 35, 3)
    np.testing.assert_array_equal(found[:, :, [0, 2]], values.reshape(4, 35, 2).astype(np.float32))
    assert (found[:, :, 1] == 0.5).all()


def test_a_decoder_of_the_kept_dimensions_alone(tmp_path, latents):
    small = LinearDecoder((0.25, 0.5), SHAPE)
    path = small.save(tmp_path / "small.onnx")
    reconstruct(latents, tmp_path / "o.h5", decoder=path)
    with h5py.File(tmp_path / "o.h5") as file, open_latents(latents) as stored:
        np.testing.assert_array_equal(file["images"][:], to_bytes(DecoderSession(path).decode(stored.to_numpy())))


def test_decoders_that_do_not_belong(tmp_path, decoder):
    path = tmp_path / "l.h5"
    latent_files.write(path, values_of(3), decoder_sha256="ab" * 32)
    with pytest.raises(ContractError, match=r"not the one .* SHA-256 abababababab.*--any-decoder"):
        reconstruct(path, tmp_path / "o", decoder=decoder)
    result = reconstruct(path, tmp_path / "o", decoder=decoder, any_decoder=True)
    assert result.notes[0].endswith("as --any-decoder allows.")
    other = LinearDecoder((1.0, 1.0, 1.0), SHAPE).save(tmp_path / "three.onnx")
    with pytest.raises(ContractError, match="of 5 latent dimensions, or of the 2 that are kept, found 3 in all"):
        reconstruct(path, tmp_path / "p", decoder=other, any_decoder=True)
    own = DecoderSession(decoder).sha256
    latent_files.write(tmp_path / "own.h5", values_of(3), decoder_sha256=own)
    assert reconstruct(tmp_path / "own.h5", tmp_path / "q", decoder=decoder).notes == ()


@pytest.mark.parametrize(
    "name", [b"../evil.png", b"/evil.png", b"a/../../evil", b"a//b.png", b"", b".", b"a/", b"a\0b.png", -1]
)
def test_hostile_identifiers(tmp_path, decoder, name):
    with pytest.raises(RecordError, match="cannot name a file in the output folder"):
        file_names(name)
    if name in {b"", -1}:
        return
    path = tmp_path / "work" / "l.h5"
    path.parent.mkdir()
    latent_files.write(path, values_of(2), np.array([b"good.png", name]))
    with pytest.raises(RecordError, match="cannot name a file"):
        reconstruct(path, tmp_path / "work" / "out", decoder=decoder)
    assert [each.name for each in (tmp_path / "work").iterdir()] == ["l.h5"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["decoder.onnx", "work"]


def test_names_that_clash(tmp_path, decoder, listed):
    path = tmp_path / "l.h5"
    latent_files.write(path, values_of(4), np.array([b"a/b.jpg", b"a/b.png", b"a/b.tif", b"a/c.v2"]))
    reconstruct(path, tmp_path / "out", decoder=decoder)
    assert listed(tmp_path / "out") == [LIST_NAME, "a/b.png", "a/b.png.png", "a/b.tif.png", "a/c.v2.png"]
    latent_files.write(path, values_of(3), np.array([b"a.png", b"a.png", b"a.png"]))
    with pytest.raises(RecordError, match="cannot have a file of its own"):
        reconstruct(path, tmp_path / "again", decoder=decoder)
    assert not (tmp_path / "again").exists()


def test_outputs_that_are_there(tmp_path, latents, decoder):
    out = tmp_path / "out"
    reconstruct(latents, out, decoder=decoder)
    with pytest.raises(OutputError, match="already exists"):
        reconstruct(latents, out, decoder=decoder)
    assert reconstruct(latents, out, decoder=decoder, overwrite=True, rows=(0, 2)).n_images == 2
    assert len(list(out.glob("*.png"))) == 2
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds thesis\.tex"):
        reconstruct(latents, out, decoder=decoder, overwrite=True)
    assert (out / "thesis.tex").exists()


@pytest.mark.parametrize("what", ["without a list", "another list", "one image more", "an empty folder more", "a link"])
def test_images_of_the_user_stay(tmp_path, latents, decoder, listed, what):
    out = tmp_path / "out"
    reconstruct(latents, out, decoder=decoder, rows=(0, 2))
    if what == "without a list":
        (out / LIST_NAME).unlink()
    elif what == "another list":
        (out / LIST_NAME).write_text("mine")
    elif what == "one image more":
        (out / "mine.png").write_bytes(b"mine")
    elif what == "an empty folder more":
        (out / "mine").mkdir()
    else:
        out.rename(tmp_path / "elsewhere")
        out.symlink_to(tmp_path / "elsewhere")
    before = listed(tmp_path)
    with pytest.raises(OutputError, match="images of reconstruct"):
        reconstruct(latents, out, decoder=tmp_path / "unopened.onnx", overwrite=True)
    assert listed(tmp_path) == before


def test_the_data_set_of_the_latents_is_not_replaced(tmp_path, latents, decoder, listed):
    """It is a folder that was reconstructed before."""
    images, again = tmp_path / "images", tmp_path / "again.h5"
    reconstruct(latents, images, decoder=decoder, rows=(0, 2))
    source = DataSource(str(images), "folder", "0", 2)
    latent_files.write(again, values_of(2), latent_files.names_of(2, "paths"), sources=(source,))
    before = listed(images)
    with pytest.raises(OptionError, match="would replace what it is made of"):
        reconstruct(again, images, decoder=decoder, overwrite=True)
    assert listed(images) == before


@pytest.mark.parametrize(("name", "known"), [("rec.txt", False), ("rec.PNG", False), ("rec-0.5", True)])
def test_endings_that_are_no_format(tmp_path, latents, decoder, name, known):
    if known:
        assert reconstruct(latents, tmp_path / name, decoder=decoder, rows=(0, 1)).n_images == 1
        return
    with pytest.raises(OptionError, match=r"ends in \.h5 or \.hdf5, or that of a folder"):
        reconstruct(latents, tmp_path / name, decoder=decoder)
    assert not (tmp_path / name).exists()


def test_no_input_is_written_over(tmp_path, latents, decoder):
    (tmp_path / "in").mkdir()
    inside = tmp_path / "in/latents.h5"
    inside.write_bytes(latents.read_bytes())
    for output in (inside, tmp_path / "in"):
        with pytest.raises(OptionError, match="would replace what it is made of"):
            reconstruct(inside, output, decoder=decoder, overwrite=True)
    assert inside.read_bytes() == latents.read_bytes()


@pytest.mark.parametrize("name", ["out", "out.h5"])
def test_an_interrupt_leaves_nothing(tmp_path, latents, decoder, name):
    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct(latents, tmp_path / name, decoder=decoder, on_progress=stop)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", ["out", "out.h5"])
def test_a_full_disk_is_a_sentence(tmp_path, decoder, name):
    path = tmp_path / "l.h5"
    latent_files.write(path, np.random.default_rng(0).normal(0, 9, (3000, 2)), variance=1e-6)
    with disks.small_disk(tmp_path / "disk") as disk:
        with pytest.raises(OutputError, match="No space left"):
            reconstruct(path, disk / name, decoder=decoder, as_float=name == "out.h5")
        assert list(disk.iterdir()) == []


def test_options_that_do_not_apply(tmp_path, latents, decoder):
    for options, said in (
        ({"rows": (0, 1), "ids": ["a"]}, "named twice"),
        ({"data": "d"}, "no --encoder"),
        ({"compare": 0}, "--compare"),
        ({"as_float": True}, "--float"),
    ):
        with pytest.raises(OptionError, match=said):
            reconstruct(latents, tmp_path / "out", decoder=decoder, **options)
    with pytest.raises(OptionError, match=r"found a name that ends in \.PNG"):
        reconstruct(latents, tmp_path / "out.PNG", decoder=decoder)


def test_the_sample_data(tmp_path, pytestconfig):
    sample = pytestconfig.rootpath / "sample_data"
    for data in (sample / "sprites", sample / "sprites.h5"):
        folder = tmp_path / data.name
        select_latents(sample / "encoder.onnx", data, folder, decoder=sample / "decoder.onnx", bootstrap=0)
        result = reconstruct(
            folder,
            tmp_path / f"{data.name}-images",
            decoder=sample / "decoder.onnx",
            data=data,
            encoder=sample / "encoder.onnx",
            compare=100,
        )
        found = result.quality
        assert (result.n_images, found.n_images, result.notes) == (256, 100, ())
        assert found.both.psnr > 55
        assert found.quantised.psnr == pytest.approx(found.unquantised.psnr, abs=0.1)
        assert 30 < found.quantised.psnr < 36
        assert found.quantised.ssim > 0.9
    other = Linear(15, (32, 32, 3)).save(tmp_path / "other.onnx")
    with pytest.raises(ContractError, match="is not the encoder that made"):
        reconstruct(folder, tmp_path / "x", decoder=sample / "decoder.onnx", data=data, encoder=other)


def test_verify(tmp_path, pytestconfig):
    sample = pytestconfig.rootpath / "sample_data"
    names = {"decoder": sample / "decoder.onnx", "verify": True}
    model, data = sample / "encoder.onnx", tmp_path / "sprites"
    data.mkdir()
    for path in sorted((sample / "sprites").iterdir())[:80]:
        shutil.copy(path, data)
    record = select_latents(model, data, tmp_path / "one", bootstrap=0, **names)
    found = record.reconstruction
    by_hand = reconstruct(
        tmp_path / "one", tmp_path / "o.h5", decoder=sample / "decoder.onnx", data=data, encoder=model
    ).quality
    assert (found.n_images, by_hand.n_images) == (80, 80)
    for name in ("quantised", "unquantised", "both"):
        assert getattr(found, f"psnr_{name}") == pytest.approx(getattr(by_hand, name).psnr, abs=1e-3)
        assert getattr(found, f"ssim_{name}") == pytest.approx(getattr(by_hand, name).ssim, abs=1e-5)
    assert AnalysisRecord.read(tmp_path / "one") == record
    encode_part(model, data, tmp_path / "part", number=1, of=1, bootstrap=0)
    assert merge([tmp_path / "part"], tmp_path / "two", **names).reconstruction == found
    # Without quantisation the images are equal, and their PSNR is infinite.
    lossless = select_latents(
        model, data, tmp_path / "three", bootstrap=0, storing=StoreOptions(lossless=True), **names
    )
    assert (lossless.reconstruction.psnr_both, lossless.reconstruction.ssim_both) == (None, pytest.approx(1))
    assert any("infinite" in note for note in lossless.notes)
    with pytest.raises(OptionError, match="--verify cannot be used"):
        select_latents(model, data, tmp_path / "four", verify=True)
    with pytest.raises(OptionError, match="--any-decoder cannot be used: expected a decoder"):
        select_latents(model, data, tmp_path / "four", any_decoder=True)
    with pytest.raises(OptionError, match="--verify cannot be used"):
        merge([tmp_path / "part"], tmp_path / "four", verify=True)
