"""A sweep of tiny trainings from end to end, and what is said of sweeps that were made up."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
import records

import ngvae_tools
from ngvae_tools import sweep
from ngvae_tools.errors import DeviceError, OptionError, OutputError, TrainingDivergedError
from ngvae_tools.reporting.sources import find_sources, open_sources
from ngvae_tools.sweep_record import FILE_NAME, PNG_NAME, SVG_NAME, Plateau, SweepRecord, Verdict
from ngvae_tools.training.config import TrainingConfig
from ngvae_tools.training.sweep_config import SweepConfig
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.sweep import log_spaced
from ngvae_tools.workflows.sweep_notes import sweep_notes

OPTIONS = {"epochs": 2, "latent_dim": 2, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from ngvae_tools.datasets import write_sprites

    path = tmp_path_factory.mktemp("small") / "sprites.h5"
    write_sprites(path, images=60, size=16)
    return path


@pytest.fixture(scope="module")
def swept(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "SWEEP"
    return folder, sweep(small, folder, sigmas=[0.4, 0.1], restarts=1, workers=2, **OPTIONS)


class TestSweep:
    def test_files_and_record(self, swept):
        folder, record = swept
        assert sorted(path.name for path in folder.iterdir()) == ["cells", FILE_NAME, PNG_NAME, SVG_NAME]
        assert SweepRecord.read(folder) == record
        assert (folder / PNG_NAME).read_bytes().startswith(b"\x89PNG")
        assert (folder / SVG_NAME).read_text().startswith("<svg")

    def test_a_level_holds_what_its_trainings_found(self, swept, small):
        folder, record = swept
        assert [level.sigma for level in record.levels] == [0.1, 0.4]
        for level in record.levels:
            assert [trial.seed for trial in level.trials] == [0]
            for trial in level.trials:
                run = ngvae_tools.workflows.cells.RunRecord.read(folder / "cells" / trial.cell / "run")
                held_out = run.epochs[-1].held_out
                assert trial.held_out
                assert (trial.distortion, trial.rate, trial.mse) == (held_out.distortion, held_out.rate, held_out.mse)
                assert run.config["options"]["sigma"] == level.sigma
                assert len(trial.p) == len(trial.information) == 2
                assert set(trial.counts) == {"p", "variance", "active", "rate", "information", "type", "snr"}
                assert trial.counts["p"] == len(trial.informative)
                assert trial.epochs == 2
        assert record.data["n_images"] == 60
        assert record.rule == "p"
        assert "sigma" not in record.options
        assert [verdict.rule for verdict in record.verdicts] == ["p", "information"]

    @pytest.mark.slow
    def test_an_ard_vae_is_counted_by_its_own_relevance(self, small, tmp_path):
        options = {**OPTIONS, "epochs": 1, "latent_dim": 3}
        record = sweep(small, tmp_path, sigmas=[0.1, 0.4], restarts=1, model="ard-vae", **options)
        assert record.rule == record.verdicts[0].rule == "relevance"
        for level in record.levels:
            run = ngvae_tools.workflows.cells.RunRecord.read(tmp_path / "cells" / level.kept.cell / "run")
            relevance = run.summary["relevance"]
            assert level.count("relevance") == relevance["count"] > 0
            assert list(level.kept.informative) == relevance["relevant"]

    @pytest.mark.slow
    def test_restarts_share_their_split_and_differ_in_their_start(self, swept, small, tmp_path):
        folder = shutil.copytree(swept[0], tmp_path / "SWEEP")
        record = sweep(small, folder, sigmas=[0.1, 0.4], restarts=2, workers=2, overwrite=True, **OPTIONS)
        for level in record.levels:
            assert [trial.seed for trial in level.trials] == [0, 1]
            assert level.kept.loss == min(trial.loss for trial in level.trials)
        one, two = (folder / "cells" / trial.cell / "run" for trial in record.levels[0].trials)
        options = [json.loads((run / "config.json").read_text())["options"] for run in (one, two)]
        assert [o["data_seed"] for o in options] == [0, 0]
        assert (one / "encoder.onnx").read_bytes() != (two / "encoder.onnx").read_bytes()

    def test_a_finished_sweep_is_refused_and_kept(self, swept, small):
        folder, _ = swept
        before = (folder / FILE_NAME).read_bytes()
        with pytest.raises(OutputError, match="--overwrite"):
            sweep(small, folder, sigmas=[0.1, 0.4], restarts=1, **OPTIONS)
        assert (folder / FILE_NAME).read_bytes() == before

    def test_overwriting_keeps_trainings_that_would_be_the_same(self, swept, small):
        folder, record = swept
        plans = []
        again = sweep(small, folder, sigmas=[0.1, 0.4], restarts=1, overwrite=True, on_plan=plans.append, **OPTIONS)
        assert plans == []
        assert again.equal_but_for_timings(record)

    def test_another_sweep_in_its_folder_is_refused(self, swept, small, tmp_path):
        folder, _ = swept
        (folder / FILE_NAME).rename(tmp_path / FILE_NAME)
        for name in (SVG_NAME, PNG_NAME):
            (folder / name).rename(tmp_path / name)
        try:
            with pytest.raises(OutputError, match=r"holds another training.*other: latent_dim"):
                sweep(small, folder, sigmas=[0.1, 0.4], restarts=1, **OPTIONS | {"latent_dim": 3})
        finally:
            for name in (FILE_NAME, SVG_NAME, PNG_NAME):
                (tmp_path / name).rename(folder / name)

    def test_report_shows_it_and_not_its_trainings(self, swept):
        folder, record = swept
        for found in (open_sources([folder]), find_sources(folder.parent)):
            (named,) = found.sweeps
            assert named.record.equal_but_for_timings(record)
            assert found.analyses == found.runs == found.skipped == ()

    def test_the_library_offers_it(self):
        assert ngvae_tools.sweep is sweep


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"sigmas": [0.1]}, "--sigmas"),
            ({"sigmas": [0.1, 0.1]}, "--sigmas"),
            ({"sigmas": [0.1, 0.0]}, "--sigmas"),
            ({"sigmas": [0.1, float("nan")]}, "--sigmas"),
            ({"restarts": 0}, "--restarts"),
            ({"sigma": 0.2}, "pass noise levels as sigmas"),
            ({"latent_dims": 2}, "latent_dims"),
            ({"learn_sigma": True}, "--learn-sigma"),
            ({"epochs": 0}, "--epochs"),
        ],
    )
    def test_what_cannot_be_used_is_named(self, small, tmp_path, options, named):
        with pytest.raises(OptionError, match=named):
            sweep(small, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    def test_log_spaced_levels(self):
        levels = log_spaced(0.12, 0.5, 5)
        assert levels == (0.12, 0.1714, 0.2449, 0.35, 0.5)
        assert np.allclose(np.diff(np.log(levels)), np.log(0.5 / 0.12) / 4, atol=1e-3)
        for wrong in ((0.5, 0.1, 5), (0.0, 0.1, 5), (0.1, 0.5, 1), (0.2, 0.20003, 5), (0.1, float("inf"), 3)):
            with pytest.raises(OptionError):
                log_spaced(*wrong)


class TestFolder:
    def test_one_sweep_at_a_time(self, small, tmp_path):
        with locked(tmp_path), pytest.raises(OutputError, match="is in use"):
            sweep(small, tmp_path, **OPTIONS)
        assert not (tmp_path / "cells").exists()

    def test_a_file_in_place_of_the_folder(self, small):
        with pytest.raises(OutputError, match="cannot write to"):
            sweep(small, small, **OPTIONS)

    def test_a_sweep_that_was_ended_before_its_record_goes_on(self, swept, small, tmp_path):
        folder, record = swept
        shutil.copytree(folder, tmp_path / "SWEEP")
        (tmp_path / "SWEEP" / FILE_NAME).unlink()
        again = sweep(small, tmp_path / "SWEEP", sigmas=[0.4, 0.1], restarts=1, workers=2, **OPTIONS)
        assert again.equal_but_for_timings(record)

    def test_what_is_refused_keeps_what_is_there(self, swept, small, tmp_path):
        folder, _ = swept
        shutil.copytree(folder, tmp_path / "SWEEP")
        options = {**OPTIONS, "device": "cuda"}
        with pytest.raises(DeviceError):
            sweep(small, tmp_path / "SWEEP", sigmas=[0.4, 0.1], restarts=1, overwrite=True, **options)
        for name in (FILE_NAME, SVG_NAME, PNG_NAME):
            assert (tmp_path / "SWEEP" / name).read_bytes() == (folder / name).read_bytes()
        assert len(list((tmp_path / "SWEEP" / "cells").glob("*/cell.json"))) == 2

    def test_figures_of_others_are_not_replaced(self, small, tmp_path):
        (tmp_path / SVG_NAME).write_text("mine")
        with pytest.raises(OutputError, match="already exists"):
            sweep(small, tmp_path, **OPTIONS)
        assert (tmp_path / SVG_NAME).read_text() == "mine"


class TestNotes:
    def say(self, **fields):
        return " ".join(sweep_notes(records.sweep(**fields)))

    def test_no_plateau_is_said(self):
        text = self.say(verdicts=(Verdict("p", ()), Verdict("information", ())))
        assert "By p the count has no plateau" in text
        assert "By information the count has no plateau" in text

    def test_ties_are_said(self):
        tied = (Plateau(9, 0.06, 0.12, 2), Plateau(6, 0.245, 0.49, 2))
        assert "By p, 9 and 6 hold over equally wide ranges" in self.say(verdicts=(Verdict("p", tied),))

    def test_a_plateau_of_two_levels_and_one_at_the_end(self):
        text = self.say(verdicts=(Verdict("p", (Plateau(6, 0.06, 0.12, 2),)),))
        assert "lies on two levels only" in text
        assert "lower levels would show where it ends" in text
        assert "higher levels" not in text
        inside = self.say(verdicts=(Verdict("p", (Plateau(6, 0.12, 0.35, 3),)),))
        assert "levels" not in inside.replace("levels would confirm", "")

    def test_rules_that_disagree(self):
        two = (Verdict("p", (Plateau(6, 0.12, 0.35, 3),)), Verdict("information", (Plateau(7, 0.12, 0.35, 3),)))
        assert "The rules do not agree" in self.say(verdicts=two)
        assert "do not agree" not in self.say()

    def test_information_that_counts_otherwise_on_the_plateau(self):
        assert "counts" not in self.say()
        record = records.sweep()
        levels = tuple(
            dataclasses.replace(
                level, trials=tuple(dataclasses.replace(t, counts={**t.counts, "information": 2}) for t in level.trials)
            )
            for level in record.levels
        )
        verdicts = (record.verdicts[0], Verdict("information", ()))
        text = self.say(levels=levels, verdicts=verdicts)
        assert "On the plateau by p, `information`, which measures what a dimension carries, counts 2, not 6." in text

    def test_an_answer_by_information_alone(self):
        verdicts = (Verdict("p", ()), Verdict("information", (Plateau(6, 0.12, 0.35, 3),)))
        assert "By information, 6 dimensions hold from sigma 0.12 to 0.35." in self.say(verdicts=verdicts)
        assert "dimensions hold" not in self.say()

    def test_what_to_try_where_no_level_tells(self):
        none = (Verdict("p", ()),)
        assert "Try a larger --latent-dim" in self.say(counts=((15, 15),) * 5, verdicts=none)
        assert "Try lower levels" in self.say(counts=((0, 0),) * 5, verdicts=none)
        assert "Try" not in self.say(verdicts=none)

    def test_a_plateau_that_is_interrupted(self):
        two = (Verdict("p", (Plateau(6, 0.06, 0.12, 2), Plateau(6, 0.245, 0.5, 3))),)
        text = self.say(verdicts=two)
        assert "The plateau by p is interrupted: 6 also holds from 0.245 to 0.5." in text
        assert "no one answer" not in text

    def test_images_that_could_not_be_used(self):
        text = "1 of 9 images (11 %) could not be used: 1 cannot be decoded (b.png)"
        assert f"{text}; config.json" in self.say(data={"path": "a", "n_images": 9, "n_rejected": 1, "rejected": text})
        assert "could not be used" not in self.say()

    def test_an_intrinsic_dimension_that_is_not_known(self):
        assert "At sigma 0.5 there is no intrinsic dimension" in self.say(
            counts=((13, 12), (9, 9), (6, 6), (6, 6), (1, 1))
        )

    def test_an_intrinsic_dimension_that_does_not_contain_the_count(self):
        assert "TwoNN" not in self.say()
        assert "4.7 to 6.3 by TwoNN, does not contain 7" in self.say(
            verdicts=(Verdict("p", (Plateau(7, 0.12, 0.35, 3),)),)
        )

    def test_restarts_that_differ_and_failures(self):
        text = self.say(counts=((13, 12), (None, None), (6, None), (6, 6), (6, 6)))
        assert "At sigma 0.06 restarts differ (13, 12 by p)" in text
        assert "At sigma 0.12 no training came to its end." in text
        assert "sigma-0.245-seed-1 failed: training diverged" in text

    def test_a_count_that_still_moved(self):
        record = records.sweep()
        level = record.levels[2]
        restless = dataclasses.replace(level.trials[0], settled=2)
        level = dataclasses.replace(level, trials=(restless, level.trials[1]))
        levels = (*record.levels[:2], level, *record.levels[3:])
        assert "At sigma 0.245 the count still changed within the last 5 of 60 epochs" in self.say(levels=levels)
        assert "still changed" not in self.say()

    @pytest.mark.parametrize(
        ("adapted", "words"), [(0.0, "had not separated"), (0.996, "after 99 % of the change"), (1.0, None)]
    )
    def test_prior_weights_that_were_on_their_way(self, adapted, words):
        record = records.sweep()
        level = record.levels[2]
        level = dataclasses.replace(
            level, trials=tuple(dataclasses.replace(trial, adapted=adapted) for trial in level.trials)
        )
        text = self.say(levels=(*record.levels[:2], level, *record.levels[3:]))
        if words is None:
            assert "prior weights" not in text
        else:
            assert text.count("prior weights") == 1
            assert "At sigma 0.245: The" in text
            assert words in text

    def test_a_training_too_short_to_tell(self):
        record = records.sweep()
        short = tuple(
            dataclasses.replace(
                level, trials=tuple(dataclasses.replace(trial, epochs=1, settled=1) for trial in level.trials)
            )
            for level in record.levels
        )
        assert "At sigma 0.245 the training ended after 1 epoch, too few to tell" in self.say(levels=short)
        assert "too few to tell" not in self.say()


@pytest.mark.slow
def test_all_trainings_diverge(small, tmp_path):
    with pytest.raises(TrainingDivergedError, match="no training of the sweep came to its end"):
        sweep(small, tmp_path / "out", sigmas=[0.1, 0.2], restarts=1, **OPTIONS | {"learning_rate": 1e30})
    assert not (tmp_path / "out" / FILE_NAME).exists()


WORDS = ("--sigmas", "0.1,0.2,0.4", "--restarts", 1, "--epochs", 12, "--latent-dim", 2, "--batch-size", 8)


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    """The sweep of `WORDS` in one go."""
    folder = tmp_path_factory.mktemp("whole") / "SWEEP"
    return sweep(small, folder, sigmas=[0.1, 0.2, 0.4], restarts=1, **OPTIONS | {"epochs": 12, "batch_size": 8})


@pytest.mark.slow
class TestInterrupted:
    @pytest.mark.parametrize("finished", [0, 1, 2])
    def test_killed_and_started_again_it_says_the_same(self, command_line, small, undisturbed, finished, tmp_path):
        words = ("sweep", small, "-o", "OUT", *WORDS, "--device", "cpu", "--workers", 1)
        with command_line.start(*words, stderr=subprocess.PIPE) as process:
            wait_for(tmp_path / "OUT", finished)
            process.kill()
            process.communicate()
        assert not (tmp_path / "OUT" / FILE_NAME).exists()
        again = command_line(*words, timeout=300)
        assert again.returncode == 0, again.stderr
        assert SweepRecord.read(tmp_path / "OUT").equal_but_for_timings(undisturbed)
        if finished:
            assert f"{finished} of them" in again.stderr

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted_it_says_how_to_go_on(self, command_line, small, how, tmp_path):
        words = ("sweep", small, "-o", "OUT", *WORDS, "--workers", 2, "--device", "cpu")
        with command_line.start(*words) as process:
            wait_for(tmp_path / "OUT", 0)
            os.kill(process.pid, how)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "the same command goes on from there" in err
        assert "Traceback" not in err
        assert out == ""
        assert not (tmp_path / "OUT" / FILE_NAME).exists()


def wait_for(folder, finished, seconds=120):
    """Until so many trainings are finished and the next has done some epochs."""
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done = len(list(folder.glob("cells/*/cell.json")))
        histories = [path.read_text().count("\n") for path in folder.glob("cells/*/run/history.jsonl")]
        if done >= finished and len(histories) > finished and max(histories[finished:], default=0) >= 2:
            return
        time.sleep(0.01)
    raise AssertionError(f"not even {finished} trainings in {seconds} s")


def test_the_default_levels_are_log_spaced_enough_for_a_plateau():
    defaults = SweepConfig()
    assert len(defaults.sigmas) == 5
    assert defaults.restarts == 2
    assert TrainingConfig().sigma in defaults.sigmas
