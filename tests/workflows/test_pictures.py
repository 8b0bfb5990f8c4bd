import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import latent_files
import numpy as np
import onnx
import pytest
from inference.decoders import LinearDecoder
from inference.graphs import Linear, nodes, write
from onnx import TensorProto, helper
from PIL import Image
from sklearn.decomposition import PCA

from ngvae_tools import append_latents, select_latents
from ngvae_tools.analysis.disentanglement.settings import Settings
from ngvae_tools.analysis.moments import Moments
from ngvae_tools.analysis.overview import Overview, principal_plane
from ngvae_tools.errors import ContractError, DatasetError, MissingDependencyError, OptionError, RecordError
from ngvae_tools.inference.decoder import DecoderSession
from ngvae_tools.inference.session import HeadNames
from ngvae_tools.latents.neighbours import weights_of
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.workflows import shown_images
from ngvae_tools.workflows.originals import Originals
from ngvae_tools.workflows.pictures import gather_all, gather_pictures
from ngvae_tools.workflows.storing import StoreOptions
from ngvae_tools.workflows.thumbnails import small, small_shape

SAMPLE = Path(__file__).parents[2] / "sample_data"
ENCODER, DECODER, SPRITES = SAMPLE / "encoder.onnx", SAMPLE / "decoder.onnx", SAMPLE / "sprites.h5"
KEEP_ALL = StoreOptions(keep="all")


@pytest.fixture(scope="session")
def out(tmp_path_factory):
    """The sample data, analysed with decoder and labels."""
    folder = tmp_path_factory.mktemp("pictures") / "out"
    settings = Settings(train=500, test=200, predict=False)
    select_latents(ENCODER, SPRITES, folder, decoder=DECODER, labels="auto", bootstrap=0, settings=settings)
    return folder


@pytest.fixture(scope="session")
def pictures(out):
    return gather_pictures(named(out))


def named(folder):
    return open_sources([folder]).analyses[0]


def latents_of(folder):
    with open_latents(folder, dtype=np.float64) as file:
        return file.to_numpy(), file.header.origin


def sprites(rows):
    with h5py.File(SPRITES) as file:
        return file["images"][:][np.asarray(rows, int)]


def changed(folder, target, **changes):
    """A copy of an output folder whose record's parts are changed: `model={"path": ...}`; None removes a part."""
    shutil.copytree(folder, target)
    path = target / "selection.json"
    raw = json.loads(path.read_text())
    for part, change in changes.items():
        raw[part] = None if change is None else raw[part] | change
    path.write_text(json.dumps(raw))
    return target


def repacked(folder, **changes):
    """Write a folder's latents anew, lossless, with changes of their origin."""
    with open_latents(folder) as file:
        values, names, origin = file.to_numpy(), file.identifiers, file.header.origin
    given = {field.name: getattr(origin, field.name) for field in dataclasses.fields(origin)} | changes
    latent_files.write(folder / "latents.h5", values, names, lossless=True, **given | {"distortion": None})


def same(one, other):
    """Whether two pictures are equal, bit for bit."""
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_everything_is_there_and_says_where_from(pictures, out):
    record = named(out).record
    assert pictures.notes == ()
    assert (pictures.decoder, pictures.data) == (str(DECODER), str(SPRITES))
    assert [t.dimension for t in pictures.traversals if t.informative] == list(record.selection.indices)
    assert [e.dimension for e in pictures.extremes] == list(record.latents.dimensions)
    assert sum(not t.informative for t in pictures.traversals) == 3
    assert pictures.map.n_images == 256


def test_extremes_are_those_of_the_full_read(pictures, out):
    values, origin = latents_of(out)
    for extreme, column, k in zip(pictures.extremes, values.T, origin.dimensions, strict=True):
        order = np.argsort(column, kind="stable")
        assert extreme.dimension == k
        assert extreme.low_names == tuple(map(str, order[:5]))
        assert extreme.high_names == tuple(map(str, order[-5:]))
        np.testing.assert_array_equal(extreme.low_values, column[order[:5]])
        np.testing.assert_array_equal(extreme.high_values, column[order[-5:]])
        np.testing.assert_array_equal(extreme.low_images, sprites(order[:5]))
        np.testing.assert_array_equal(extreme.high_images, sprites(order[-5:]))


