import os
import sys

import h5py
import latent_files
import numpy as np
import pytest
import tifffile
from inference.graphs import Linear, images_of, nodes, write
from PIL import Image

from ngvae_tools import index_latents, open_latents, select_latents, similar
from ngvae_tools.errors import ContractError, DatasetError, OptionError, RecordError, UnknownIdentifierError
from ngvae_tools.inference.session import HeadNames, InputOptions
from ngvae_tools.latents.neighbours import nearest, weights_of

# The compiled types of faiss lack what Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:builtin type (Swig|swig)\w+ has no __module__ attribute:DeprecationWarning"
)

DIMENSIONS = [0, 2]


@pytest.fixture(scope="module")
def linear():
    return Linear()


@pytest.fixture(scope="module")
def images():
    return images_of(40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, linear, images):
    """An encoder, 40 images as PNG files, their latents, and an image that is not among them."""
    folder = tmp_path_factory.mktemp("similar")
    linear.save(folder / "encoder.onnx")
    (folder / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
    Image.fromarray(images_of(1, seed=5)[0]).save(folder / "new.png")
    select_latents(folder / "encoder.onnx", folder / "images", folder / "out", dimensions=DIMENSIONS)
    return folder


def expected_for(out, mu, count):
    """Identifiers and distances of the nearest rows, by the definition."""
    with open_latents(out) as file:
        scaled = (file.to_numpy() - np.asarray(mu)[None]) * weights_of(file)
        distances = np.sqrt((scaled**2).sum(1))
        order = np.argsort(distances, kind="stable")[:count]
        return [os.fsdecode(name) for name in file.identifiers[order].tolist()], distances[order]


def test_an_image_of_the_file(folder):
    found = similar(folder / "out", "07.png", count=5)
    with open_latents(folder / "out") as file:
        names, distances = expected_for(folder / "out", file.by_id("07.png"), 6)
    assert names[0] == "07.png"
    assert (found.row, found.indexed) == (7, False)
    assert [near.identifier for near in found.images] == names[1:]
    np.testing.assert_allclose([near.distance for near in found.images], distances[1:])


def test_an_image_from_elsewhere_is_encoded_as_the_others_were(folder, linear):
    found = similar(folder / "out", folder / "new.png", encoder=folder / "encoder.onnx", count=4)
    mu = linear.heads(images_of(1, seed=5))[0][0][DIMENSIONS]
    names, distances = expected_for(folder / "out", mu, 4)
    assert found.row is None
    assert [near.identifier for near in found.images] == names
    np.testing.assert_allclose([near.distance for near in found.images], distances, rtol=1e-5)


def test_the_file_of_an_image_finds_it(folder):
    found = similar(folder / "out", folder / "images" / "11.png", encoder=folder / "encoder.onnx", count=1)
    assert found.images[0].identifier == "11.png"
    # The latents in the file are rounded, by 0.1 standard deviations a column.
    assert found.images[0].distance < 0.6


def test_row_numbers(tmp_path):
    latent_files.write(tmp_path / "latents.h5", np.arange(10.0, dtype=np.float32)[:, None], variance=4.0, lossless=True)
    for query in (12, "12", np.int64(12)):
        found = similar(tmp_path / "latents.h5", query, count=2)
        assert [near.identifier for near in found.images] == [9, 15]
        assert [near.distance for near in found.images] == [0.5, 0.5]


def test_equal_images_stay_and_the_image_itself_does_not(tmp_path):
    latent_files.write(tmp_path / "latents.h5", np.zeros((6, 2), np.float32))
    found = similar(tmp_path, 15, count=3)
    assert [near.row for near in found.images] == [0, 1, 2]
    assert [near.row for near in similar(tmp_path, 0, count=99).images] == [1, 2, 3, 4, 5]


def test_a_distance_is_a_number_however_far(tmp_path):
    latent_files.write(tmp_path / "latents.h5", np.arange(3, dtype=np.float32)[:, None], variance=5e-324, lossless=True)
    for near in similar(tmp_path, 0).images:
        assert 1e160 < near.distance < np.inf


@pytest.mark.parametrize(("n", "d"), [(1, 2), (3, 0)])
def test_hardly_anything_to_find(tmp_path, n, d):
    latent_files.write(tmp_path / "latents.h5", np.zeros((n, d), np.float32))
    assert len(similar(tmp_path, 0).images) == n - 1


def test_a_path_that_is_not_utf8(tmp_path):
    names = np.array([b"a.png", b"caf\xe9.png"])
    latent_files.write(tmp_path / "latents.h5", np.zeros((2, 1), np.float32), names)
    assert similar(tmp_path, "a.png").images[0].identifier == "caf\udce9.png"
    assert similar(tmp_path, "caf\udce9.png").images[0].identifier == "a.png"


class TestRefusals:
    def test_neither_an_identifier_nor_a_file(self, folder):
        with pytest.raises(UnknownIdentifierError, match=r"nope.*such as 00\.png, or the path of an image"):
            similar(folder / "out", "nope")
        for other in (3, np.int64(3), "x" * 5000):
            with pytest.raises(UnknownIdentifierError):
                similar(folder / "out", other)

    def test_no_encoder(self, folder):
        with pytest.raises(OptionError, match="pass --encoder"):
            similar(folder / "out", folder / "new.png")

    def test_another_encoder(self, folder, tmp_path):
        Linear(seed=9).save(tmp_path / "other.onnx")
        with pytest.raises(ContractError, match="is not the encoder that made"):
            similar(folder / "out", folder / "new.png", encoder=tmp_path / "other.onnx")

    def test_an_image_that_does_not_fit(self, folder, tmp_path):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "large.png")
        (tmp_path / "text.png").write_text("no image")
        for name in ("large.png", "text.png"):
            with pytest.raises(DatasetError, match=f"{name} cannot be encoded"):
                similar(folder / "out", tmp_path / name, encoder=folder / "encoder.onnx")

    def test_a_count_below_one(self, folder):
        with pytest.raises(OptionError, match="count"):
            similar(folder / "out", "00.png", count=0)

    def test_a_file_that_does_not_say_how_it_was_made(self, folder, tmp_path):
        latent_files.write(tmp_path / "latents.h5", np.zeros((3, 3), np.float32))
        with pytest.raises(RecordError, match="does not say how images"):
            similar(tmp_path, folder / "new.png", encoder=folder / "encoder.onnx")


