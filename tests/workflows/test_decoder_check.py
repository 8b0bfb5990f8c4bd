"""Decoders whose hash is not known: judged by what encoder and decoder say of their training, else by images."""

import latent_files
import numpy as np
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear

from ngvae_tools import reconstruct, select_latents
from ngvae_tools.contract import InputScale
from ngvae_tools.errors import ContractError
from ngvae_tools.latents.header import DataSource
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.reporting import command
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.workflows.decoding import open_decoding
from ngvae_tools.workflows.explore.opening import open_explorer
from ngvae_tools.workflows.merge import encode_part, merge
from ngvae_tools.workflows.pictures import gather_pictures

SHAPE = (6, 5, 3)
LENGTHS = (4.0, 3.0, 2.0, 4.0, 3.0)
HOW = {
    "image_shape": list(SHAPE), "resize": None, "heads": {}, "input": {}, "dataset_key": None, "float_samples": [],
}  # fmt: skip


@pytest.fixture
def latents(tmp_path, as_h5):
    """Columns 1 and 3 of 5, and the images that the decoder of seed 0 makes of them."""
    values = np.random.default_rng(3).normal(0, 0.5, (40, 2)).astype(np.float32)
    z = np.tile(np.linspace(-1, 1, 5, dtype=np.float32), (40, 1))
    z[:, [1, 3]] = values
    images = np.rint(np.clip(LinearDecoder(LENGTHS, SHAPE)(z), 0, 1) * 255).astype(np.uint8)
    return write(tmp_path, values, as_h5(tmp_path / "data.h5", images))


def write(folder, values, data, **changes):
    from ngvae_tools.datasets import open_dataset

    with open_dataset(data) as dataset:
        source = DataSource(str(data), "hdf5", dataset.fingerprint(), len(values))
    given = {"preprocessing": HOW, "sources": (source,)} | changes
    latent_files.write(folder / "latents.h5", values, np.arange(len(values)), **given)
    return folder / "latents.h5"


def decoder(path, *, seed=0, **says):
    linear = LinearDecoder(LENGTHS, SHAPE, seed=seed)
    return linear.save(path, metadata=linear.metadata(**says).to_json())


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ({}, "untold"),
        ({"data_fingerprint": "d"}, "untold"),
        ({"data_fingerprint": "e"}, "data with the fingerprint d"),
        ({"weights": "w"}, "known"),
        ({"sample_type": "float32", "weights": "w"}, "samples of uint8 from 0 to 255, .* found float32 from 0 to 255"),
        ({"data_fingerprint": "d", "weights": "v"}, "a model whose weights have the SHA-256 w"),
    ],
)
def test_by_training(tmp_path, says, verdict):
    path = tmp_path / "latents.h5"
    latent_files.write(path, np.zeros((3, 2)), trained={"samples": "uint8 from 0 to 255", "data": "d", "weights": "w"})
    named = decoder(tmp_path / "d.onnx", **says)
    with open_latents(path) as file:
        if verdict in {"known", "untold"}:
            found = open_decoding(named, file, device="cpu")
            assert (found.known, found.notes) == (verdict == "known", ())
            return
        with pytest.raises(ContractError, match=f"not trained together .*{verdict}.*name the decoder that was or"):
            open_decoding(named, file, device="cpu", otherwise=" or")
        found = open_decoding(named, file, device="cpu", any_decoder=True)
        assert found.known
        assert "not trained together" in found.notes[0]


def test_by_images(tmp_path, latents):
    right, wrong = decoder(tmp_path / "right.onnx"), decoder(tmp_path / "wrong.onnx", seed=1)
    result = reconstruct(latents, tmp_path / "right.h5", decoder=right)
    assert "on 40 images its error is" in result.notes[0]
    with pytest.raises(ContractError, match=r"does not belong to .*on 40 of its images.*--any-decoder"):
        reconstruct(latents, tmp_path / "wrong.h5", decoder=wrong)
    assert not (tmp_path / "wrong.h5").exists()
    result = reconstruct(latents, tmp_path / "wrong.h5", decoder=wrong, any_decoder=True)
    assert "no better than the mean image's" in result.notes[0]
    with open_explorer(latents, decoder=right) as explorer:
        assert "on 40 images its error is" in explorer.notes[0]
    with pytest.raises(ContractError, match="does not belong to"), open_explorer(latents, decoder=wrong):
        pass


def test_select_latents_and_merge(tmp_path, as_h5):
    """A decoder of uint16 images for an encoder of uint8 ones."""
    linear, decoding = Linear(3, second="logvar"), LinearDecoder(shape=SHAPE)
    encoder = linear.save(tmp_path / "e.onnx")
    wide = decoding.metadata(sample_type="uint16", scale=InputScale(0.0, 65535.0)).to_json()
    wrong = decoding.save(tmp_path / "wrong.onnx", metadata=wide)
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), np.uint8)
    data, out, part = as_h5(tmp_path / "d.h5", images), tmp_path / "out", tmp_path / "part"
    named = {"dimensions": [0, 1], "decoder": wrong}
    with pytest.raises(ContractError, match=r"expected samples of uint8 .*--any-decoder"):
        select_latents(encoder, data, out, bootstrap=0, **named)
    assert not (out / "selection.json").exists()
    record = select_latents(encoder, data, out, bootstrap=0, any_decoder=True, **named)
    assert record.truncation.mean_image_error == pytest.approx((images / 255).var(axis=0).mean(), rel=1e-4)
    assert command.equivalent(record).count("--any-decoder") == 1
    encode_part(encoder, data, part, number=1, of=1, bootstrap=0)
    with pytest.raises(ContractError, match=r"expected samples of uint8 .*--any-decoder"):
        merge([part], tmp_path / "merged", **named)
    merged = merge([part], tmp_path / "merged", any_decoder=True, **named)
    assert (merged.truncation, merged.notes) == (record.truncation, record.notes)
    pictures = gather_pictures(open_sources([out]).analyses[0])
    np.testing.assert_array_equal(pictures.map.thumbnails, images)
    with open_explorer(out) as explorer:
        assert "no better than that of the mean image" in explorer.notes[-1]


def test_what_images_cannot_tell(tmp_path, latents):
    """Few of them, or none at hand: the note stays, and no decoder is refused."""
    wrong = decoder(tmp_path / "wrong.onnx", seed=1)
    with open_latents(latents) as file:
        few, data = file[:5], tmp_path / "data.h5"
    (tmp_path / "few").mkdir()
    said = [reconstruct(write(tmp_path / "few", few, data), tmp_path / "few.h5", decoder=wrong).notes]
    data.unlink()
    said.append(reconstruct(latents, tmp_path / "none.h5", decoder=wrong).notes)
    for (note,) in said:
        assert note.endswith("only the number of dimensions was checked.")