def test_traversals_are_what_the_decoder_makes_of_one_moved_dimension(pictures, out):
    values, origin = latents_of(out)
    centre = values.mean(axis=0)
    nearest = int((((values - centre) ** 2) / origin.posterior_variance).sum(axis=1).argmin())
    assert pictures.base == str(nearest)
    base = origin.fill.astype(np.float32)
    base[list(origin.dimensions)] = values[nearest]
    decode = DecoderSession(DECODER).decode
    for found in pictures.traversals:
        z = np.repeat(base[None], 11, axis=0)
        z[:, found.dimension] = found.values
        images = np.clip(decode(z), 0, 1)
        np.testing.assert_array_equal(found.frames, np.rint(images * np.float32(255)).astype(np.uint8))
        change = np.sqrt(((images - images[5]).astype(float) ** 2).mean(axis=(1, 2, 3)))
        np.testing.assert_allclose(found.change, change)
        assert found.change[5] == 0
        assert np.all(np.diff(found.values) > 0)


def test_informative_dimensions_go_from_one_quantile_to_the_other(pictures, out):
    values, origin = latents_of(out)
    for found in (t for t in pictures.traversals if t.informative):
        column = values[:, origin.dimensions.index(found.dimension)]
        np.testing.assert_allclose([found.values[0], found.values[-1]], np.quantile(column, [0.01, 0.99]), rtol=1e-6)


def test_how_far_dimensions_move_is_said(pictures):
    informative, other = pictures.ranges.split(", ")
    assert informative == "An informative dimension moves from percentile 1 to percentile 99 of mu over the data"
    assert other == "an uninformative one 3 standard deviations of its posterior on either side of the mean of mu."


def test_moving_an_uninformative_dimension_changes_next_to_nothing(pictures, out):
    """Although each is moved over all that the posterior covers, and they are those that the rule was least sure of."""
    record = named(out).record
    moving = [t for t in pictures.traversals if not t.informative]
    for found in moving:
        row = record.dimensions[found.dimension]
        reach = 3 * np.sqrt(row.posterior_variance)
        np.testing.assert_allclose([found.values[0], found.values[-1]], [row.mu_mean - reach, row.mu_mean + reach])
        assert max(found.change) < 0.02
    assert min(max(t.change) for t in pictures.traversals if t.informative) > 0.05
    doubt = np.abs(np.array(record.selection.score) - record.selection.threshold)
    others = sorted((k for k in range(15) if not record.selection.informative[k]), key=lambda k: doubt[k])
    assert [t.dimension for t in moving] == sorted(others[:3])


def test_reconstructions_are_those_of_the_latent_file(pictures, out):
    values, origin = latents_of(out)
    rows = np.linspace(0, 255, 10).round().astype(int)
    z = np.tile(origin.fill, (10, 1))
    z[:, list(origin.dimensions)] = values[rows]
    decoded = np.clip(DecoderSession(DECODER).decode(z), 0, 1)
    found = pictures.reconstructed
    assert found.names == tuple(map(str, rows))
    np.testing.assert_array_equal(found.originals, sprites(rows))
    np.testing.assert_array_equal(found.decoded, np.rint(decoded * np.float32(255)).astype(np.uint8))
    np.testing.assert_allclose(found.error, ((sprites(rows) / 255 - decoded) ** 2).mean(axis=(1, 2, 3)), rtol=1e-4)


def test_the_map_is_the_principal_plane_in_units_of_the_posterior(pictures, out):
    values, _ = latents_of(out)
    with open_latents(out) as file:
        scaled = values * weights_of(file)
    expected = PCA(2).fit(scaled)
    points = expected.transform(scaled)
    found = pictures.map
    np.testing.assert_allclose(found.explained, expected.explained_variance_ratio_)
    signs = np.sign((points * found.points).sum(axis=0))
    np.testing.assert_allclose(found.points, points * signs, atol=1e-4 * np.abs(points).max())
    assert found.units == "its posterior's mean standard deviation"
    assert found.names == tuple(map(str, range(256)))
    np.testing.assert_array_equal(found.thumbnails, sprites(range(256)))


def test_the_map_can_be_coloured_by_factors_and_dimensions(pictures, out):
    values, origin = latents_of(out)
    with h5py.File(SPRITES) as file:
        labels = {name.decode() if isinstance(name, bytes) else name for name in file["labels"].attrs["names"]}
    found = {each.name: each for each in pictures.map.colourings}
    assert set(found) == labels | {f"z{k}" for k in origin.dimensions}
    assert found["shape"].categorical
    assert not found["x"].categorical
    for k, column in zip(origin.dimensions, values.T, strict=True):
        np.testing.assert_array_equal(found[f"z{k}"].values, column)


def test_the_same_input_gives_the_same_pictures(pictures, out, tmp_path):
    assert same(gather_pictures(named(out)), pictures)
    (tmp_path / "elsewhere").symlink_to(out)
    assert same(gather_pictures(named(tmp_path / "elsewhere")), pictures)


def test_reading_piece_by_piece_changes_nothing(pictures, out, monkeypatch):
    monkeypatch.setattr("ngvae_tools.latents.reader.CHUNK_BYTES", 1)
    monkeypatch.setattr("ngvae_tools.workflows.originals.AT_ONCE_BYTES", 1)
    assert same(gather_pictures(named(out)), pictures)


