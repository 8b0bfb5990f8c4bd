"""The record of a benchmark: JSON and back, and what is summed up over seeds."""

import dataclasses
import json
import statistics

import pytest

from ngvae_tools.benchmark_record import (
    FIGURES,
    BenchmarkCell,
    BenchmarkData,
    BenchmarkRecord,
    Summary,
    effective_sigma,
    rows_of,
)
from ngvae_tools.errors import RecordError

MODELS = {
    "vae": {"label": "VAE", "model": "vae", "sigma": 0.245},
    "default": {"label": "Ours", "model": "ngvae", "sigma": 0.245},
    "beta-150": {"label": "beta", "model": "beta-vae", "sigma": 0.02, "beta": 150.0},
    "printed": {"label": "Printed", "model": "ngvae", "sigma": 0.02},
    "fondue": {"label": "FONDUE", "model": "vae", "sigma": 0.245},
}


def cell(model, seed, latent_dim=15, failed=None, data="sprites", **figures):
    name = f"{data}-k{latent_dim}-{model}-seed{seed}"
    return BenchmarkCell(name, data, model, latent_dim, seed, failed, figures)


def record(cells):
    return BenchmarkRecord(
        preset="quick",
        command="ngvae-tools benchmark",
        data=(BenchmarkData("sprites", "/a.h5", "f" * 64, 6000, (32, 32, 3), ("x", "y"), (6, 7)),),
        models=MODELS,
        cells=tuple(cells),
        rows=rows_of(cells, MODELS),
        device="cpu",
        timings={"cell_seconds": 3.0},
        versions={"torch": "2"},
        notes=("A note.",),
    )


CELLS = [
    cell("vae", 0, count=8.0, mse=1.0e-3, seconds=3.0),
    cell("default", 0, count=6.0, mse=1.05e-3, crisp=1.0),
    cell("vae", 1, count=9.0, mse=1.2e-3, seconds=4.0),
    cell("default", 1, failed="training diverged"),
    cell("beta-150", 0, count=7.0, mse=1.21e-3),
    cell("printed", 0, count=15.0, mse=0.5e-3),
    cell("vae", 0, latent_dim=30, count=10.0, mse=1e-3),
    cell("vae", 1, latent_dim=30, count=10.0, mse=1e-3),
    cell("fondue", 0, latent_dim=None, count=6.0),
]


def test_json_and_back():
    full = record(CELLS)
    assert BenchmarkRecord.from_json(full.to_json()) == full
    assert set(FIGURES) >= {name for each in CELLS for name in each.figures}


def test_means_and_spreads_over_seeds():
    rows = {(row.model, row.latent_dim): row for row in rows_of(CELLS, MODELS)}
    vae = rows["vae", 15]
    assert vae.cells == 2
    assert vae.figures["count"] == Summary(8.5, statistics.stdev([8, 9]), 2)
    assert vae.figures["seconds"] == Summary(3.5, pytest.approx(0.5**0.5), 2)
    ours = rows["default", 15]
    assert ours.figures["count"] == Summary(6.0, None, 1)
    assert ours.cells == 2
    assert ours.failures == ("sprites-k15-default-seed1: training diverged",)


def test_the_error_is_that_of_the_plain_vae_at_the_same_noise():
    rows = {(row.model, row.latent_dim): row for row in rows_of(CELLS, MODELS)}
    assert rows["vae", 15].mse_ratio == 1
    assert rows["default", 15].mse_ratio == pytest.approx(1.05e-3 / 1.1e-3)
    assert effective_sigma(MODELS["beta-150"]) == pytest.approx(0.24495, abs=1e-5)
    assert rows["beta-150", 15].mse_ratio == pytest.approx(1.1)
    assert rows["printed", 15].mse_ratio is None
    assert rows["fondue", None].mse_ratio is None


def test_drift_is_from_the_least_k():
    rows = {(row.model, row.latent_dim): row for row in rows_of(CELLS, MODELS)}
    assert rows["vae", 30].drift == pytest.approx(1.5)
    assert rows["vae", 15].drift is None
    assert rows["fondue", None].drift is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"format": "ngvae-tools/benchmark", "version": 2}),
        record(CELLS).to_json().replace('"rows"', '"lines"'),
        record(CELLS).to_json().replace('"sd"', '"spread"'),
    ],
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(RecordError, match="record of a benchmark"):
        BenchmarkRecord.from_json(text)


def test_no_record_in_a_folder(tmp_path):
    with pytest.raises(RecordError, match="record of a benchmark"):
        BenchmarkRecord.read(tmp_path)
    whole = record(CELLS)
    (tmp_path / "benchmark.json").write_text(whole.to_json())
    assert BenchmarkRecord.read(tmp_path) == whole
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(whole, timings={"a": float("nan")}).to_json()