class TestModelsFromElsewhere:
    def test_heads_layout_range_and_resize_are_those_of_the_file(self, tmp_path, images, as_pngs):
        model = Linear(second="logvar", unit=1.0).save(
            tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("code", "gate")
        )
        large = images.repeat(2, axis=1).repeat(2, axis=2)
        as_pngs(tmp_path / "images", large)
        select_latents(
            model,
            tmp_path / "images",
            tmp_path / "out",
            dimensions=[1, 2],
            heads=HeadNames("code", None, "gate"),
            input_options=InputOptions(low=-1.0, high=1.0),
            resize="stretch",
        )
        for name in ("00003.png", "00017.png"):
            found = similar(tmp_path / "out", tmp_path / "images" / name, encoder=model, count=1)
            assert found.images[0].identifier == name
            assert found.images[0].distance < 0.6

    def test_float_samples_are_scaled_as_before(self, tmp_path, images):
        model = Linear(second="logvar", unit=1.0).save(tmp_path / "m.onnx", metadata=None, sample_type="float32")
        floats = (images / 255).astype(np.float32)
        floats[5, 0, 0, 0] = 0
        with h5py.File(tmp_path / "floats.h5", "w") as file:
            file["images"] = floats
        options = InputOptions(low=-1.0, high=1.0)
        select_latents(model, tmp_path / "floats.h5", tmp_path / "out", dimensions=[1, 2], input_options=options)
        # Alone, an image whose samples go below 0 would not be taken for one of 0 to 1.
        query = floats[5].copy()
        query[0, 0, 0] = -1e-7
        tifffile.imwrite(tmp_path / "query.tif", query, photometric="rgb")
        found = similar(tmp_path / "out", tmp_path / "query.tif", encoder=model, count=1)
        assert found.images[0].identifier == 5
        assert found.images[0].distance < 0.6
        assert any("brought from 0 to 1" in note for note in found.notes)

    @pytest.mark.parametrize("spatial", ["channel", "position"])
    def test_spatial_latents_keep_their_columns(self, tmp_path, as_h5, spatial):
        """Mu is the image itself, (N, 3, 8, 8)."""
        steps = nodes(("Identity", "image", "mu"), ("Sub", "image eight", "logvar"))
        encoder = write(tmp_path / "e.onnx", steps, ("mu", "logvar"), values={"eight": np.float32(8)})
        images = np.random.default_rng(0).uniform(0, 1, (50, 8, 8, 3)).astype(np.float32)
        options = InputOptions(spatial=spatial)
        data = as_h5(tmp_path / "d.h5", images)
        select_latents(encoder, data, tmp_path / "out", dimensions=[0, 2], input_options=options)
        tifffile.imwrite(tmp_path / "query.tif", images[23], photometric="rgb")
        found = similar(tmp_path / "out", tmp_path / "query.tif", encoder=encoder, count=2)
        assert found.images[0].identifier == 23
        assert found.images[0].distance < 0.5 * len(open_latents(tmp_path / "out")[0]) ** 0.5
        assert found.images[1].distance > 2 * found.images[0].distance


class TestIndex:
    @pytest.fixture
    def latents(self, tmp_path):
        pytest.importorskip("faiss")
        values = np.random.default_rng(0).standard_normal((3000, 3)).astype(np.float32)
        latent_files.write(tmp_path / "latents.h5", values)
        index_latents(tmp_path)
        return tmp_path / "latents.h5"

    def test_is_used_where_it_is(self, latents):
        found, exact = similar(latents, 300), similar(latents, 300, exact=True)
        assert (found.indexed, exact.indexed) == (True, False)
        assert found.images == exact.images
        with open_latents(latents) as file:
            rows = nearest(file, file[100][None], 11).rows[0, 1:]
        assert [near.row for near in found.images] == rows.tolist()

    def test_is_refused_where_it_is_stale(self, latents):
        latents.unlink()
        latent_files.write(latents, np.ones((3000, 3), np.float32))
        with pytest.raises(RecordError, match="not the index of"):
            similar(latents, 300)
        assert not similar(latents, 300, exact=True).indexed

    def test_is_not_needed(self, latents, monkeypatch):
        monkeypatch.setitem(sys.modules, "faiss", None)
        found = similar(latents, 300)
        assert not found.indexed
        assert "faiss is not installed" in found.notes[0]