class TestAPassOverTheRows:
    @pytest.mark.parametrize("cuts", [[], [1], [3, 4, 50], list(range(1, 200))])
    def test_is_the_same_however_it_is_cut(self, cuts):
        values = np.random.default_rng(1).integers(0, 9, (200, 3)).astype(float)
        overview = Overview(3, count=5, sample=np.arange(0, 200, 3))
        for piece in np.split(values, cuts):
            overview.add(piece)
        for column, found in zip(values.T, overview.extremes, strict=True):
            order = np.argsort(column, kind="stable")
            np.testing.assert_array_equal(found.low_rows, order[:5])
            np.testing.assert_array_equal(found.high_rows, order[-5:])
            np.testing.assert_array_equal(found.high_values, column[order[-5:]])
        np.testing.assert_allclose(overview.moments.covariance(), np.cov(values.T))
        assert overview.quantiles(1, (0.01, 0.99)) == np.quantile(values[::3, 1], [0.01, 0.99]).tolist()

    def test_the_sign_of_an_axis_is_that_of_its_largest_weight(self):
        rows = np.random.default_rng(0).normal(size=(50, 4)) * [1, 5, 2, 1]
        for sign in (1, -1):
            axes = principal_plane(Moments.of(sign * rows), np.ones(4)).axes
            assert axes[1, 0] > 0.9
            assert axes[2, 1] > 0.9

    def test_nothing_varies(self):
        assert principal_plane(Moments.of(np.ones((5, 2))), np.ones(2)) is None
        assert principal_plane(Moments.of(np.ones((1, 2))), np.ones(2)) is None
        assert principal_plane(Moments.of(np.ones((5, 0))), np.ones(0)) is None
        line = principal_plane(Moments.of(np.arange(5.0)[:, None]), np.ones(1))
        assert line.explained == (1, 0)
        np.testing.assert_array_equal(line.points(np.arange(5.0)[:, None]), np.c_[np.arange(5) - 2, np.zeros(5)])


