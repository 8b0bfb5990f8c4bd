"""Resuming: a training that is cut off at any step ends as if it had not been."""

import dataclasses

import pytest
import torch

from ngvae_tools.errors import RecordError
from ngvae_tools.run import CHECKPOINT_NAME, HISTORY_NAME
from ngvae_tools.training import loop
from ngvae_tools.training.checkpoint import read_checkpoint
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.loop import Trainer
from ngvae_tools.training.model import VariationalAutoencoder

QUICK = {"epochs": 2, "latent_dim": 4, "device": "cpu", "batch_size": 16}
STEPS = 4  # of an epoch, of 64 images


class CutOffError(BaseException):
    """What nothing in the loop catches, as nothing catches SIGKILL."""


def trainer_of(images, folder, on_progress=None, **options):
    config = TrainingConfig(**(QUICK | options))
    model = VariationalAutoencoder(config, images.image_shape, images.scale)
    trainer = Trainer(model, images, config, folder, on_progress)
    state = read_checkpoint(folder / CHECKPOINT_NAME)
    if state is not None:
        trainer.load_state(state)
    return trainer


def outcome(trainer):
    """Everything that a training leaves, but the time it took."""
    history = [dataclasses.replace(record, seconds=0.0) for record in trainer.history]
    states = [trainer.model.state_dict(), trainer.optimiser.state_dict()["state"]]
    if trainer.second_optimiser is not None:
        states.append(trainer.second_optimiser.state_dict()["state"])
    return history, states


def assert_same(one, two):
    assert one[0] == two[0]
    for mine, yours in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "paper", "gradient": "g-rep"},
        {"model": "factor-vae"},
        {"model": "vae", "learn_sigma": True},
        {"precision": "bf16"},
        {"objective": "mixture", "epochs": None, "max_epochs": 2, "plateau_nats": 1e6},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()) or "default",
)
def test_cut_off_at_any_step_and_resumed(few, tmp_path, monkeypatch, options):
    whole = trainer_of(few, tmp_path, **options)
    whole.fit()
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    steps = (1, 2, STEPS, STEPS + 1, 2 * STEPS) if not options else (3, STEPS + 2)
    for cut in steps:
        folder = tmp_path / str(cut)
        folder.mkdir()

        def cut_off(progress, cut=cut):
            if (progress.epoch - 1) * STEPS + progress.step == cut:
                raise CutOffError

        with pytest.raises(CutOffError):
            trainer_of(few, folder, cut_off, **options).fit()
        resumed = trainer_of(few, folder, **options)
        assert resumed.resumed == (None if cut == 1 else divmod(cut - 1, STEPS))
        resumed.fit()
        assert_same(outcome(resumed), outcome(whole))
        lines = (folder / HISTORY_NAME).read_text().splitlines()
        assert len(lines) == len(whole.history)


def test_cut_off_at_every_step_in_turn(few, tmp_path, monkeypatch):
    whole = trainer_of(few, tmp_path)
    whole.fit()
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    folder = tmp_path / "run"
    folder.mkdir()
    cuts = 0
    while True:
        seen = []

        def cut_off(progress, seen=seen):
            seen.append(progress.step)
            if len(seen) == 2:
                raise CutOffError

        resumed = trainer_of(few, folder, cut_off)
        try:
            resumed.fit()
            break
        except CutOffError:
            cuts += 1
    assert cuts == 2 * STEPS - 1
    assert_same(outcome(resumed), outcome(whole))


def test_a_kill_between_checkpoint_and_history_leaves_every_line_once(few, tmp_path, monkeypatch):
    whole = trainer_of(few, tmp_path)
    whole.fit()
    written = (tmp_path / HISTORY_NAME).read_text()
    (tmp_path / HISTORY_NAME).write_text(written.splitlines(keepends=True)[0])
    resumed = trainer_of(few, tmp_path)
    resumed.fit()
    assert (tmp_path / HISTORY_NAME).read_text() == written


def test_a_kill_while_a_checkpoint_is_written_keeps_the_one_before(few, tmp_path, monkeypatch):
    trainer = trainer_of(few, tmp_path)
    trainer.fit()
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    save = torch.save

    def half(state, path):
        save(state, path)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        raise CutOffError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(CutOffError):
        trainer.save_checkpoint()
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_checkpoint_that_cannot_be_used_is_said(few, tmp_path, damage):
    trainer_of(few, tmp_path).fit()
    path = tmp_path / CHECKPOINT_NAME
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "text":
        path.write_text("nothing")
    else:
        torch.save({"version": 1}, path)
    with pytest.raises(RecordError, match=r"cannot go on from .*checkpoint.pt.*remove the file"):
        trainer_of(few, tmp_path)


def test_a_checkpoint_of_another_model_is_refused(few, tmp_path):
    trainer_of(few, tmp_path).fit()
    with pytest.raises(RecordError, match="cannot go on"):
        trainer_of(few, tmp_path, latent_dim=3)


def test_no_checkpoint_within_an_epoch_before_its_time(few, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)

    def cut_off(progress):
        if progress.step == STEPS:
            raise CutOffError

    with pytest.raises(CutOffError):
        trainer_of(few, tmp_path, cut_off).fit()
    assert not (tmp_path / CHECKPOINT_NAME).exists()


def test_weights_that_are_not_finite_are_not_saved_within_an_epoch(few, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "REPORT_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def poison(progress):
        if progress.step == 3:
            with torch.no_grad():
                trainer.weights[0].fill_(torch.nan)

    trainer = trainer_of(few, tmp_path, poison)
    with pytest.raises(loop.TrainingDivergedError, match="epoch 1, step 3"):
        trainer.fit()
    state = read_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert (state["epoch"], state["step"]) == (0, 2)
    assert all(torch.isfinite(values).all() for name, values in state["model"].items() if "recent_p" not in name)
