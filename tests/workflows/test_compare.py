import dataclasses
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import records as build
from inference.graphs import Linear, images_of
from latent_files import read_latents, steps_of, write

from ngvae_tools import select_latents
from ngvae_tools.errors import OptionError, OutputError, RecordError
from ngvae_tools.latents.reader import open_latents
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.workflows.compare import compare
from ngvae_tools.workflows.latent_sample import image_numbers, sample_latents
from ngvae_tools.workflows.stability import stability

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def analyses(tmp_path_factory):
    """The sample data, the same darker, one image of it, its first dimensions, and its PNG files."""
    folder = tmp_path_factory.mktemp("compare")
    with h5py.File(SAMPLE / "sprites.h5") as file:
        images = file["images"][:]
    for name, some in (("dark", (images * 0.7).astype(np.uint8)), ("one", images[:1]), ("half", images[:128])):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["images"] = some
    encoder = SAMPLE / "encoder.onnx"
    select_latents(encoder, SAMPLE / "sprites.h5", folder / "a")
    select_latents(encoder, folder / "dark.h5", folder / "dark", selection=folder / "a")
    select_latents(encoder, folder / "one.h5", folder / "one", selection=folder / "a")
    select_latents(encoder, folder / "half.h5", folder / "half", selection=folder / "a")
    select_latents(encoder, SAMPLE / "sprites", folder / "files", dimensions=[0, 1])
    return folder


def test_equal_data_do_not_differ(analyses):
    drift = compare(analyses / "a", analyses / "a")
    assert (drift.differs, drift.negligible, drift.outside.n_outside) == (False, (), 0)
    assert all(row.get("mean").value == 0 and row.get("variance").value == 1 for row in drift.dimensions)
    assert "A and B are the same data: their fingerprints are equal." in drift.notes


def test_darker_images_differ(analyses):
    drift = compare(analyses / "a", analyses / "dark")
    record = AnalysisRecord.read(analyses / "a")
    assert drift.differs
    assert drift.joint.dimensions == record.selection.indices == drift.outside.dimensions
    other = AnalysisRecord.read(analyses / "dark")
    for row, one, two in zip(drift.dimensions, record.dimensions, other.dimensions, strict=True):
        assert row.get("mean").value == pytest.approx((two.mu_mean - one.mu_mean) / one.mu_variance**0.5)
        assert row.get("variance").value == pytest.approx(two.mu_variance / one.mu_variance)


def test_the_outside_images_are_those_of_the_latent_file(analyses):
    drift = compare(analyses / "half", analyses / "a")
    record = AnalysisRecord.read(analyses / "half")
    values, names, dimensions = read_latents(analyses / "a" / "latents.h5")
    step = steps_of(analyses / "a")
    low, high = (np.array([getattr(record.dimensions[k], name) for k in dimensions]) for name in ("mu_low", "mu_high"))
    outside = ((values < low - step / 2 - 1e-5) | (values > high + step / 2 + 1e-5)).any(axis=1)
    assert drift.outside.n_outside == outside.sum() > 0
    assert {image.identifier for image in drift.outside.worst} == set(names[outside].tolist())
    assert min(names[outside]) >= 128


def test_other_selections_compare_their_moments(analyses):
    drift = compare(analyses / "a", analyses / "files")
    assert drift.joint is None
    assert (drift.differs, drift.outside.dimensions) == (False, (0, 1))


def test_one_image(analyses):
    drift = compare(analyses / "a", analyses / "one")
    assert drift.verdict.startswith("Too few images to tell")
    assert compare(analyses / "one", analyses / "a").outside.by_chance == 1.0


