"""The figures of a cell."""

import dataclasses
from pathlib import Path

import pytest

from ngvae_tools import select_latents, train
from ngvae_tools.benchmark_record import BenchmarkData
from ngvae_tools.posteriors import family_of
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.workflows.benchmark.figures import NOT_RUN, cell_figures, interval_distance
from ngvae_tools.workflows.cells import Cell, CellResult

DATA = BenchmarkData("sprites", "/a.h5", "f", 200, (32, 32, 3), ("x",), (6, 7))


def cell(**options):
    about = {"data": "sprites", "model": "default", "latent_dim": 6}
    return Cell(name="a", data=Path("/a.h5"), config=TrainingConfig(seed=4), options=about, **options)


@pytest.mark.parametrize(("count", "distance"), [(4, 2), (5, 1), (6, 0), (7, 0), (8, 1), (15, 8)])
def test_distance_to_an_interval(count, distance):
    assert interval_distance(count, (6, 7)) == distance
    result = CellResult(cell(train=False), Path("/a"), extra={"count": count}, seconds=2.0)
    figures = cell_figures(result.cell, result, DATA).figures
    assert figures == {"count": count, "distance": distance, "near": float(distance <= 1), "seconds": 2.0}


def test_no_interval_no_distance():
    result = CellResult(cell(train=False), Path("/a"), extra={"count": 5})
    assert "distance" not in cell_figures(result.cell, result, dataclasses.replace(DATA, intrinsic=None)).figures


def test_a_cell_without_result_says_why():
    result = CellResult(cell(), Path("/a"), failed="training diverged", exit_code=6)
    assert cell_figures(cell(), result, DATA).failed == "training diverged"
    assert cell_figures(cell(), None, DATA).failed == NOT_RUN
    lost = cell_figures(cell(), CellResult(cell(), Path("/nowhere")), DATA)
    assert "not a training run" in lost.failed
    assert not lost.figures


def test_an_ard_vae_counts_by_its_own_relevance(sprites, tmp_path):
    run = train(sprites, tmp_path / "run", model="ard-vae", latent_dim=3, epochs=1)
    record = select_latents(run.folder, sprites, tmp_path / "analysis", bootstrap=0)
    figures = cell_figures(cell(), CellResult(cell(), tmp_path), DATA).figures
    assert figures["count"] == run.summary["relevance"]["count"]
    assert figures["count"] != record.selection.count  # one epoch leaves every variance near 1


def test_of_a_training(run, sprites, tmp_path):
    record = select_latents(run.folder, sprites, tmp_path / "analysis", bootstrap=0)
    (tmp_path / "run").symlink_to(run.folder)
    found = cell_figures(cell(), CellResult(cell(), tmp_path), DATA)
    assert (found.data, found.model, found.latent_dim, found.seed, found.failed) == ("sprites", "default", 6, 4, None)
    figures = found.figures
    rules = {rule.rule: rule for rule in record.rules}
    assert figures["count"] == rules["p"].count
    assert figures["count_information"] == rules["information"].count
    assert figures["mse"] == run.summary["held_out"]["mse"]
    assert figures["epochs"] == 1
    assert figures["entropy"] == record.metrics.entropy
    rest = family_of(record.model.family, 6, record.model.hyperparameters).rest_p
    assert figures["rest_p"] == rest
    means = [row.p_mean for row in record.dimensions]
    assert figures["crisp"] == sum(p < 0.1 or abs(p - rest) <= 0.05 for p in means) / 6
    assert figures["agreement"] == pytest.approx(
        1 - sum(a != b for a, b in zip(rules["p"].informative, rules["information"].informative, strict=True)) / 6
    )
    assert "beta_vae" not in figures