class TestWhatIsNotThere:
    def test_the_data_set(self, out, tmp_path):
        """Gone from where the record says; named, it is used."""
        moved = shutil.copy(SPRITES, tmp_path / "moved.h5")
        repack = changed(out, tmp_path / "out")
        with open_latents(repack) as file:
            gone = dataclasses.replace(file.header.origin.sources[0], path=str(tmp_path / "gone.h5"))
        repacked(repack, sources=(gone,))
        found = gather_pictures(named(repack))
        assert (found.data, found.reconstructed, found.extremes, found.map.thumbnails) == (None, None, (), None)
        assert len(found.traversals) > 3
        assert found.notes == (
            f"Images of the data set are left out: {tmp_path}/gone.h5 is not there; have them with --data PATH.",
        )
        found = gather_pictures(named(repack), data=moved)
        assert (found.data, found.notes) == (str(moved), ())
        assert len(found.extremes) > 3

    def test_another_data_set_in_its_place_or_named(self, out, tmp_path, as_h5):
        other = as_h5(tmp_path / "other.h5", sprites(range(255, -1, -1)))
        with pytest.raises(DatasetError, match=r"other\.h5 is not the data set that the latents are of"):
            gather_pictures(named(out), data=other)
        with pytest.raises(DatasetError, match="nothing there"):
            gather_pictures(named(out), data=tmp_path / "nowhere")
        replaced = changed(out, tmp_path / "out")
        with open_latents(replaced) as file:
            source = dataclasses.replace(file.header.origin.sources[0], path=str(other))
        repacked(replaced, sources=(source,))
        found = gather_pictures(named(replaced))
        assert "other.h5 is not the data set" in found.notes[0]
        assert "--data PATH" in found.notes[0]
        assert found.data is None

    def test_the_decoder(self, out, tmp_path):
        """Moved away; beside the encoder it is found again, named it is used."""
        gone = {"decoder": "gone/decoder.onnx"}
        found = gather_pictures(named(changed(out, tmp_path / "out", truncation=gone, model={"path": "x/e.onnx"})))
        assert (found.decoder, found.traversals, found.base, found.reconstructed) == (None, (), "", None)
        (note,) = found.notes
        assert note.endswith(" is left out: the decoder gone/decoder.onnx is not there; have it with --decoder PATH.")
        assert len(found.extremes) > 3
        beside = gather_pictures(named(changed(out, tmp_path / "two", truncation=gone)))
        assert (beside.decoder, beside.notes) == (str(DECODER), ())
        copy = shutil.copy(DECODER, tmp_path / "copy.onnx")
        assert gather_pictures(named(tmp_path / "out"), decoder=copy).decoder == str(copy)

    def test_another_decoder_in_its_place_or_named(self, out, tmp_path):
        other = LinearDecoder((1.0,) * 15, (32, 32, 3)).save(tmp_path / "decoder.onnx")
        with pytest.raises(
            ContractError, match=r"not the one that the latent file .* that decoder, or run select-latents with --dec"
        ):
            gather_pictures(named(out), decoder=other)
        with pytest.raises(ContractError, match="cannot be used as a decoder"):
            gather_pictures(named(out), decoder=ENCODER)
        replaced = changed(out, tmp_path / "out", truncation={"decoder": str(other)}, model={"path": "x/e.onnx"})
        found = gather_pictures(named(replaced))
        assert "is not the one that the latent file" in found.notes[0]
        assert found.traversals == ()

    def test_an_analysis_without_a_decoder(self, tmp_path, run, sprites):
        """That of a training run lies beside its encoder, which must be the one that was analysed."""
        select_latents(run.folder / "encoder.onnx", sprites, tmp_path / "out", bootstrap=0, storing=KEEP_ALL)
        assert gather_pictures(named(tmp_path / "out")).decoder == str(run.folder / "decoder.onnx")
        select_latents(ENCODER, SPRITES, tmp_path / "alone", bootstrap=0)
        found = gather_pictures(named(tmp_path / "alone"))
        assert "no decoder is known; have it with --decoder" in found.notes[0]
        found = gather_pictures(named(tmp_path / "alone"), decoder=DECODER)
        assert "does not say which decoder" in found.notes[0]
        assert "on 64 images its error is " in found.notes[0]
        assert len(found.traversals) > 3
        other = LinearDecoder((1.0,) * 15, (32, 32, 3)).save(tmp_path / "decoder.onnx")
        with pytest.raises(ContractError, match=r"does not belong to .* name the decoder .*run select-latents with"):
            gather_pictures(named(tmp_path / "alone"), decoder=other)

    def test_the_latents(self, out, tmp_path):
        copy = changed(out, tmp_path / "out")
        other = changed(out, tmp_path / "other", model={"sha256": "ab" * 32})
        found = gather_pictures(named(other))
        assert not found
        assert "is not the latent file of the record" in found.notes[0]
        (copy / "latents.h5").unlink()
        found = gather_pictures(named(copy))
        assert not found
        assert found.notes[0].startswith("No images are shown: ")
        with pytest.raises(RecordError):
            gather_pictures(named(copy), data=SPRITES)

    def test_a_record_does_not_choose_the_latent_file(self, out, tmp_path):
        copy = changed(out, tmp_path / "out", latents={"file": "../../latents.h5"})
        shutil.copy(out / "latents.h5", tmp_path / "latents.h5")
        assert gather_pictures(named(copy))
        (copy / "latents.h5").unlink()
        assert not gather_pictures(named(copy))

    def test_a_record_names_what_no_file_is_called(self, out, tmp_path):
        """Names that the system refuses are no fault of the page."""
        for number, name in enumerate(["x" * 5000, "a\0b", "/dev/zero", str(tmp_path)]):
            copy = changed(out, tmp_path / str(number), truncation={"decoder": name}, model={"path": f"{name}/x"})
            with open_latents(copy) as file:
                source = dataclasses.replace(file.header.origin.sources[0], path=name)
            repacked(copy, sources=(source,))
            found = gather_pictures(named(copy))
            assert (found.decoder, found.data) == (None, None)
            assert len(found.notes) == 2
            assert found.map is not None

    def test_onnxruntime(self, out, watch):
        without = watch("onnxruntime")
        found = without.run("report", out, "--html", "page.html")
        assert found.returncode == 0, found.stderr
        assert "onnxruntime is not installed" in " ".join(found.stderr.split())
        assert "torch" not in without.loaded

    def test_remote_data_are_not_fetched_for_a_record(self, out, tmp_path, monkeypatch):
        copy = changed(out, tmp_path / "out")
        with open_latents(copy) as file:
            source = dataclasses.replace(file.header.origin.sources[0], path="https://example.invalid/x.h5")
        repacked(copy, sources=(source,))
        monkeypatch.setattr("ngvae_tools.workflows.originals.open_dataset", None)
        found = gather_pictures(named(copy))
        assert "https://example.invalid/x.h5" in found.notes[0]
        assert "fetched only when it is named" in found.notes[0]
        assert len(found.notes) == 1