def test_twice_the_same_bits_and_another_seed(analyses):
    texts = [compare(analyses / "a", analyses / "dark", seed=seed).to_json() for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_the_output_is_kept_and_not_replaced(analyses, tmp_path):
    drift = compare(analyses / "a", analyses / "dark", output=tmp_path / "drift.json")
    assert (tmp_path / "drift.json").read_text() == drift.to_json()
    body = json.loads(drift.to_json())
    assert (body["format"], body["version"], body["differs"]) == ("ngvae-tools/drift", 1, True)
    with pytest.raises(OutputError, match="already exists"):
        compare(analyses / "a", analyses / "dark", output=tmp_path / "drift.json")
    compare(analyses / "a", analyses / "a", output=tmp_path / "drift.json", overwrite=True)
    for name in ("latents.h5", "selection.json"):
        with pytest.raises(OptionError, match="would replace what it is made of"):
            compare(analyses / "a", analyses / "dark", output=analyses / "dark" / name, overwrite=True)


def test_another_encoder_is_refused(analyses, tmp_path, as_h5):
    encoder = Linear().save(tmp_path / "encoder.onnx")
    select_latents(encoder, as_h5(tmp_path / "data.h5", images_of(20)), tmp_path / "out")
    with pytest.raises(RecordError, match="different encoders made them"):
        compare(analyses / "a", tmp_path / "out")


def test_rejected_images_are_told(tmp_path, as_h5):
    encoder = Linear().save(tmp_path / "encoder.onnx", nan_where_white=True)
    images = images_of(60)
    select_latents(encoder, as_h5(tmp_path / "a.h5", images), tmp_path / "a")
    white = images.copy()
    white[:5].reshape(5, -1)[:, -1] = 255
    record = select_latents(encoder, as_h5(tmp_path / "b.h5", white), tmp_path / "b")
    assert record.data.n_rejected >= 5
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert f"{record.data.n_rejected} images of B could not be used and are not compared." in drift.notes
    assert drift.outside.n_images == len(images) - record.data.n_rejected


def test_a_latent_file_of_another_record_is_refused(analyses, tmp_path):
    record = AnalysisRecord.read(analyses / "a")
    (tmp_path / "latents.h5").write_bytes((analyses / "dark" / "latents.h5").read_bytes())
    fewer = dataclasses.replace(record, data=dataclasses.replace(record.data, n_images=255))
    (tmp_path / "selection.json").write_text(fewer.to_json())
    with pytest.raises(RecordError, match="does not belong to the record beside it"):
        compare(analyses / "a", tmp_path)
    (tmp_path / "latents.h5").write_bytes(b"no")
    with pytest.raises(RecordError, match="not a latent file"):
        compare(analyses / "a", tmp_path)


def test_a_training_run_is_no_analysis(analyses, tmp_path):
    with pytest.raises(RecordError, match="holds no analysis"):
        compare(build.write_run(tmp_path / "run"), analyses / "a")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A latent file of 300,000 rows of 8 dimensions."""
    path = tmp_path_factory.mktemp("large") / "latents.h5"
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300_000, 8))
    write(path, values, np.arange(len(values)), variance=0.05**2 / 0.12)
    return path


def test_latents_are_read_in_parts(large):
    whole, names, _ = read_latents(large)
    with open_latents(large, dtype=np.float64) as file:
        parts = list(file.chunks(70_001))
    assert [len(values) for values, _ in parts] == [70_001] * 4 + [300_000 - 4 * 70_001]
    assert np.array_equal(np.concatenate([values for values, _ in parts]), whole)
    assert np.array_equal(np.concatenate([some for _, some in parts]), names)


def test_a_sample_is_bounded_random_and_the_same_images_of_every_file(large, tmp_path):
    tracemalloc.start()
    rows, images = sample_latents(large, rows=5000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.values.shape == (5000, 8)
    assert peak < 300_000 * 8 * 8
    assert np.abs(rows.values.mean(axis=0)).max() < 5 / 5000**0.5
    names = read_latents(large)[1]
    kept = np.flatnonzero(np.isin(image_numbers(names), images))
    # Every tenth of the file gives its share.
    assert np.abs(np.bincount(kept // 30_000, minlength=10) - 500).max() < 5 * 500**0.5


def test_numbers_of_names_do_not_depend_on_their_padding():
    names = [b"a.png", b"a/b.png", b"\xff"]
    short, long = (np.array(names, dtype=f"S{width}") for width in (7, 30))
    assert np.array_equal(image_numbers(short), image_numbers(long))
    assert len(set(image_numbers(np.arange(10_000)).tolist())) == 10_000


def test_the_same_bits_with_one_thread_and_with_two():
    program = """
import sys
import numpy as np
from ngvae_tools.analysis.comparisons import StoredRows, compare_jointly
from ngvae_tools.analysis.stability import ModelSample, compare_pair
from ngvae_tools.analysis.two_sample import wasserstein

rng = np.random.default_rng(0)
x, y = rng.normal(size=(20000, 15)), rng.normal(size=(20000, 15))
dimensions, images = tuple(range(15)), np.arange(20000)
print(compare_jointly(*(StoredRows(dimensions, np.full(15, 0.01), rows) for rows in (x, y))))
print(compare_pair(*(ModelSample("a", dimensions, images, rows) for rows in (x, y))))
print(wasserstein(x[:, 0], y[:, 0]))
"""
    texts = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert texts[0] == texts[1] != ""


class TestStability:
    def named(self, *folders):
        return open_sources(folders).analyses

    def test_one_model_alone(self, analyses):
        assert stability(self.named(analyses / "a")) is None

    def test_the_same_model_twice(self, analyses, tmp_path):
        select_latents(SAMPLE / "encoder.onnx", SAMPLE / "sprites.h5", tmp_path / "again", dimensions=[3, 5, 2])
        found = stability(self.named(analyses / "a", tmp_path / "again"))
        kept = AnalysisRecord.read(analyses / "a").selection.indices
        pair = found.pairs[0]
        assert {(m.a, m.b) for m in pair.matches} == {(k, k) for k in (2, 3, 5)}
        assert min(abs(m.correlation) for m in pair.matches) > 0.999
        assert pair.alone_a == tuple(k for k in kept if k not in {2, 3, 5})
        assert pair.n_images == 256
        assert found.count_range == (3, len(kept))
        assert any("agreement says nothing about training" in note for note in found.notes)

    def test_other_data_and_missing_files_are_told(self, analyses, tmp_path):
        (tmp_path / "bare").mkdir()
        (tmp_path / "bare" / "selection.json").write_bytes((analyses / "a" / "selection.json").read_bytes())
        found = stability(self.named(analyses / "a", analyses / "dark", tmp_path / "bare"))
        assert found.pairs == ()
        assert any("did not see the same data" in note for note in found.notes)
        assert any("bare cannot be matched" in note for note in found.notes)
        assert [model.udr for model in found.models] == [None] * 3
