"""Event files of a training, read back by TensorBoard's own readers."""

import dataclasses
import json
import math
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import records as build
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from ngvae_tools import train
from ngvae_tools.errors import TrainingDivergedError
from ngvae_tools.run import EVENTS_SUFFIX, RunRecord
from ngvae_tools.training.events import EventFiles

OPTIONS = {"latent_dim": 3, "device": "cpu", "batch_size": 32}
ALL = {"scalars": 0, "histograms": 0, "images": 0}


def accumulated(folder):
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance=ALL)
    found.Reload()
    return found


def event_files(folder):
    return sorted((folder / "tensorboard").glob(f"*{EVENTS_SUFFIX}"))


def raw_steps(folder, tag):
    """Steps of a scalar in all files, in the order they lie there, whatever a reader would leave out."""
    return [
        event.step
        for path in event_files(folder)
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == tag
    ]


def expected(run):
    """Every scalar of a history as (step, float32)."""
    series = {}
    for epoch in run.epochs:
        for part, figures in (("train", epoch.train), ("held_out", epoch.held_out)):
            for name, value in {} if figures is None else dataclasses.asdict(figures).items():
                series.setdefault(f"{name}/{part}", []).append((epoch.epoch, np.float32(value)))
        for name in ("informative", "learning_rate", "sigma", "seconds"):
            series.setdefault(f"training/{name}", []).append((epoch.epoch, np.float32(getattr(epoch, name))))
        for name in ("p", "posterior_variance", "rate_per_dimension"):
            for k, value in enumerate(getattr(epoch, name) or ()):
                series.setdefault(f"{name}/{k}", []).append((epoch.epoch, np.float32(value)))
    return series


def scalars(found):
    return {
        tag: [(event.step, np.float32(event.value)) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


@pytest.fixture(scope="module")
def watched(sprites, tmp_path_factory):
    return train(sprites, tmp_path_factory.mktemp("watched") / "run", epochs=3, tensorboard=True, **OPTIONS)


def test_scalars_are_the_historys(watched):
    found = accumulated(watched.folder)
    assert scalars(found) == expected(watched)
    times = [event.wall_time for event in found.Scalars("loss/train")]
    assert times == sorted(times)


def test_histograms_hold_every_dimension(watched):
    found = accumulated(watched.folder)
    assert found.Tags()["histograms"] == ["p", "posterior_variance", "rate_per_dimension"]
    for epoch, event in zip(watched.epochs, found.Histograms("p"), strict=True):
        value = event.histogram_value
        assert (event.step, value.num) == (epoch.epoch, 3)
        assert (value.min, value.max, value.sum) == pytest.approx((min(epoch.p), max(epoch.p), sum(epoch.p)))


def test_histograms_leave_out_what_is_not_finite(tmp_path):
    first, last = build.epochs(2, 3, 1)
    history = [
        dataclasses.replace(first, p=(math.nan, 0.5, 0.25), posterior_variance=(math.inf,) * 3),
        dataclasses.replace(last, p=(math.nan,) * 3, posterior_variance=(1.0, -math.inf, 3.0)),
    ]
    with EventFiles(tmp_path / "tensorboard") as events:
        events(SimpleNamespace(history=history))
    found = accumulated(tmp_path)
    for name, step, least, most in (("p", 1, 0.25, 0.5), ("posterior_variance", 2, 1.0, 3.0)):
        (event,) = found.Histograms(name)
        value = event.histogram_value
        assert (event.step, value.num, value.min, value.max) == (step, 2, least, most)
    assert math.isnan(found.Scalars("p/0")[0].value)


def test_images_stand_above_their_reconstructions(watched, sprites, tmp_path):
    import onnxruntime

    events = accumulated(watched.folder).Images("images and reconstructions")
    assert [event.step for event in events] == [1, 2, 3]
    (tmp_path / "image.png").write_bytes(events[-1].encoded_image_string)
    shown = np.asarray(Image.open(tmp_path / "image.png"))
    assert shown.shape == (64, 8 * 32, 3)
    originals = np.stack(np.split(shown[:32], 8, axis=1))
    import h5py

    with h5py.File(sprites) as file:
        images = file["images"][:]
    assert all(any((image == original).all() for image in images) for original in originals)
    encoder, decoder = (onnxruntime.InferenceSession(path) for path in (watched.encoder, watched.decoder))
    mu = encoder.run(["mu"], {encoder.get_inputs()[0].name: originals})[0]
    decoded = decoder.run(None, {decoder.get_inputs()[0].name: mu})[0]
    decoded = decoded if decoded.shape[-1] == 3 else decoded.transpose(0, 2, 3, 1)
    decoded = decoded * (255 if decoded.max() <= 1.5 else 1)
    assert np.abs(np.concatenate(list(decoded), axis=1).clip(0, 255) - shown[32:]).max() <= 1.5


def test_weights_and_files_are_the_same_as_without(watched, sprites, tmp_path):
    bare = train(sprites, tmp_path / "bare", epochs=3, **OPTIONS)
    for name in ("encoder.onnx", "decoder.onnx", "summary.json"):
        assert (bare.folder / name).read_bytes() == (watched.folder / name).read_bytes()
    assert [dataclasses.replace(e, seconds=0) for e in bare.epochs] == [
        dataclasses.replace(e, seconds=0) for e in watched.epochs
    ]
    assert not (bare.folder / "tensorboard").exists()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2])
