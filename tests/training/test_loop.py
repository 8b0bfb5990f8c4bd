"""The training loop: history, schedule, repeatability, divergence, and that the loss falls."""

import dataclasses
import hashlib
import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngvae_tools.contract import InputScale
from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.run import CHECKPOINT_NAME, HISTORY_NAME, EpochRecord
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.loop import Trainer, evaluate
from ngvae_tools.training.model import VariationalAutoencoder
from ngvae_tools.training.objectives import AdaptiveObjective
from ngvae_tools.training.schedule import PlateauSchedule

MODELS = [
    {},
    {"objective": "paper"},
    {"objective": "paper", "gradient": "g-rep"},
    {"model": "vae"},
    {"model": "beta-vae"},
]
QUICK = {"epochs": 2, "latent_dim": 4, "device": "cpu"}


def trained(images, folder, on_progress=None, **options):
    config = TrainingConfig(**(QUICK | options))
    model = VariationalAutoencoder(config, images.image_shape, images.scale)
    return model, Trainer(model, images, config, folder, on_progress).fit()


def digest(model):
    weights = [weights.detach().numpy().tobytes() for weights in model.state_dict().values()]
    return hashlib.sha256(b"".join(weights)).hexdigest()


def parsed(folder):
    lines = (folder / HISTORY_NAME).read_text(encoding="utf-8").splitlines()
    return [EpochRecord.from_json(json.loads(line)) for line in lines]


def stored(folder):
    return torch.load(folder / CHECKPOINT_NAME, weights_only=True)


def all_finite(state):
    # The mean p of epochs that have not been is NaN.
    return all(torch.isfinite(values).all() for name, values in state.items() if not name.endswith("recent_p"))


# Records


@pytest.mark.parametrize("options", MODELS)
def test_history_lines_parse_back_and_add_up(few, run_folder, options):
    model, history = trained(few, run_folder, **options)
    assert parsed(run_folder) == history
    assert [record.epoch for record in history] == [1, 2]
    for record in history:
        for figures in (record.train, record.held_out):
            without_constant = figures.distortion - model.nll_constant
            loss = without_constant + model.beta * figures.rate
            assert figures.loss == pytest.approx(loss, abs=1e-6)
            pixels = math.prod(model.image_shape)
            assert without_constant == pytest.approx(figures.mse * pixels / (2 * float(model.sigma) ** 2), rel=1e-6)
        assert sum(record.rate_per_dimension) == pytest.approx(record.train.rate, rel=1e-9)
        assert (record.p is None) == ("model" in options)
        assert len(record.posterior_variance) == 4


def test_no_held_out_figures_without_held_out_images(sprites, make_images, run_folder):
    _, history = trained(make_images(sprites[:64], held_out=0), run_folder)
    assert [record.held_out for record in history] == [None, None]
    assert parsed(run_folder) == history


def test_figures_on_held_out_images_are_the_same_each_time(few, run_folder):
    model, history = trained(few, run_folder)
    torch.rand(7)
    config = TrainingConfig(**QUICK)
    assert evaluate(model, few, config) == evaluate(model, few, config) == history[-1].held_out


def test_progress_counts_steps_and_epochs(sprites, make_images, run_folder):
    seen = []
    _, history = trained(make_images(sprites[:110], held_out=10), run_folder, seen.append, batch_size=8)
    assert [(p.epoch, p.step) for p in seen] == [(1, 10), (1, 13), (2, 10), (2, 13)]
    assert {(p.epochs, p.steps) for p in seen} == {(2, 13)}
    assert [p.last for p in seen] == [None, None, history[0], history[0]]


def test_checkpoint_loads_back(few, run_folder):
    model, _ = trained(few, run_folder)
    checkpoint = stored(run_folder)
    assert (checkpoint["epoch"], TrainingConfig(**checkpoint["config"])) == (2, TrainingConfig(**QUICK))
    fresh = VariationalAutoencoder(TrainingConfig(**QUICK, seed=9), (32, 32, 3), InputScale())
    assert digest(fresh) != digest(model)
    fresh.load_state_dict(checkpoint["model"])
    assert digest(fresh) == digest(model)
    torch.optim.Adam(fresh.parameters()).load_state_dict(checkpoint["optimiser"])
    torch.Generator().set_state(checkpoint["generators"][0])
    assert not list(run_folder.glob("*.part"))