class TestImages:
    def test_of_a_folder_with_hostile_names_and_broken_files(self, tmp_path):
        data = tmp_path / "images"
        data.mkdir()
        names = [b"<img src=x onerror=alert(1)>.png", b"\xff\xfe.png", "\N{SNOWMAN} '\".png".encode(), b"a.png"]
        for name, image in zip(names, sprites(range(4)), strict=True):
            with (data / os.fsdecode(name)).open("wb") as file:
                Image.fromarray(image).save(file, "PNG")
        (data / "broken.png").write_bytes(b"no image")
        select_latents(ENCODER, data, tmp_path / "out", bootstrap=0, decoder=DECODER)
        found = gather_pictures(named(tmp_path / "out"))
        expected = {os.fsdecode(name) for name in names}
        assert set(found.map.names) == set(found.reconstructed.names) == expected
        assert "\udcff\udcfe.png" in expected
        order = [os.fsencode(name) for name in found.map.names]
        np.testing.assert_array_equal(found.map.thumbnails, sprites([names.index(name) for name in order]))
        assert {name for e in found.extremes for name in e.low_names} <= expected

    def test_that_can_no_longer_be_read(self, tmp_path, as_pngs):
        data = as_pngs(tmp_path / "images", sprites(range(80)))
        select_latents(ENCODER, data, tmp_path / "out", bootstrap=0, decoder=DECODER)
        whole = gather_pictures(named(tmp_path / "out"))
        # Not among the files that the fingerprint reads; it has the same size.
        broken = data / "00002.png"
        broken.write_bytes(bytes(broken.stat().st_size))
        found = gather_pictures(named(tmp_path / "out"))
        assert found.notes == ("1 of the images to show cannot be read again.",)
        assert (found.map.thumbnails[2] == 127).all()
        np.testing.assert_array_equal(np.delete(found.map.thumbnails, 2, 0), np.delete(whole.map.thumbnails, 2, 0))
        for before, after in zip(whole.extremes, found.extremes, strict=True):
            assert after.low_names == tuple(name for name in before.low_names if name != "00002.png")
            assert len(after.low_names) == len(after.low_values) == len(after.low_images)

    def test_of_several_data_sets_one_of_which_is_gone(self, tmp_path, as_pngs, out):
        one, two = as_pngs(tmp_path / "one", sprites(range(8))), as_pngs(tmp_path / "two", sprites(range(8, 20)))
        select_latents(ENCODER, one, tmp_path / "out", bootstrap=0, decoder=DECODER)
        latents = tmp_path / "out" / "latents.h5"
        append_latents(latents, two, encoder=ENCODER, prefix="more/")
        both = gather_pictures(named(tmp_path / "out"))
        np.testing.assert_array_equal(both.map.thumbnails, sprites(range(20)))
        assert both.map.names[8] == "more/00000.png"
        assert both.data == f"{one}, {two}"
        assert both.notes == ("The images are of the 20 rows of the latent file; the record beside it tells of 8.",)
        shutil.move(two, tmp_path / "away")
        found = gather_pictures(named(tmp_path / "out"))
        np.testing.assert_array_equal(found.map.thumbnails[:8], sprites(range(8)))
        assert (found.map.thumbnails[8:] == 127).all()
        assert any(f"left out of 12 of the 20 images: {two} is not there" in note for note in found.notes)
        assert not any(name.startswith("more/") for e in found.extremes for name in e.low_names + e.high_names)
        assert same(gather_pictures(named(tmp_path / "out"), data=tmp_path / "away").map, both.map)

    @pytest.mark.parametrize(("dtype", "white"), [("uint16", 4000.0), ("float32", 2.5)])
    def test_are_scaled_as_decoder_or_encoder_say(self, tmp_path, as_h5, dtype, white):
        from ngvae_tools.contract import InputScale

        shape = (4, 6, 1)
        values = np.random.default_rng(0).uniform(0, white, (30, *shape)).astype(dtype)
        data = as_h5(tmp_path / "data.h5", values)
        scale = InputScale(0.0, white)
        linear = Linear(2, shape, second="logvar", constant=np.log([0.1, 0.1]))
        metadata = linear.metadata(sample_type=dtype, scale=scale, weights="w").to_json()
        encoder = linear.save(tmp_path / "encoder.onnx", sample_type=dtype, metadata=metadata)
        select_latents(encoder, data, tmp_path / "out", bootstrap=0, storing=KEEP_ALL)
        expected = np.rint(np.clip(values.astype(np.float32) / np.float32(white), 0, 1) * 255).astype(np.uint8)
        np.testing.assert_array_equal(gather_pictures(named(tmp_path / "out")).map.thumbnails, expected)
        plain = LinearDecoder((1.0, 0.5), shape)
        metadata = plain.metadata(sample_type=dtype, scale=scale, weights="w").to_json()
        decoder = plain.save(tmp_path / "d.onnx", metadata=metadata)
        found = gather_pictures(named(tmp_path / "out"), decoder=decoder)
        np.testing.assert_array_equal(found.map.thumbnails, expected)
        np.testing.assert_array_equal(
            found.reconstructed.originals, expected[np.linspace(0, 29, 10).round().astype(int)]
        )
        encoder.unlink()
        assert "whole range of " + dtype in gather_pictures(named(tmp_path / "out")).notes[-1]

    @pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3)])
    def test_of_any_number_of_channels(self, tmp_path, as_h5, channels, shown):
        shape = (6, 5, channels)
        data = as_h5(tmp_path / "data.h5", np.random.default_rng(0).integers(0, 256, (9, *shape), np.uint8))
        linear = Linear(2, shape, second="logvar", constant=np.log([0.1, 0.1]))
        encoder = linear.save(tmp_path / "encoder.onnx")
        select_latents(encoder, data, tmp_path / "out", bootstrap=0, storing=KEEP_ALL)
        found = gather_pictures(named(tmp_path / "out"))
        with h5py.File(data) as file:
            np.testing.assert_array_equal(found.map.thumbnails, file["images"][:][..., :shown])
        assert any(f"have {channels} channels" in note for note in found.notes) == (channels not in {1, 3})

    def test_are_made_small_by_a_whole_number_and_never_larger(self):
        assert small_shape((32, 32, 3), 32) == (32, 32, 3)
        assert small_shape((33, 20, 1), 32) == (16, 10, 1)
        assert small_shape((100, 400, 2), 128) == (25, 100, 1)
        assert small_shape((1, 1000, 4), 32) == (1, 31, 3)
        images = np.random.default_rng(0).random((2, 64, 32, 3), np.float32)
        means = np.rint(images * 255).reshape(2, 32, 2, 16, 2, 3).mean(axis=(2, 4))
        assert np.abs(small(images, 32) - means).max() <= 1  # rounded once along each axis

    def test_of_a_resized_data_set(self, tmp_path, as_h5):
        large = np.repeat(np.repeat(sprites(range(30)), 2, axis=1), 2, axis=2)
        data = as_h5(tmp_path / "large.h5", large, chunks=(7, 64, 64, 3), compression="gzip")
        select_latents(ENCODER, data, tmp_path / "out", bootstrap=0, decoder=DECODER, resize="stretch")
        found = gather_pictures(named(tmp_path / "out"))
        expected = np.stack([np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in large])
        np.testing.assert_array_equal(found.map.thumbnails, expected)
        assert found.reconstructed.originals.shape == (10, 32, 32, 3)

    def test_packed_images_are_each_unpacked_once(self, tmp_path, as_h5, monkeypatch):
        data = as_h5(tmp_path / "packed.h5", sprites(range(256)), chunks=(16, 32, 32, 3), compression="gzip")
        select_latents(ENCODER, data, tmp_path / "out", bootstrap=0)
        pieces = []
        monkeypatch.setattr(shown_images, "scaled", lambda samples, scale: pieces.append(len(samples)) or samples / 255)
        gather_pictures(named(tmp_path / "out"))
        assert pieces == [16] * 16