def test_gaussian_models_grey_images_and_none_held_out(channels, tmp_path, as_h5):
    rng = np.random.default_rng(0)
    data = as_h5(tmp_path / "data.h5", rng.integers(0, 255, (40, 32, 32, channels), np.uint8))
    run = train(data, tmp_path / "run", epochs=1, model="vae", held_out=0.0, tensorboard=True, **OPTIONS)
    found = accumulated(run.folder)
    assert scalars(found) == expected(run)
    assert found.Tags()["histograms"] == ["posterior_variance", "rate_per_dimension"]
    assert len(found.Tags()["images"]) == (channels == 1)


def killed(command_line, *words, after):
    """Start a training and kill it with SIGKILL once it has so many epochs."""
    history = command_line.folder / "run/history.jsonl"
    with command_line.start("train", *words) as process:
        end = time.monotonic() + 240
        while not (history.exists() and history.read_text().count("\n") >= after):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_training_leaves_no_step_twice(command_line, sprites, tmp_path):
    words = (sprites, "-o", "run", "--epochs", "6", "--latent-dim", "3", "--batch-size", "32", "--tensorboard")
    killed(command_line, *words, after=2)
    live = accumulated(tmp_path / "run")  # as a TensorBoard that was running all the time
    (tmp_path / "run/tensorboard/events.out.tfevents.1.mine").write_bytes(b"")
    found = command_line("train", *words)
    assert found.returncode == 0, found.stderr
    assert "Event files go to run/tensorboard: tensorboard --logdir run" in found.stderr
    run = RunRecord.read(tmp_path / "run")
    assert [path.stat().st_size > 0 for path in event_files(run.folder)] == [False, True]
    assert raw_steps(run.folder, "loss/train") == [1, 2, 3, 4, 5, 6]
    assert scalars(accumulated(run.folder)) == expected(run)
    live.Reload()
    assert scalars(live) == expected(run)
    assert (tmp_path / "run/tensorboard/events.out.tfevents.1.mine").exists()


@pytest.mark.slow
def test_event_files_belong_to_the_run_they_tell_of(sprites, tmp_path):
    folder = tmp_path / "run"
    train(sprites, folder, epochs=1, tensorboard=True, **OPTIONS)
    (first,) = event_files(folder)
    (folder / "tensorboard/mine.txt").write_text("mine")

    def stop(progress):
        if progress.step == 1 or progress.epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sprites, folder, epochs=2, overwrite=True, on_progress=stop, **OPTIONS)
    assert event_files(folder) == []
    assert event_files(folder / "previous") == [folder / "previous/tensorboard" / first.name]
    train(sprites, folder, epochs=2, **OPTIONS)
    assert not (folder / "previous").exists()
    assert (folder / "tensorboard/mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_training_begun_without_is_told_of_from_its_first_epoch(sprites, tmp_path):
    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sprites, tmp_path / "run", epochs=3, on_progress=stop, **OPTIONS)
    run = train(sprites, tmp_path / "run", epochs=3, tensorboard=True, **OPTIONS)
    assert scalars(accumulated(run.folder)) == expected(run)


@pytest.mark.slow
def test_without_the_package_it_is_asked_for(watch, sprites, tmp_path):
    watched = watch("tensorboard")
    found = watched.run("train", sprites, "-o", "run", "--epochs", "1", "--tensorboard")
    assert (found.returncode, found.stdout) == (2, "")
    assert "pip install 'ngvae-tools[tensorboard]'" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "run").exists()
    before = len(watched.attempts)
    assert watched.run("train", sprites, "-o", "run", "--epochs", "1", "--latent-dim", "2").returncode == 0
    assert len(watched.attempts) == before


def test_divergence_is_noted_and_forgotten(sprites, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(TrainingDivergedError) as caught:
        train(sprites, folder, epochs=1, learning_rate=1e30, tensorboard=True, **OPTIONS)
    assert RunRecord.read(folder).diverged == f"{caught.value.problem}: {caught.value.found}"
    run = train(sprites, folder, epochs=1, overwrite=True, **OPTIONS)
    assert run.diverged is None
    assert not (folder / "diverged.json").exists()


@pytest.mark.slow
def test_a_users_file_of_that_name_stays(sprites, tmp_path):
    (tmp_path / "run").mkdir()
    mine = tmp_path / "run/diverged.json"
    mine.write_text(json.dumps({"mine": 1}))
    with pytest.raises(TrainingDivergedError):
        train(sprites, tmp_path / "run", epochs=1, learning_rate=1e30, **OPTIONS)
    assert json.loads(mine.read_text()) == {"mine": 1}
    assert RunRecord.read(tmp_path / "run").diverged is None