# Repeatability


@pytest.mark.parametrize("options", MODELS)
def test_the_same_seed_gives_the_same_weights(few, run_folder, options):
    (first, one), (second, two) = (trained(few, run_folder, **options) for _ in range(2))
    assert digest(first) == digest(second)
    assert [dataclasses.replace(r, seconds=0) for r in one] == [dataclasses.replace(r, seconds=0) for r in two]
    other, _ = trained(few, run_folder, **options, seed=1)
    assert digest(other) != digest(first)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import torch
from ngvae_tools.datasets import render, sample_factors
from conftest import images_of
from test_loop import digest, trained
torch.set_num_threads(1)
images = images_of(render(sample_factors(1000, seed=0), size=32)[:80], held_out=16)
print(digest(trained(images, Path({run!r}))[0]))
"""


@pytest.mark.slow
def test_separate_processes_give_the_same_weights(few, run_folder):
    here = digest(trained(few, run_folder)[0])
    script = SCRIPT.format(folder=__file__.rpartition("/")[0], run=str(run_folder))
    done = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [run.stdout.strip() for run in done] == [here, here]


def test_the_caller_s_random_state_is_untouched(few, run_folder):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002 - the global state is what is watched
    trained(few, run_folder)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002 - as above
    assert random.getstate() == states[2]


# The paper's schedule


def drops(losses):
    schedule = PlateauSchedule()
    return [epoch for epoch, loss in enumerate(losses, 1) if schedule.plateau(loss, schedule.STEPS)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([100.0] * 4, []),
        ([100.0] * 5, [5]),
        ([100.0] * 10, [5, 10]),
        ([200, 150, 120, 100.0, 100.2, 100.4, 100.1, 99.9], [8]),
        ([100, 100, 100, 100, 101.1], []),  # 1.09 % of the last
        ([100, 100, 100, 100, 100.9], [5]),
        ([100] * 5 + [90, 80, 70] + [60] * 4, [5]),
        ([100] * 5 + [90, 80, 70] + [60] * 5, [5, 13]),
        ([100, 99.3, 98.6, 97.9, 97.2], []),  # steps below 1 %, a fall of 2.9 %
    ],
)
def test_plateaus_of_hand_made_losses(losses, expected):
    assert drops(losses) == expected


@given(st.lists(st.floats(1, 1000), max_size=40), st.floats(0.01, 100))
def test_plateaus_do_not_depend_on_the_unit(losses, factor):
    # Powers of two scale without rounding.
    factor = 2.0 ** round(math.log2(factor))
    assert drops(losses) == drops([loss * factor for loss in losses])


def test_the_schedule_divides_the_learning_rate_by_ten_and_then_stops(few, run_folder, monkeypatch):
    monkeypatch.setattr(PlateauSchedule, "STEPS", 1)
    monkeypatch.setattr(AdaptiveObjective, "EARLIEST", 0)
    monkeypatch.setattr(AdaptiveObjective, "RAMP", 2)
    # A learning rate too small to move: every five epochs are a plateau, and the default changes at its first.
    options = {"epochs": None, "learning_rate": 1e-12, "sigma": 1.0, "batch_size": 128}
    for objective, before in (("paper", 5), ("adaptive", 11)):  # one of two epochs of the ramp is watched
        _, history = trained(few, run_folder, objective=objective, **options)
        rates = [record.learning_rate for record in history]
        np.testing.assert_allclose(rates, [1e-12] * before + [1e-13] * 5, rtol=1e-9)


def test_few_images_settle_after_800_steps_and_no_plateau_before_the_ramp_has_ended(few, run_folder):
    # As many steps as epochs; all losses alike.
    options = {"epochs": None, "max_epochs": 2500, "learning_rate": 1e-12, "sigma": 1e3, "batch_size": 128}
    config = TrainingConfig(**(QUICK | options))
    model = VariationalAutoencoder(config, few.image_shape, few.scale)
    trainer = Trainer(model, few, config, run_folder)
    settled, drops = [], []

    def epoch():
        before = int(model.objective.steps), trainer.schedule.drops
        number = len(trainer.history) + 1
        trainer.history.append(None)
        p = torch.full((4,), 0.01)
        trainer.schedule.advance(
            number,
            100.0,
            lambda plateau: trainer._settle(p, plateau=plateau),
            steps=trainer.step,
            changing=model.objective.changing,
        )
        if before[0] < 0 <= int(model.objective.steps):
            settled.append(number)
        if trainer.schedule.drops > before[1]:
            drops.append(number)

    trainer.step = 1
    while not trainer.schedule.done(len(trainer.history)):
        model.objective.absorb(torch.full((4,), 0.99))
        epoch()
    assert settled == [800]
    assert model.objective.adapted == 1.0
    # The epoch in which the ramp ends is the first of a pool.
    assert drops == [1600 + 399, 1600 + 799]


def test_the_schedule_ends_at_max_epochs(few, run_folder):
    _, history = trained(few, run_folder, epochs=None, max_epochs=3)
    assert [record.epoch for record in history] == [1, 2, 3]


# Divergence


@pytest.mark.parametrize("options", MODELS)
@pytest.mark.parametrize("batch_size", [8, 128])  # many steps an epoch, and one
def test_divergence_is_an_error_and_leaves_finite_files(few, run_folder, options, batch_size):
    with pytest.raises(TrainingDivergedError, match="diverged in epoch") as error:
        trained(few, run_folder, **options, learning_rate=1e12, batch_size=batch_size, epochs=8)
    assert error.value.exit_code == 6
    text = (run_folder / HISTORY_NAME).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    if (run_folder / CHECKPOINT_NAME).exists():
        assert all_finite(stored(run_folder)["model"])
        assert stored(run_folder)["epoch"] == len(parsed(run_folder))
    else:
        assert parsed(run_folder) == []


def test_the_last_checkpoint_before_divergence_stays(few, run_folder):
    _, history = trained(few, run_folder, epochs=1)
    config = TrainingConfig(**(QUICK | {"epochs": 3}))
    model = VariationalAutoencoder(config, (32, 32, 3), few.scale)

    def poison(progress):
        if progress.epoch == 2:
            with torch.no_grad():
                model.encoder.heads.bias.fill_(math.nan)

    with pytest.raises(TrainingDivergedError, match=r"epoch 2.*weights that are not finite"):
        Trainer(model, few, config, run_folder, poison).fit()
    assert stored(run_folder)["epoch"] == 1
    assert [dataclasses.replace(r, seconds=0) for r in parsed(run_folder)] == [
        dataclasses.replace(r, seconds=0) for r in history
    ]
    assert all_finite(stored(run_folder)["model"])


# Images of every kind, and that training trains


@pytest.mark.parametrize(
    ("shape", "dtype", "scale"),
    [
        ((32, 48, 1), np.uint8, InputScale()),
        ((16, 32, 5), np.uint16, InputScale(100.0, 3000.0)),
        ((32, 16, 5), np.float32, InputScale(-1.0, 2.0)),
    ],
)
def test_images_of_other_shapes_and_types_are_trained_on(make_images, run_folder, shape, dtype, scale):
    values = np.random.default_rng(0).uniform(scale.low, scale.high, (40, *shape))
    images = make_images(values.astype(dtype), held_out=8, scale=scale)
    _, history = trained(images, run_folder, batch_size=16, learning_rate=1e-4)
    assert history[-1].train.loss < history[0].train.loss


@pytest.mark.parametrize("count", [320, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", MODELS)
def test_a_short_training_lowers_the_held_out_loss(sprites, make_images, run_folder, options, count):
    images = make_images(sprites[:count], held_out=count // 5)
    config = TrainingConfig(**options, epochs=4, device="cpu", learning_rate=3e-3, batch_size=32)
    model = VariationalAutoencoder(config, (32, 32, 3), images.scale)
    before = evaluate(model, images, config)
    after = Trainer(model, images, config, run_folder).fit()[-1].held_out
    assert after.loss < 0.9 * before.loss
    assert after.mse < before.mse