class TestShapesOfAnalyses:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_images(self, tmp_path, as_h5, count):
        data = as_h5(tmp_path / "few.h5", sprites(range(count)))
        select_latents(ENCODER, data, tmp_path / "out", bootstrap=0, decoder=DECODER, dimensions=[0, 3])
        found = gather_pictures(named(tmp_path / "out"))
        assert len(found.reconstructed.names) == count
        assert all(len(e.low_names) == len(e.high_names) == count for e in found.extremes)
        assert len(found.traversals) == 5
        assert (found.map is None) == (count == 1)

    def test_no_image(self, out, tmp_path):
        copy = changed(out, tmp_path / "out")
        with open_latents(copy) as file:
            origin = file.header.origin
        given = {field.name: getattr(origin, field.name) for field in dataclasses.fields(origin)}
        latent_files.write(copy / "latents.h5", np.empty((0, len(origin.dimensions))), **given)
        assert not gather_pictures(named(copy))

    def test_no_dimension_is_kept(self, tmp_path):
        select_latents(ENCODER, SPRITES, tmp_path / "out", bootstrap=0, decoder=DECODER, threshold=1e-9, rule="p")
        found = gather_pictures(named(tmp_path / "out"))
        assert (found.extremes, found.map) == ((), None)
        assert len(found.reconstructed.names) == 10
        assert [t.informative for t in found.traversals] == [False] * 3

    def test_one_dimension_of_a_deterministic_code(self, tmp_path, as_h5):
        data = as_h5(tmp_path / "d.h5", np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8))
        linear = Linear(1, (6, 5, 3), unit=1.0)
        encoder = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32", names=("codes", "other"))
        decoder = LinearDecoder((1.0,), (6, 5, 3)).save(tmp_path / "decoder.onnx")
        heads = HeadNames(mu="codes")
        select_latents(encoder, data, tmp_path / "out", bootstrap=0, storing=KEEP_ALL, decoder=decoder, heads=heads)
        found = gather_pictures(named(tmp_path / "out"))
        assert [t.dimension for t in found.traversals] == [0]
        assert max(found.traversals[0].change) > 0
        assert found.ranges.endswith("an uninformative one over the range of mu.")
        assert found.map.explained == (1, 0)
        assert found.map.units == "its own standard deviation"
        assert (found.map.points[:, 1] == 0).all()

    def test_positions(self, tmp_path, as_h5):
        """mu is the image itself, three channels at 64 positions; the decoder returns it."""
        images = np.random.default_rng(0).uniform(0, 1, (50, 8, 8, 3)).astype(np.float32)
        images[..., 1] *= np.linspace(0, 1, 50)[:, None, None]
        steps = nodes(("Identity", "image", "mu"), ("Sub", "image eight", "logvar"))
        encoder = write(tmp_path / "e.onnx", steps, ("mu", "logvar"), values={"eight": np.float32(8)})
        select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", bootstrap=0, storing=KEEP_ALL)
        graph = helper.make_graph(
            [helper.make_node("Identity", ["z"], ["image"])],
            "maps",
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, ("N", 3, 8, 8))],
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, 8, 8))],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "z")
        found = gather_pictures(named(tmp_path / "out"), decoder=tmp_path / "z")
        assert found.traversals == ()
        assert any("64 positions" in note for note in found.notes)
        means = images.mean(axis=(1, 2))
        assert [e.dimension for e in found.extremes] == [0, 1, 2]
        np.testing.assert_allclose(found.extremes[1].low_values, np.sort(means[:, 1])[:5], atol=1e-3)
        assert max(found.reconstructed.error) < 1e-4
        assert found.map.explained[0] > 0.9

    def test_many_dimensions(self, tmp_path, as_h5):
        data = as_h5(tmp_path / "d.h5", np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8))
        linear = Linear(40, (4, 4, 3), second="logvar", constant=np.full(40, -9.0))
        select_latents(linear.save(tmp_path / "e.onnx"), data, tmp_path / "out", bootstrap=0, dimensions=range(40))
        found = gather_pictures(named(tmp_path / "out"))
        assert len(found.extremes) == 32
        assert any("of 32 of the 40 dimensions" in note for note in found.notes)
        most = sorted(named(tmp_path / "out").record.dimensions, key=lambda row: -row.information)[:32]
        assert [e.dimension for e in found.extremes] == sorted(row.index for row in most)

    def test_a_decoder_that_fails_far_out(self, out, tmp_path, monkeypatch):
        """It ran in the trial, but not on these latents."""
        refuse = ContractError("x cannot be used", expected="finite images", found="NaN", remedy="check it")

        def fail(self, z):
            raise refuse

        monkeypatch.setattr(DecoderSession, "decode", fail)
        found = gather_pictures(named(out))
        assert (found.traversals, found.reconstructed) == ((), None)
        assert [note.partition(":")[0] for note in found.notes] == [
            "Traversals are left out",
            "Reconstructions are left out",
        ]
        assert len(found.extremes) > 3


