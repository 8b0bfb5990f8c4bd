import dataclasses
import json
import math
import os
import shutil
import threading

import h5py
import numpy as np
import pytest
from inference.graphs import Linear, images_of
from latent_files import read_latents, steps_of

import ngvae_tools
from ngvae_tools import select_latents
from ngvae_tools.analysis import covariance as metrics
from ngvae_tools.analysis.selection import RULES
from ngvae_tools.errors import ContractError, DatasetError, NgvaeToolsError, OptionError, OutputError
from ngvae_tools.inference.session import HeadNames, InputOptions
from ngvae_tools.posteriors import NormalGammaPosterior
from ngvae_tools.record import AnalysisRecord

FILES = ["latents.h5", "selection.json"]


@pytest.fixture
def linear():
    return Linear()


@pytest.fixture
def encoder(tmp_path, linear):
    return linear.save(tmp_path / "encoder.onnx", nan_where_white=True)


def codes_of(folder):
    with h5py.File(folder / "latents.h5") as file:
        return file["codes"][:], file["scale"][:], file["offset"][:], file["identifiers"][:]


def rejected_lines(folder):
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]


def same_but_for_timings(one, other):
    texts = [json.loads((folder / "selection.json").read_text()) for folder in (one, other)]
    for text in texts:
        text.pop("timings")
    return texts[0] == texts[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained network of the paper's shape, exported: its sums do depend on their order."""
    import torch

    from exporters.networks import export_model
    from ngvae_tools.contract import InputScale
    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.model import VariationalAutoencoder

    folder = tmp_path_factory.mktemp("trained")
    model = VariationalAutoencoder(TrainingConfig(latent_dim=5), (16, 16, 3), InputScale())
    with torch.no_grad():
        model.encoder.heads.weight[:5] *= 300
    export_model(model, folder / "encoder.onnx", folder / "decoder.onnx", sample_type="uint8")
    return folder / "encoder.onnx"


@pytest.fixture(scope="module")
def reference(trained, tmp_path_factory):
    from ngvae_tools.datasets import write_sprites

    folder = tmp_path_factory.mktemp("reference")
    write_sprites(folder / "d.h5", images=2500, size=16)
    select_latents(trained, folder / "d.h5", folder / "out", rule="variance", threshold=10.0, batch_size=32)
    assert codes_of(folder / "out")[0].shape == (2500, 5)
    assert len(np.unique(codes_of(folder / "out")[0][:, 0])) > 1
    return folder


class TestKnownAnswer:
    @pytest.fixture
    def analysed(self, tmp_path, as_h5, linear, encoder):
        images = images_of(1500)
        record = select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        mu, p = linear.heads(images)
        return record, mu, p, tmp_path / "out"

    def test_moments(self, analysed):
        record, mu, p, _ = analysed
        rows = record.dimensions
        np.testing.assert_allclose([row.mu_mean for row in rows], mu.mean(0), rtol=1e-13)
        np.testing.assert_allclose([row.mu_variance for row in rows], mu.var(0, ddof=1), rtol=1e-12)
        np.testing.assert_allclose(record.covariance, np.cov(mu.T), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([row.p_mean for row in rows], p.mean(0), rtol=1e-13)
        np.testing.assert_allclose([row.p_std for row in rows], p.std(0, ddof=1), rtol=1e-12)

    def test_posterior_variance_is_that_of_the_family(self, analysed):
        record, _, p, _ = analysed
        # Eq. 5 with the paper's laws, written out once more.
        family = NormalGammaPosterior()
        weight = 1 / (1 + np.exp(-family.slope * (p - 0.5)))
        alpha, beta = (
            getattr(family.informative, name) * (1 - weight) + getattr(family.uninformative, name) * weight
            for name in ("alpha", "beta")
        )
        found = [row.posterior_variance for row in record.dimensions]
        np.testing.assert_allclose(found, (beta / (alpha - 1)).mean(0), rtol=1e-12)

    def test_verdicts_of_the_rules(self, analysed):
        record, _, p, _ = analysed
        assert record.selection.rule == "p"
        threshold = NormalGammaPosterior().rest_p / 2
        assert record.selection.threshold == threshold
        assert record.selection.indices == tuple(np.flatnonzero(p.mean(0) < threshold)) != ()
        assert [row.informative for row in record.dimensions] == (p.mean(0) < threshold).tolist()
        assert [rule.rule for rule in record.rules] == list(RULES)
        variance = next(rule for rule in record.rules if rule.rule == "variance")
        assert variance.informative == tuple(row.posterior_variance < 0.5 for row in record.dimensions)

    def test_metrics_are_those_of_the_covariance(self, analysed):
        record, mu, _, _ = analysed
        covariance = np.cov(mu.T)
        diagonal = np.diag(covariance)
        share = diagonal / diagonal.sum()
        off = covariance - np.diag(diagonal)
        found = record.metrics
        assert found.entropy == pytest.approx(-(share * np.log(share)).sum(), rel=1e-10)
        assert found.decorrelation == pytest.approx(diagonal.sum() / np.abs(off).sum(), rel=1e-9)
        assert found.decorrelation_signed == pytest.approx(diagonal.sum() / off.sum(), rel=1e-9)
        total = (np.log(diagonal).sum() - np.linalg.slogdet(covariance)[1]) / 2
        assert found.total_correlation == pytest.approx(total, rel=1e-9)
        assert found.total_correlation == pytest.approx(metrics.total_correlation(covariance), rel=1e-9)

    def test_latents_decode_to_within_half_a_step(self, analysed):
        record, mu, _, folder = analysed
        values, identifiers, dimensions = read_latents(folder / "latents.h5")
        kept = list(record.selection.indices)
        assert dimensions.tolist() == kept == list(record.latents.dimensions)
        np.testing.assert_array_equal(identifiers, np.arange(1500))
        step = steps_of(folder)
        error = np.abs(values - mu[:, kept]) / step
        assert error.max() <= 0.5 + 1e-9
        assert error.max() > 0.4
        variance = np.array([record.dimensions[k].posterior_variance for k in kept])
        np.testing.assert_allclose(step**2 / 12, 0.01 * variance, rtol=1e-5)

    def test_the_record_equals_the_file(self, analysed):
        record, _, _, folder = analysed
        assert AnalysisRecord.read(folder) == record
        assert (folder / "selection.json").read_text() == record.to_json()
        assert record.data.n_images == 1500
        assert record.latents.bytes == (folder / "latents.h5").stat().st_size

    def test_a_gaussian_encoder(self, tmp_path, as_h5):
        linear = Linear(3, second="logvar", constant=[math.log(0.25), math.log(0.75), 0.0])
        images = images_of(50)
        record = select_latents(linear.save(tmp_path / "e.onnx"), as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert record.selection.rule == "variance"
        assert record.selection.indices == (0,)
        assert [row.p_mean for row in record.dimensions] == [None] * 3
        found = [row.posterior_variance for row in record.dimensions]
        np.testing.assert_allclose(found, [0.25, 0.75, 1.0], rtol=1e-6)
        with pytest.raises(OptionError, match="--rule variance"):
            select_latents(tmp_path / "e.onnx", tmp_path / "d.h5", tmp_path / "other", rule="p")

    def test_threshold_and_rule_are_applied(self, tmp_path, as_h5):
        linear = Linear(4, constant=[0.125, 0.25, 0.375, 0.75])
        data = as_h5(tmp_path / "d.h5", images_of(20))
        record = select_latents(linear.save(tmp_path / "e.onnx"), data, tmp_path / "out", threshold=0.3)
        assert record.selection.indices == (0, 1)
        assert [row.p_std for row in record.dimensions] == [0.0] * 4
        with pytest.raises(OptionError, match="--threshold"):
            select_latents(tmp_path / "e.onnx", data, tmp_path / "other", threshold=1.0)


class TestSameResult:
    """The same latents and the same record, whatever the work was cut into."""

    @pytest.mark.parametrize("workers", [1, 2])
    @pytest.mark.parametrize("batch_size", [1, 7, 1000])
    def test_any_batch_and_any_number_of_workers(self, trained, reference, tmp_path, batch_size, workers):
        select_latents(
            trained,
            reference / "d.h5",
            tmp_path / "out",
            rule="variance",
            threshold=10.0,
            batch_size=batch_size,
            workers=workers,
        )
        assert (tmp_path / "out" / "latents.h5").read_bytes() == (reference / "out" / "latents.h5").read_bytes()
        assert same_but_for_timings(tmp_path / "out", reference / "out")

    @pytest.mark.parametrize("count", [1, 1023, 1024, 1025])
    def test_across_the_borders_of_blocks(self, trained, reference, tmp_path, as_h5, count):
        with h5py.File(reference / "d.h5") as file:
            data = as_h5(tmp_path / "d.h5", file["images"][:count])
        for name, batch_size in (("one", 7), ("other", 512)):
            record = select_latents(
                trained, data, tmp_path / name, rule="variance", threshold=10.0, batch_size=batch_size
            )
            assert record.data.n_images == count
        assert (tmp_path / "one/latents.h5").read_bytes() == (tmp_path / "other/latents.h5").read_bytes()
        assert same_but_for_timings(tmp_path / "one", tmp_path / "other")
        values, identifiers, _ = read_latents(tmp_path / "one/latents.h5")
        whole, _, _ = read_latents(reference / "out/latents.h5")
        np.testing.assert_array_equal(identifiers, np.arange(count))
        step = codes_of(tmp_path / "one")[1]
        assert (np.abs(values - whole[:count]) <= 1.01 * step).all()

    def test_a_folder_and_an_hdf5_file_of_the_same_images(self, run, sprites, sprite_folder, tmp_path):
        one = select_latents(run.encoder, sprites, tmp_path / "one")
        other = select_latents(run.encoder, sprite_folder, tmp_path / "other")
        for ours, theirs in zip(codes_of(tmp_path / "one")[:3], codes_of(tmp_path / "other")[:3], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        names = codes_of(tmp_path / "other")[3]
        assert names.tolist() == [b"%05d.png" % k for k in range(200)]
        assert (one.data.kind, other.data.kind) == ("hdf5", "folder")
        for name in ("selection", "rules", "dimensions", "covariance", "metrics", "notes"):
            assert getattr(one, name) == getattr(other, name)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_rejected_images_spread_over_blocks(self, tmp_path, as_h5, linear, encoder, workers):
        images = images_of(2500)
        bad = [0, 1, 1022, 1023, 1024, 2047, 2048, 2499]
        images[bad, -1, -1, -1] = 255
        good = np.setdiff1d(np.arange(2500), bad)
        data = as_h5(tmp_path / "d.h5", images)
        record = select_latents(encoder, data, tmp_path / "out", batch_size=7, workers=workers)
        assert record.data.n_images == 2500
        assert record.data.n_rejected == len(bad)
        assert [line["index"] for line in rejected_lines(tmp_path / "out")] == bad
        values, identifiers, dimensions = read_latents(tmp_path / "out/latents.h5")
        assert len(values) + record.data.n_rejected == 2500
        np.testing.assert_array_equal(identifiers, good)
        mu, _ = linear.heads(images[good])
        assert (np.abs(values - mu[:, dimensions]) <= steps_of(tmp_path / "out") * (0.5 + 1e-9)).all()
        np.testing.assert_allclose(record.covariance, np.cov(mu.T), rtol=1e-10, atol=1e-12)
        again = select_latents(encoder, data, tmp_path / "again", batch_size=1000)
        assert again.equal_but_for_timings(record)
        for name in (*FILES[:1], "rejected.jsonl"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()

    def test_a_whole_block_of_rejected_images(self, tmp_path, as_h5, encoder):
        images = images_of(3000)
        images[1024:2048, -1, -1, -1] = 255
        record = select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert record.data.n_rejected == 1024
        expected = np.r_[0:1024, 2048:3000]
        np.testing.assert_array_equal(read_latents(tmp_path / "out/latents.h5")[1], expected)


class TestIdentifiersAndRejections:
    def test_rejections_say_which_and_why(self, tmp_path, as_pngs, encoder):
        images = images_of(6)
        images[2, -1, -1, -1] = 255
        folder = as_pngs(tmp_path / "d", images)
        (folder / "00004.png").write_bytes(b"broken")
        as_pngs(folder / "sub", images_of(1, (8, 8, 3)))
        record = select_latents(encoder, folder, tmp_path / "out")
        lines = rejected_lines(tmp_path / "out")
        assert [(line["index"], line["id"]) for line in lines] == [
            (2, "00002.png"),
            (4, "00004.png"),
            (6, "sub/00000.png"),
        ]
        assert "not finite" in lines[0]["reason"]
        assert "height 8, width 8" in lines[2]["reason"]
        assert "--resize" in lines[2]["reason"]
        assert (record.data.n_images, record.data.n_rejected) == (7, 3)
        assert [(r.reason.split(" ")[:3], r.count, r.example) for r in record.rejections] == [
            (["makes", "the", "encoder"], 1, "00002.png"),
            (["is", "not", "an"], 1, "00004.png"),
            (["is", "of", "another"], 1, "sub/00000.png"),
        ]
        assert read_latents(tmp_path / "out/latents.h5")[1].tolist() == [
            b"00000.png",
            b"00001.png",
            b"00003.png",
            b"00005.png",
        ]

    def test_names_that_are_not_utf8(self, tmp_path, as_pngs, encoder):
        images = images_of(4)
        images[3, -1, -1, -1] = 255
        folder = as_pngs(tmp_path / "d", images)
        names = [b"a-\xff.png", b"\xe4\xf6.png"]
        (folder / "00001.png").rename(folder / os.fsdecode(names[0]))
        (folder / "00003.png").rename(folder / os.fsdecode(names[1]))
        record = select_latents(encoder, folder, tmp_path / "out")
        assert read_latents(tmp_path / "out/latents.h5")[1].tolist() == [b"00000.png", b"00002.png", names[0]]
        assert [os.fsencode(line["id"]) for line in rejected_lines(tmp_path / "out")] == [names[1]]
        assert AnalysisRecord.read(tmp_path / "out") == record

    def test_a_float_image_with_nan_is_rejected_alone(self, tmp_path, as_h5, linear):
        path = linear.save(tmp_path / "e.onnx", sample_type="float32")
        images = images_of(9).astype(np.float32)
        images[4, 0, 0, 0] = np.nan
        images[5, 0, 0, 0] = np.inf
        record = select_latents(path, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert record.data.n_rejected == 2
        assert [line["id"] for line in rejected_lines(tmp_path / "out")] == ["4", "5"]

    def test_nothing_rejected_writes_no_list(self, tmp_path, as_h5, encoder, listed):
        select_latents(encoder, as_h5(tmp_path / "d.h5", images_of(3)), tmp_path / "out")
        assert listed(tmp_path / "out") == FILES


class TestEdges:
    def test_nothing_informative_writes_an_empty_valid_file(self, tmp_path, as_h5):
        linear = Linear(3, constant=0.75)
        data = as_h5(tmp_path / "d.h5", images_of(30))
        record = select_latents(linear.save(tmp_path / "e.onnx"), data, tmp_path / "out")
        assert record.selection.indices == record.latents.dimensions == ()
        values, identifiers, dimensions = read_latents(tmp_path / "out/latents.h5")
        assert values.shape == (30, 0)
        assert len(identifiers) == 30
        assert len(dimensions) == 0
        assert AnalysisRecord.read(tmp_path / "out") == record

    def test_one_dimension(self, tmp_path, as_h5):
        data = as_h5(tmp_path / "d.h5", images_of(30))
        record = select_latents(Linear(1).save(tmp_path / "e.onnx"), data, tmp_path / "out")
        assert record.metrics.decorrelation is None
        assert record.metrics.total_correlation == 0
        assert any("decorrelation" in note and "not defined" in note for note in record.notes)
        assert "NaN" not in record.to_json()

    def test_one_image(self, tmp_path, as_h5, linear, encoder):
        images = images_of(1)
        record = select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert record.covariance is None
        assert set(dataclasses.astuple(record.metrics)) == {None}
        assert any("at least two images" in note for note in record.notes)
        assert [row.mu_mean for row in record.dimensions] == linear.heads(images)[0][0].tolist()
        assert [row.p_std for row in record.dimensions] == [None] * 3
        assert AnalysisRecord.read(tmp_path / "out") == record

    def test_one_image_left_of_many(self, tmp_path, as_h5, encoder):
        images = images_of(40)
        images[:39, -1, -1, -1] = 255
        record = select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out")
        assert record.data.n_rejected == 39
        assert record.covariance is None

    def test_equal_images(self, tmp_path, as_h5, encoder):
        data = as_h5(tmp_path / "d.h5", np.repeat(images_of(1), 20, axis=0))
        record = select_latents(encoder, data, tmp_path / "out")
        assert record.metrics.entropy is None
        assert any("entropy" in note and "not defined" in note for note in record.notes)
        assert AnalysisRecord.read(tmp_path / "out") == record

    @pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"workers": 0}])
    def test_counts_below_one_are_refused(self, tmp_path, as_h5, encoder, options, listed):
        with pytest.raises(OptionError, match="above 0"):
            select_latents(encoder, as_h5(tmp_path / "d.h5", images_of(3)), tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    def test_a_foreign_model_and_its_notes(self, tmp_path, as_h5, linear):
        path = linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("m", "s"))
        images = images_of(30)
        record = select_latents(
            path,
            as_h5(tmp_path / "d.h5", images),
            tmp_path / "out",
            heads=HeadNames("m", "s"),
            input_options=InputOptions(low=0, high=255),
        )
        assert any("no ngvae_tools metadata" in note for note in record.notes)
        mu = linear.heads(images)[0]
        np.testing.assert_allclose([row.mu_mean for row in record.dimensions], mu.mean(0), atol=1e-4)

    def test_progress_is_told_after_every_piece(self, tmp_path, as_h5, encoder):
        images = images_of(2500)
        images[[5, 2000], -1, -1, -1] = 255
        told = []
        select_latents(encoder, as_h5(tmp_path / "d.h5", images), tmp_path / "out", on_progress=told.append)
        done = [p.done for p in told]
        assert len(told) == 10
        assert done == sorted(set(done))
        assert (told[-1].done, told[-1].rejected, told[-1].total) == (2500, 2, 2500)

    def test_without_an_output_it_is_named_after_model_and_data(self, tmp_path, as_h5, encoder, monkeypatch):
        monkeypatch.chdir(tmp_path)
        select_latents("encoder.onnx", as_h5(tmp_path / "cats.h5", images_of(5)))
        assert sorted(path.name for path in (tmp_path / "encoder-cats").iterdir()) == FILES

    def test_the_library_offers_it(self):
        assert ngvae_tools.select_latents is select_latents


class TestOutput:
    @pytest.fixture
    def data(self, tmp_path, as_h5):
        return as_h5(tmp_path / "d.h5", images_of(20))

    def test_a_finished_result_is_refused_unless_replaced(self, tmp_path, as_h5, encoder, data, listed):
        first = select_latents(encoder, data, tmp_path / "out")
        with pytest.raises(OutputError, match="--overwrite"):
            select_latents(encoder, data, tmp_path / "out")
        assert AnalysisRecord.read(tmp_path / "out") == first
        images = images_of(30, seed=9)
        images[3, -1, -1, -1] = 255
        second = select_latents(encoder, as_h5(tmp_path / "e.h5", images), tmp_path / "out", overwrite=True)
        assert AnalysisRecord.read(tmp_path / "out") == second
        assert len(read_latents(tmp_path / "out/latents.h5")[0]) == 29
        assert listed(tmp_path / "out") == ["latents.h5", "rejected.jsonl", "selection.json"]
        select_latents(encoder, data, tmp_path / "out", overwrite=True)
        assert listed(tmp_path / "out") == FILES

    def failing(self, kind, tmp_path, as_h5):
        """Model and data of a run that fails late, or at once."""
        white = images_of(1500)
        white[:, -1, -1, -1] = 255
        bad = Linear()
        bad.second_weight *= 4
        if kind == "every image is rejected":
            return tmp_path / "encoder.onnx", as_h5(tmp_path / "bad.h5", white), DatasetError
        if kind == "p is no probability":
            return bad.save(tmp_path / "bad.onnx"), as_h5(tmp_path / "bad.h5", images_of(1500)), ContractError
        return tmp_path / "encoder.onnx", tmp_path / "none.h5", DatasetError

    @pytest.mark.parametrize("kind", ["every image is rejected", "p is no probability", "no data"])
    def test_a_failed_run_leaves_nothing(self, tmp_path, as_h5, encoder, kind):
        model, data, error = self.failing(kind, tmp_path, as_h5)
        with pytest.raises(error):
            select_latents(model, data, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("kind", ["every image is rejected", "p is no probability", "no data"])
    def test_a_failed_run_leaves_an_old_result_untouched(self, tmp_path, as_h5, encoder, data, kind, listed):
        select_latents(encoder, data, tmp_path / "out")
        (tmp_path / "out" / "mine.txt").write_text("mine")
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        model, bad, error = self.failing(kind, tmp_path, as_h5)
        with pytest.raises(error):
            select_latents(model, bad, tmp_path / "out", overwrite=True)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    def test_a_folder_that_was_there_stays(self, tmp_path, encoder):
        (tmp_path / "out").mkdir()
        with pytest.raises(DatasetError):
            select_latents(encoder, tmp_path / "none.h5", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_parents_made_for_nothing_are_taken_away_and_others_stay(self, tmp_path, as_h5, encoder):
        (tmp_path / "mine").mkdir()
        images = images_of(1500)
        images[:, -1, -1, -1] = 255
        bad = as_h5(tmp_path / "bad.h5", images)
        with pytest.raises(DatasetError):
            select_latents(encoder, bad, tmp_path / "mine/a/b/out")
        assert list((tmp_path / "mine").iterdir()) == []

    def test_parts_of_a_killed_run_are_cleaned(self, tmp_path, encoder, data, listed):
        out = tmp_path / "out"
        out.mkdir()
        (out / "shards").mkdir()
        for name in ("shards/000000.npz", "latents.h5", "rejected.jsonl", "selection.json"):
            (out / f"{name}.part").write_bytes(b'{"index": 0, "id": "0", "reason": "of another run"}\n' * 999)
        record = select_latents(encoder, data, out)
        assert listed(out) == FILES
        assert record.data.n_rejected == 0

    def test_a_caller_that_fails_leaves_finished_shards_at_most(self, tmp_path, as_h5, encoder):
        def on_progress(_):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            select_latents(
                encoder, as_h5(tmp_path / "d.h5", images_of(5000)), tmp_path / "out", on_progress=on_progress
            )
        left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert all(name == "plan.json" or name.endswith(".npz") for name in left)
        assert not [t for t in threading.enumerate() if t.name.startswith("encode")]

    @pytest.mark.parametrize("name", ["latents.h5", "rejected.jsonl", "selection.json"])
    def test_a_file_of_someone_else_is_not_replaced(self, tmp_path, encoder, data, name):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text("mine")
        with pytest.raises(OutputError, match="--overwrite"):
            select_latents(encoder, data, tmp_path / "out")
        assert (tmp_path / "out" / name).read_text() == "mine"
        assert len(list((tmp_path / "out").iterdir())) == 1

    def test_the_most_frequent_reason_is_the_one_that_is_named(self, tmp_path, encoder, as_pngs):
        folder = as_pngs(tmp_path / "d", np.zeros((6, 20, 20, 3), np.uint8))
        (folder / "00000.png").write_bytes(b"broken")
        with pytest.raises(DatasetError, match=r"6 of 6 unfit: 5 are of another size .* \(5\): height 20.*--resize"):
            select_latents(encoder, folder, tmp_path / "out")

    def test_a_folder_of_mostly_unfit_images_still_gives_a_result(self, tmp_path, encoder, as_pngs):
        folder = as_pngs(tmp_path / "d", images_of(200))
        for name in sorted(path.name for path in folder.iterdir())[:-1]:
            (folder / name).write_bytes(b"broken")
        record = select_latents(encoder, folder, tmp_path / "out")
        assert (record.data.n_images, record.data.n_rejected) == (200, 199)

    def test_a_file_in_the_place_of_the_folder(self, tmp_path, encoder, data):
        (tmp_path / "out").write_text("mine")
        for output in (tmp_path / "out", data):
            with pytest.raises(NgvaeToolsError, match=r"found (a file|the data set itself); name another --output"):
                select_latents(encoder, data, output, overwrite=True)
        assert (tmp_path / "out").read_text() == "mine"

    def test_the_data_set_is_never_written_over(self, tmp_path, encoder, as_pngs, as_h5, listed):
        """Whatever it is called: a folder of images, a file with the name of a result, a folder with that of shards."""
        images = images_of(3)
        as_pngs(tmp_path / "pngs", images)
        as_pngs(tmp_path / "set/shards", images)
        (tmp_path / "file").mkdir()
        as_h5(tmp_path / "file/latents.h5", images)
        before = listed(tmp_path)
        for data, output in (("pngs", "pngs"), ("set/shards", "set"), ("file/latents.h5", "file")):
            for overwrite in (False, True):
                with pytest.raises(NgvaeToolsError, match=r"the data set itself|that no pass has made|made of"):
                    select_latents(encoder, tmp_path / data, tmp_path / output, overwrite=overwrite)
        assert listed(tmp_path) == before

    def test_files_of_the_user_among_the_shards_stay(self, tmp_path, encoder, data, listed):
        def on_progress(_progress):
            (tmp_path / "out/shards/notes.txt").write_text("mine")

        select_latents(encoder, data, tmp_path / "out", on_progress=on_progress)
        assert listed(tmp_path / "out") == ["latents.h5", "selection.json", "shards/notes.txt"]

    def test_a_read_only_disk(self, encoder, data, small_disk):
        folder = small_disk(64, read_only=True)
        with pytest.raises(OutputError, match="Read-only file system"):
            select_latents(encoder, data, folder / "out")

    @pytest.mark.parametrize("kilobytes", [4, 24, 48, 56, 64, 72, 80, 88])
    def test_a_full_disk_at_any_point(self, tmp_path, as_h5, encoder, small_disk, kilobytes):
        images = images_of(3000)
        images[::3, -1, -1, -1] = 255
        folder = small_disk(kilobytes)
        with pytest.raises(OutputError, match="No space left"):
            select_latents(encoder, as_h5(tmp_path / "d.h5", images), folder / "out")
        # What is finished is not lost; where nothing is, nothing stays.
        left = sorted(path.name for path in folder.glob("out/shards/*"))
        assert (
            left == [] or left == ["000000.npz", "000001.npz", "000002.npz", "plan.json"][: len(left) - 1] + left[-1:]
        )
        assert bool(left) == bool(list(folder.iterdir()))

    def test_a_full_disk_keeps_the_old_result(self, tmp_path, as_h5, encoder, data, small_disk):
        folder = small_disk(96)
        select_latents(encoder, data, folder / "out")
        before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
        images = images_of(6000)
        with pytest.raises(OutputError, match="No space left"):
            select_latents(encoder, as_h5(tmp_path / "e.h5", images), folder / "out", overwrite=True)
        shutil.rmtree(folder / "out/shards", ignore_errors=True)
        assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before
