"""Adding images to a latent file, and merging files: old values stay, codes widen, nothing is lost."""

import json

import numpy as np
import pytest
from inference.graphs import Linear, images_of
from latent_files import names_of, read_latents, steps_of, write

from ngvae_tools import open_latents, select_latents
from ngvae_tools.errors import ContractError, DatasetError, OptionError, OutputError
from ngvae_tools.inference.inputs import InputOptions
from ngvae_tools.latents.grid import Grid
from ngvae_tools.workflows import combining
from ngvae_tools.workflows.combining import append_latents, merge_latents
from ngvae_tools.workflows.shard_folder import ShardFolder
from ngvae_tools.workflows.storing import StoreOptions


def values_of(n, dim=3, spread=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, spread, (n, dim)).astype(np.float32)


def expected_on(path, values):
    """Values rounded to the steps of a file."""
    step = steps_of(path)
    return step * Grid(step).numbers(values)


class TestMerge:
    @pytest.mark.parametrize("codec", ["deflate", "archive"])
    def test_files_with_the_same_steps_keep_every_value(self, tmp_path, codec):
        one, two = values_of(5000), values_of(300, spread=40, seed=1)
        write(tmp_path / "a.h5", one, codec=codec)
        write(tmp_path / "b.h5", two, codec=codec)
        combined = merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        assert (combined.n_rows, combined.n_added) == (5300, 300)
        values, names, _ = read_latents(tmp_path / "c.h5")
        before = [read_latents(tmp_path / name)[0] for name in ("a.h5", "b.h5")]
        np.testing.assert_array_equal(values, np.concatenate(before))
        np.testing.assert_array_equal(names, np.concatenate([names_of(5000), names_of(300) + 3 * 4999 + 1]))
        with open_latents(tmp_path / "a.h5") as a, open_latents(tmp_path / "c.h5") as c:
            assert a.header.coding.dtype.itemsize < c.header.coding.dtype.itemsize
            np.testing.assert_array_equal(a.header.coding.step, c.header.coding.step)
            error = np.abs(values - np.concatenate([one, two])).max(axis=0)
            assert (error <= c.header.max_error).all()
            assert [source.identifiers for source in c.header.origin.sources] == ["", 3 * 4999 + 1]

    def test_no_input_is_written_over_and_a_record_beside_is_said(self, tmp_path):
        one, two, out = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "out"
        write(one, values_of(5))
        write(two, values_of(5, seed=1))
        before = one.read_bytes()
        (tmp_path / "link.h5").symlink_to(one)
        for path in (one, tmp_path / "link.h5"):
            with pytest.raises(OptionError, match="would replace what it is made of"):
                merge_latents([one, two], path, overwrite=True)
        assert one.read_bytes() == before
        out.mkdir()
        (out / "selection.json").touch()
        assert merge_latents([one, two], out / "other.h5").notes == ()
        (note,) = merge_latents([one, two], out / "latents.h5").notes
        assert note.startswith("selection.json beside it still tells of the latents before")

    def test_other_steps_are_rounded_again_and_said(self, tmp_path):
        one, two = values_of(500), values_of(400, seed=1)
        write(tmp_path / "a.h5", one)
        write(tmp_path / "b.h5", two, variance=0.02)
        merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        values, _, _ = read_latents(tmp_path / "c.h5")
        original = np.concatenate([one, two])
        with open_latents(tmp_path / "c.h5") as file:
            step = file.header.coding.step
            assert (np.abs(values - original).max(axis=0) <= file.header.max_error).all()
            assert (file.header.max_error > step / 2).all()
        np.testing.assert_array_equal(step, steps_of(tmp_path / "a.h5"))

    def test_lossless_files(self, tmp_path):
        one, two = values_of(500), values_of(400, seed=1)
        write(tmp_path / "a.h5", one, lossless=True)
        write(tmp_path / "b.h5", two, lossless=True)
        merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        np.testing.assert_array_equal(read_latents(tmp_path / "c.h5")[0], np.concatenate([one, two]))

    def test_merging_in_two_steps_gives_the_same_rows(self, tmp_path):
        for k in range(3):
            write(tmp_path / f"{k}.h5", values_of(100 + k, seed=k), names_of(100 + k, "names"))
        files = [tmp_path / f"{k}.h5" for k in range(3)]
        merge_latents(files, tmp_path / "all.h5", prefixes=["a/", "b/", "c/"])
        merge_latents(files[:2], tmp_path / "two.h5", prefixes=["a/", "b/"])
        merge_latents([tmp_path / "two.h5", files[2]], tmp_path / "again.h5", prefixes=["", "c/"])
        one, other = (read_latents(tmp_path / name) for name in ("all.h5", "again.h5"))
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1].tolist() == other[1].tolist()
        with open_latents(tmp_path / "all.h5") as a, open_latents(tmp_path / "again.h5") as b:
            assert a.header.codes_sha256 == b.header.codes_sha256
            assert a.header.origin.sources == b.header.origin.sources
            assert (a.header.max_error == b.header.max_error).all()

    def test_equal_identifiers_are_refused(self, tmp_path):
        write(tmp_path / "a.h5", values_of(20), names_of(20, "names"))
        write(tmp_path / "b.h5", values_of(5), names_of(5, "names"))
        with pytest.raises(
            OptionError, match=r"two images are called.*5 that occur more often; .*--prefix 1/ --prefix 2/\.$"
        ):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        assert not (tmp_path / "c.h5").exists()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"encoder_sha256": "00" * 32}, "encoder with SHA-256"),
            ({"dimensions": (0, 1, 2)}, "dimensions"),
            ({"preprocessing": {"image_shape": [9, 9, 1]}}, "image_shape"),
        ],
    )
    def test_files_that_do_not_belong_together(self, tmp_path, changes, said):
        write(tmp_path / "a.h5", values_of(20))
        write(tmp_path / "b.h5", values_of(20), **changes)
        with pytest.raises(OptionError, match=rf"cannot be put together: expected {said}"):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")

    def test_float_samples_that_were_given_otherwise(self, tmp_path):
        said = ("The float samples lie between 0 and 1 in the first 9 images{}.",)
        ways = (": they are brought from 0 to 1 to -1 to 1", " and are given to the encoder as they are")
        for name, way in zip(("a.h5", "b.h5"), ways, strict=True):
            preprocessing = {"image_shape": [8, 8, 3], "float_samples": [said[0].format(way)]}
            write(tmp_path / name, values_of(20, seed=len(way)), preprocessing=preprocessing)
        with pytest.raises(OptionError, match="cannot be put together: expected float_samples"):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")

    def test_the_same_rows_twice(self, tmp_path):
        for name in ("a.h5", "b.h5"):
            write(tmp_path / name, values_of(20))
        with pytest.raises(OptionError, match=r"would be there twice: .*the same content as /data"):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")

    def test_rows_without_labels_have_nan(self, tmp_path):
        write(tmp_path / "a.h5", values_of(20))
        write(tmp_path / "b.h5", values_of(9, seed=1), labels=np.ones((9, 1)), factors=(("x", "categorical"),))
        combined = merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        assert combined.notes == ("The labels of 20 rows are not known: they are NaN.",)
        with open_latents(tmp_path / "c.h5") as file:
            np.testing.assert_array_equal(file.labels.values[:, 0], [*[np.nan] * 20, *[1.0] * 9])

    def test_names_of_two_kinds(self, tmp_path):
        write(tmp_path / "a.h5", values_of(20))
        write(tmp_path / "b.h5", values_of(20), names_of(20, "names"))
        with pytest.raises(OptionError, match="named differently"):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")

    def test_what_is_there_stays(self, tmp_path):
        for name in ("a.h5", "b.h5", "c.h5"):
            write(tmp_path / name, values_of(20))
        before = (tmp_path / "c.h5").read_bytes()
        with pytest.raises(OutputError, match="already exists"):
            merge_latents([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
        assert (tmp_path / "c.h5").read_bytes() == before


class TestMergedLabels:
    @pytest.fixture
    def merged(self, tmp_path):
        """Merges files; each is given as its labels: by name the kind, the names of classes, and the values."""

        def merge(*files, rows=20):
            for k, columns in enumerate(files):
                options = {}
                if columns:
                    values = [np.resize(np.array(value, float), rows) for _, _, value in columns.values()]
                    options["labels"] = np.stack(values, axis=1)
                    options["factors"] = tuple((name.strip(), kind) for name, (kind, _, _) in columns.items())
                    options["classes"] = tuple(classes for _, classes, _ in columns.values())
                write(tmp_path / f"{k}.h5", values_of(rows, seed=k), **options)
            names = [tmp_path / f"{k}.h5" for k in range(len(files))]
            combined = merge_latents(names, tmp_path / "all.h5")
            with open_latents(tmp_path / "all.h5") as file:
                return file.labels, [note.replace(f"{tmp_path}/", "") for note in combined.notes]

        return merge

    def test_numbers_stay_what_they_are(self, merged):
        one = {"x": ("continuous", None, 0.5), "n": ("categorical", None, 7)}
        two = {"n": ("categorical", None, 8), "x": ("continuous", None, 1.5)}
        labels, notes = merged(one, two)
        assert (labels.names, labels.classes, notes) == (("x", "n"), (None, None), [])
        np.testing.assert_array_equal(labels.values[[0, 19, 20, 39]], [[0.5, 7], [0.5, 7], [1.5, 8], [1.5, 8]])

    def test_classes_are_matched_by_name(self, merged):
        one = {"kind": ("categorical", ("long", "round"), [0, 1, np.nan])}
        two = {"kind": ("categorical", ("flat", "round", "\udce9"), [0, 1, 2, np.nan])}
        labels, notes = merged(one, two, rows=5000)
        assert (labels.classes, notes) == ((("long", "round", "flat", "\udce9"),), [])
        expected = np.concatenate([np.resize([0, 1, np.nan], 5000), np.resize([2, 1, 3, np.nan], 5000)])
        np.testing.assert_array_equal(labels.values[:, 0], expected)

    def test_only_the_columns_that_do_not_fit_are_left_out_and_said(self, merged):
        text = ("categorical", ("a", "b"), [0, 1])
        one = {"kind": text, "mixed": text, "age": ("continuous", None, 1), "hue": ("circular", None, 1), "old": text}
        two = {
            "mixed": ("categorical", None, 1),
            "kind": ("categorical", ("b", "a"), [0, 1]),
            "hue": ("continuous", None, 1),
            "weight": ("continuous", None, 1),
            "old": ("categorical", (), 1),
        }
        labels, notes = merged(one, two)
        assert (labels.names, labels.classes) == (("kind",), (("a", "b"),))
        np.testing.assert_array_equal(labels.values[:, 0], [*np.resize([0, 1], 20), *np.resize([1, 0], 20)])
        assert notes == [
            "The label mixed is left out: 0.h5 has classes of text, 1.h5 has categorical numbers.",
            "The label age is left out: 0.h5 has continuous numbers, 1.h5 has no label of that name.",
            "The label hue is left out: 0.h5 has circular numbers, 1.h5 has continuous numbers.",
            "The label old is left out: 0.h5 has classes of text, 1.h5 has classes without names.",
            "The label weight is left out: 0.h5 has no label of that name, 1.h5 has continuous numbers.",
        ]

    def test_classes_without_names_are_never_taken_for_each_other(self, merged):
        labels, notes = merged(*[{"kind": ("categorical", (), 1)}] * 2)
        assert labels is None
        assert notes == ["The label kind is left out: no file says what its classes are called."]

    def test_files_without_labels_between_others(self, merged):
        labels, notes = merged({}, {"k": ("categorical", ("a",), 0)}, {}, {"k": ("categorical", ("b", "a"), [0, 1])})
        assert labels.classes == (("a", "b"),)
        parts = [[np.nan] * 20, [0] * 20, [np.nan] * 20, np.resize([1, 0], 20)]
        np.testing.assert_array_equal(labels.values[:, 0], np.concatenate(parts))
        assert notes == ["The labels of 40 rows are not known: they are NaN."]

    def test_labels_of_the_same_name(self, merged):
        # As a file of HDF5 may name its columns; the strip makes two of one name.
        one = {"k": ("continuous", None, 1), "k ": ("continuous", None, 2)}
        labels, notes = merged(one, {"k": ("continuous", None, 3)})
        assert (labels.names, labels.values[[0, 39], 0].tolist()) == (("k",), [1, 3])
        assert notes == ["The label k is left out: 0.h5 has continuous numbers, 1.h5 has no label of that name."]

    def test_more_names_than_are_kept(self, merged):
        files = [{"k": ("categorical", tuple(f"{k}-{i}" for i in range(600)), 5)} for k in range(2)]
        labels, notes = merged(*files)
        assert (labels.classes, labels.values[[0, 39], 0].tolist()) == (((),), [5, 605])
        assert notes[0].startswith("The classes of k are numbered, their names left out: names are kept of up to 1,000")


@pytest.fixture
def encoder(tmp_path):
    return Linear(4, second="logvar", constant=[-3.0, 0.0, -3.0, -3.0]).save(
        tmp_path / "encoder.onnx", nan_where_white=True
    )


class TestAppend:
    def test_new_images_are_encoded_as_the_old_ones(self, tmp_path, as_pngs, encoder):
        images = images_of(60)
        old, new = as_pngs(tmp_path / "old", images[:40]), as_pngs(tmp_path / "new", images[40:])
        select_latents(encoder, old, tmp_path / "out")
        before, names, dimensions = read_latents(tmp_path / "out")
        combined = append_latents(tmp_path / "out", new, encoder, prefix="new/")
        assert (combined.n_rows, combined.n_added, combined.n_rejected) == (60, 20, 0)
        values, after, same = read_latents(tmp_path / "out")
        np.testing.assert_array_equal(values[:40], before)
        assert after.tolist() == [*names.tolist(), *(b"new/%05d.png" % k for k in range(20))]
        np.testing.assert_array_equal(dimensions, same)
        select_latents(
            encoder, new, tmp_path / "alone", storing=StoreOptions(lossless=True), selection=tmp_path / "out"
        )
        mu = read_latents(tmp_path / "alone")[0]
        np.testing.assert_array_equal(values[40:], expected_on(tmp_path / "out", mu))
        assert not (tmp_path / "out/latents.h5.append").exists()

    def test_a_value_outside_widens_the_codes(self, tmp_path, as_h5, encoder):
        images = images_of(50)
        select_latents(encoder, as_h5(tmp_path / "a.h5", images // 8), tmp_path / "out")
        with open_latents(tmp_path / "out") as file:
            low, high = file.to_numpy().min(0), file.to_numpy().max(0)
        append_latents(tmp_path / "out", as_h5(tmp_path / "b.h5", images), encoder, output=tmp_path / "more.h5")
        values, names, _ = read_latents(tmp_path / "more.h5")
        assert ((values < low - 1) | (values > high + 1)).any()
        assert names.tolist() == list(range(100))
        assert len(read_latents(tmp_path / "out")[0]) == 50

    def test_float_samples_are_scaled_as_those_of_the_file_were(self, tmp_path, as_h5):
        linear = Linear(4, second="logvar", constant=[-3.0, 0.0, -3.0, -3.0])
        encoder = linear.save(tmp_path / "e.onnx", metadata=None, sample_type="float32")
        images = (images_of(60) / 255).astype(np.float32)
        old, new = as_h5(tmp_path / "a.h5", images[:40]), as_h5(tmp_path / "b.h5", images[40:] / 2)
        options = {"input_options": InputOptions(low=-1.0, high=1.0), "storing": StoreOptions(lossless=True)}
        select_latents(encoder, old, tmp_path / "out", **options)
        append_latents(tmp_path / "out", new, encoder)
        both = as_h5(tmp_path / "c.h5", np.concatenate([images[:40], images[40:] / 2]))
        select_latents(encoder, both, tmp_path / "both", selection=tmp_path / "out", **options)
        np.testing.assert_array_equal(read_latents(tmp_path / "out")[0], read_latents(tmp_path / "both")[0])

    def test_an_interrupted_run_goes_on(self, tmp_path, as_h5, encoder):
        select_latents(encoder, as_h5(tmp_path / "a.h5", images_of(50)), tmp_path / "out")
        before = (tmp_path / "out/latents.h5").read_bytes()
        data = as_h5(tmp_path / "b.h5", images_of(3000, seed=1))

        def stop(progress):
            if progress.done > 2000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            append_latents(tmp_path / "out", data, encoder, workers=1, on_progress=stop)
        assert (tmp_path / "out/latents.h5").read_bytes() == before
        plans = []
        append_latents(tmp_path / "out", data, encoder, on_plan=plans.append)
        assert plans[0].n_done >= 1024
        assert len(read_latents(tmp_path / "out")[0]) == 3050

    def test_two_at_a_time_never_lose_rows(self, tmp_path, as_pngs, encoder, monkeypatch):
        """Another one that comes while the first has the file open is refused, rather than written over."""
        for name, start in (("old", 0), ("a", 20), ("b", 40)):
            as_pngs(tmp_path / name, images_of(60)[start : start + 20])
        select_latents(encoder, tmp_path / "old", tmp_path / "out")
        opening, refused = combining.open_pass, []

        def meanwhile(*arguments):
            if not refused:
                refused.append(True)
                with pytest.raises(OutputError, match="is in use"):
                    append_latents(tmp_path / "out", tmp_path / "b", encoder, prefix="b/")
            return opening(*arguments)

        monkeypatch.setattr(combining, "open_pass", meanwhile)
        append_latents(tmp_path / "out", tmp_path / "a", encoder, prefix="a/")
        append_latents(tmp_path / "out", tmp_path / "b", encoder, prefix="b/")
        names = read_latents(tmp_path / "out")[1].tolist()
        assert refused
        assert len(names) == 60
        assert [name[:2] for name in names[20:]] == [b"a/"] * 20 + [b"b/"] * 20

    def test_rejected_images_are_named(self, tmp_path, as_h5, encoder):
        select_latents(encoder, as_h5(tmp_path / "a.h5", images_of(50)), tmp_path / "out")
        images = images_of(10, seed=1)
        images[3].reshape(-1)[-1] = 255
        combined = append_latents(tmp_path / "out", as_h5(tmp_path / "b.h5", images), encoder)
        assert (combined.n_added, combined.n_rejected) == (9, 1)
        assert json.loads(combined.rejected.read_text())["index"] == 3
        images[:] = 255
        with pytest.raises(DatasetError, match="no image of"):
            append_latents(tmp_path / "out", as_h5(tmp_path / "c.h5", images), encoder)
        assert len(read_latents(tmp_path / "out")[0]) == 59

    def test_another_encoder_or_the_same_images_are_refused(self, tmp_path, as_pngs, encoder):
        data = as_pngs(tmp_path / "old", images_of(20))
        select_latents(encoder, data, tmp_path / "out")
        other = Linear(4, second="logvar", seed=9).save(tmp_path / "other.onnx")
        with pytest.raises(ContractError, match="is not the encoder that made"):
            append_latents(tmp_path / "out", data, other)
        with pytest.raises(OptionError, match=r"are in .*latents\.h5 already"):
            append_latents(tmp_path / "out", data, encoder)
        new = as_pngs(tmp_path / "new", images_of(9, seed=1))
        with pytest.raises(
            OptionError, match=r"two images are called 00000.png: .*found 9 that.*; .* --prefix 2025/\.$"
        ):
            append_latents(tmp_path / "out", new, encoder)
        assert not (tmp_path / "out/latents.h5.append").exists()
        append_latents(tmp_path / "out", new, encoder, prefix="new/")
        with pytest.raises(OptionError, match="already"):
            append_latents(tmp_path / "out", new, encoder, prefix="new/")
        assert len(read_latents(tmp_path / "out")[0]) == 29

    def test_row_numbers_never_hide_that_images_come_twice(self, tmp_path, as_h5, encoder, monkeypatch):
        old, new = as_h5(tmp_path / "a.h5", images_of(50)), as_h5(tmp_path / "b.h5", images_of(20, seed=1))
        select_latents(encoder, old, tmp_path / "out")
        monkeypatch.setattr(ShardFolder, "remove", lambda _: None)  # as where it ends before
        append_latents(tmp_path / "out", new, encoder)
        monkeypatch.undo()
        work = tmp_path / "out/latents.h5.append"
        assert work.exists()
        for data in (old, new):
            with pytest.raises(OptionError, match=f"the images of .*{data.name} are in .* already"):
                append_latents(tmp_path / "out", data, encoder)
        assert not work.exists()
        assert len(read_latents(tmp_path / "out")[0]) == 70
        select_latents(encoder, new, tmp_path / "new")
        with pytest.raises(OptionError, match=r"b\.h5 would be there twice"):
            merge_latents([tmp_path / "out", tmp_path / "new"], tmp_path / "all.h5")

    def test_labels_stay_and_those_of_new_images_are_unknown(self, tmp_path, as_pngs, encoder):
        images = images_of(30)
        old, new = as_pngs(tmp_path / "old", images[:20]), as_pngs(tmp_path / "new", images[20:])
        lines = [f"{k:05d}.png,{'ab'[k % 2]},{k + 0.25}" for k in range(20)]
        (tmp_path / "labels.csv").write_text("\n".join(["path,kind,age", *lines]))
        select_latents(encoder, old, tmp_path / "out", labels=tmp_path / "labels.csv")
        with open_latents(tmp_path / "out") as file:
            before = file.labels
        combined = append_latents(tmp_path / "out", new, encoder, prefix="new/")
        assert any("labels of 10 rows are not known" in note for note in combined.notes)
        assert any("selection.json beside it" in note for note in combined.notes)
        with open_latents(tmp_path / "out") as file:
            assert file.header.factors == tuple(zip(before.names, ("categorical", "continuous"), strict=True))
            assert file.classes == {"kind": ("a", "b")}
            np.testing.assert_array_equal(file.labels.values[:20], before.values)
            assert np.isnan(file.labels.values[20:]).all()

    def test_shards_of_another_append_go_with_overwrite_only(self, tmp_path, as_h5, encoder):
        select_latents(encoder, as_h5(tmp_path / "a.h5", images_of(50)), tmp_path / "out")

        def stop(progress):
            if progress.done > 2000:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            append_latents(
                tmp_path / "out",
                as_h5(tmp_path / "b.h5", images_of(3000, seed=1)),
                encoder,
                workers=1,
                on_progress=stop,
            )
        other = as_h5(tmp_path / "c.h5", images_of(20, seed=2))
        with pytest.raises(OutputError, match=r"unfinished result of another.*--overwrite"):
            append_latents(tmp_path / "out", other, encoder)
        append_latents(tmp_path / "out", other, encoder, overwrite=True)
        assert len(read_latents(tmp_path / "out")[0]) == 70

    def test_no_input_is_written_over(self, tmp_path, as_h5, encoder):
        old, new = as_h5(tmp_path / "a.h5", images_of(50)), as_h5(tmp_path / "b.h5", images_of(20, seed=1))
        select_latents(encoder, old, tmp_path / "out")
        for path in (new, encoder, old, tmp_path / "out/latents.h5"):
            before = path.read_bytes()
            with pytest.raises(OptionError, match="would replace what it is made of"):
                append_latents(tmp_path / "out", new, encoder, output=path, overwrite=True)
            assert path.read_bytes() == before

    def test_a_lossless_file_states_no_error(self, tmp_path, as_h5, encoder):
        old, new = as_h5(tmp_path / "a.h5", images_of(50)), as_h5(tmp_path / "b.h5", images_of(20, seed=1))
        select_latents(encoder, old, tmp_path / "out", storing=StoreOptions(lossless=True))
        append_latents(tmp_path / "out", new, encoder)
        with open_latents(tmp_path / "out") as file:
            assert not file.header.max_error.any()