class TestSeveralAnalyses:
    @pytest.fixture
    def two(self, out, tmp_path, as_h5):
        """That of the sample data, and one of other data and without a decoder; neither knows where its data are."""
        data = as_h5(tmp_path / "other.h5", sprites(range(40, 90)))
        select_latents(ENCODER, data, tmp_path / "other", bootstrap=0)
        copy = changed(out, tmp_path / "copy", truncation={"decoder": "gone"}, model={"path": "x/e.onnx"})
        for folder in (copy, tmp_path / "other"):
            with open_latents(folder) as file:
                source = dataclasses.replace(file.header.origin.sources[0], path="/nowhere")
            repacked(folder, sources=(source,))
        return open_sources([copy, tmp_path / "other"]).analyses, data

    def test_data_and_decoder_go_where_they_belong(self, two, tmp_path):
        analyses, data = two
        first, second = (each.pictures for each in gather_all(analyses, data=data, decoder=DECODER))
        assert (first.data, first.decoder) == (None, str(DECODER))
        assert (second.data, second.decoder) == (str(data), str(DECODER))
        assert "on 50 images its error is" in second.notes[0]
        first, second = (each.pictures for each in gather_all(analyses, decoder=DECODER))
        assert (first.decoder, second.decoder) == (str(DECODER), None)
        assert "found several; report that analysis alone" in " ".join(second.notes)
        first, second = (each.pictures for each in gather_all(analyses, data=SPRITES))
        assert (first.data, second.data) == (str(SPRITES), None)

    def test_and_are_refused_where_they_belong_nowhere(self, two, tmp_path, as_h5):
        analyses, data = two
        foreign = as_h5(tmp_path / "foreign.h5", sprites(range(5)))
        with pytest.raises(DatasetError, match=r"foreign\.h5 is not the data set"):
            gather_all(analyses, data=foreign)
        with pytest.raises(ContractError, match="cannot be used as a decoder"):
            gather_all(analyses, decoder=ENCODER)
        with pytest.raises(OptionError, match="--data has nothing to show"):
            gather_all((), data=data)


class TestUmap:
    @pytest.mark.slow
    def test_the_process_keeps_its_threads(self):
        """Numba sets OpenMP's, on which a training's bits hang."""
        script = (
            "import torch; torch.set_num_threads(1); import numpy as np;"
            "from ngvae_tools.workflows.latent_map import umap_points;"
            "assert umap_points(np.random.default_rng(0).normal(size=(60, 4))).shape == (60, 2);"
            "print(torch.get_num_threads())"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "1"

    @pytest.mark.slow
    def test_of_the_sample_data(self, out, pictures):
        found = gather_pictures(named(out), method="umap").map
        assert (found.method, found.explained) == ("UMAP", None)
        assert found.points.shape == (256, 2)
        assert np.isfinite(found.points).all()
        assert same(found.colourings, pictures.map.colourings)
        assert same(gather_pictures(named(out), method="umap").map, found)
        values, _ = latents_of(out)
        with open_latents(out) as file:
            values = values * weights_of(file)
        # Neighbours stay neighbours: of each image's ten nearest most are among its fifty nearest on the map.
        near = np.argsort(((values[:, None] - values) ** 2).sum(-1), axis=1)[:, 1:11]
        ranks = np.argsort(np.argsort(((found.points[:, None] - found.points) ** 2).sum(-1), axis=1), axis=1)
        assert (np.take_along_axis(ranks, near, axis=1) <= 50).mean() > 0.6

    def test_without_the_package(self, out, monkeypatch):
        monkeypatch.setitem(sys.modules, "umap", None)
        with pytest.raises(MissingDependencyError, match=r"ngvae-tools\[umap\]"):
            gather_pictures(named(out), method="umap")

    def test_of_few_images(self, tmp_path, as_h5):
        select_latents(ENCODER, as_h5(tmp_path / "few.h5", sprites(range(3))), tmp_path / "out", bootstrap=0)
        found = gather_pictures(named(tmp_path / "out"), method="umap")
        assert found.map.method == "PCA"
        assert "There are too few images for UMAP; the map is a PCA." in found.notes


class TestTheCommand:
    def test_tells_what_is_left_out_and_how_to_have_it(self, commands, out, tmp_path):
        copy = changed(out, tmp_path / "copy", truncation={"decoder": "gone"}, model={"path": "x/e.onnx"})
        found = commands("report", copy, "--html", "a.html")
        assert found.returncode == 0
        assert "the decoder gone is not there; have it with" in " ".join(found.stderr.split())
        found = commands("report", copy, "--html", "b.html", "--decoder", DECODER, "--data", SPRITES)
        assert found.returncode == 0, found.stderr
        assert "left out" not in found.stderr

    def test_refuses_what_does_not_belong_before_it_writes(self, commands, out, tmp_path):
        found = commands("report", out, "--html", "a.html", "--decoder", ENCODER)
        assert found.returncode == 2
        assert "cannot be used as a decoder" in found.stderr
        assert "Traceback" not in found.stderr
        assert not (tmp_path / "a.html").exists()

    @pytest.mark.parametrize("option", [["--data", SPRITES], ["--decoder", DECODER], ["--map", "umap"]])
    def test_needs_a_page_for_images(self, commands, out, option):
        found = commands("report", out, *option)
        assert found.returncode == 2
        assert f"{option[0]} is for images" in found.stderr


def test_rows_in_another_order_than_their_names(tmp_path, as_pngs):
    """Names that the data set sorts; a latent file may hold them as it likes."""
    data = as_pngs(tmp_path / "images", sprites(range(6)))
    select_latents(ENCODER, data, tmp_path / "out", bootstrap=0)
    with open_latents(tmp_path / "out") as file:
        source, how = file.header.origin.sources[0], file.header.origin.preprocessing
        names = file.identifiers[[4, 0, 5, 1]]
    source = dataclasses.replace(source, n_rows=4)
    latent_files.write(tmp_path / "l.h5", np.zeros((4, 2)), names, sources=(source,), preprocessing=how)
    with open_latents(tmp_path / "l.h5") as file, Originals(file, [[data]]) as originals:
        found = {
            int(row): image
            for rows, images in originals.read(np.arange(4))
            for row, image in zip(rows, images, strict=True)
        }
    np.testing.assert_array_equal(np.stack([found[row] for row in range(4)]), sprites([4, 0, 5, 1]))
