"""Interrupted, shared out and limited passes: the same result bit for bit, and nothing lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from bad_files import unusable_files
from inference.graphs import Linear, images_of
from latent_files import read_latents
from PIL import Image

from ngvae_tools import encode_part, merge, select_latents
from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.errors import MissingDependencyError, OptionError, OutputError, RecordError, TooManyRejectedError
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.shard_folder import ShardFolder

RESULT = ["latents.h5", "rejected.jsonl", "selection.json"]
SHAPE = (32, 32, 3)


def same_result(one, other):
    """Bit for bit, selection.json less its timings."""
    assert (one / "latents.h5").read_bytes() == (other / "latents.h5").read_bytes()
    texts = [(folder / "rejected.jsonl") for folder in (one, other)]
    assert texts[0].exists() == texts[1].exists()
    if texts[0].exists():
        assert texts[0].read_bytes() == texts[1].read_bytes()
    records = [json.loads((folder / "selection.json").read_text()) for folder in (one, other)]
    for record in records:
        del record["timings"]
    assert records[0] == records[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An untrained network of the paper's shape: its sums do depend on their order."""
    import torch

    from exporters.networks import export_model
    from ngvae_tools.contract import InputScale
    from ngvae_tools.training.config import TrainingConfig
    from ngvae_tools.training.model import VariationalAutoencoder

    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    model = VariationalAutoencoder(TrainingConfig(latent_dim=5), (16, 16, 3), InputScale())
    with torch.no_grad():
        model.encoder.heads.weight[:5] *= 300
    export_model(model, folder / "encoder.onnx", folder / "decoder.onnx", sample_type="uint8")
    return folder


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory):
    """Data of six shards, and the result of one run."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5 * BLOCK + 300, 16, 16, 3), dtype=np.uint8)
    with h5py.File(folder / "d.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(100, 16, 16, 3), compression="gzip")
    select_latents(trained / "encoder.onnx", folder / "d.h5", folder / "out")
    return folder


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """Data that take some seconds, some images of each shard rejected, and the result of one run."""
    folder = tmp_path_factory.mktemp("long")
    with h5py.File(folder / "d.h5", "w") as file:
        shape = (50_000, *SHAPE)
        images = file.create_dataset("images", shape, np.uint8, chunks=(1024, *SHAPE), compression="gzip")
        for start in range(0, 50_000, 10 * 1024):
            images[start : start + 1024] = images_of(1024, SHAPE, seed=start)
            images[start + 5, -1, -1, -1] = 255
    Linear(8, SHAPE).save(folder / "encoder.onnx", nan_where_white=True)
    select_latents(folder / "encoder.onnx", folder / "d.h5", folder / "out", workers=1)
    return folder


def shards_of(folder):
    return sorted(path.name for path in (folder / "shards").glob("*.npz"))


def stopped(command_line, long_run, signal_number, output, *words, after=0.0):
    """A real process, stopped so many seconds after its first new shard, or finished before."""
    before = len(shards_of(output))
    arguments = ("select-latents", long_run / "encoder.onnx", long_run / "d.h5", "-o", output, *words)
    with command_line.start(*arguments) as process:
        deadline = time.monotonic() + 60
        while len(shards_of(output)) <= before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(after)
        process.send_signal(signal_number)
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


class TestInterrupted:
    @pytest.mark.slow
    def test_killed_and_taken_up_again(self, command_line, long_run, tmp_path, listed):
        out = tmp_path / "out"
        for after in (0.0, 0.2):
            found = stopped(command_line, long_run, signal.SIGKILL, out, after=after)
            assert found.returncode == -signal.SIGKILL
            assert not (out / "selection.json").exists()
        kept = len(shards_of(out))
        assert kept >= 2
        found = command_line("select-latents", long_run / "encoder.onnx", long_run / "d.h5", "-o", out)
        assert found.returncode == 3, found.stderr
        assert "Going on with what is there:" in found.stderr
        assert [name for name in listed(out) if not name.startswith(".")] == RESULT
        same_result(out, long_run / "out")

    @pytest.mark.slow
    def test_killed_thirty_times_at_random(self, command_line, long_run, tmp_path):
        rng = np.random.default_rng(int(time.time()))
        kills = 0
        for run in range(100):
            out = tmp_path / f"out-{run}"
            while kills < 30 + 3 * run:
                found = stopped(command_line, long_run, signal.SIGKILL, out, after=float(rng.exponential(0.1)))
                if found.returncode == 3:
                    break
                assert found.returncode == -signal.SIGKILL, found.stderr
                assert not (out / "selection.json").exists()
                kills += 1
            else:
                found = command_line("select-latents", long_run / "encoder.onnx", long_run / "d.h5", "-o", out)
                assert found.returncode == 3, found.stderr
            same_result(out, long_run / "out")
            shutil.rmtree(out)
            if kills >= 30:
                return
        raise AssertionError(f"only {kills} kills")

    def test_ctrl_c_says_how_to_go_on(self, command_line, long_run, tmp_path):
        out = tmp_path / "out"
        found = stopped(command_line, long_run, signal.SIGINT, out)
        assert found.returncode == 130
        assert found.stdout == ""
        assert "shards are finished and kept in" in found.stderr
        assert "the same command goes on from them" in found.stderr
        assert "Traceback" not in found.stderr
        assert [path.name for path in out.iterdir()] == ["shards"]
        assert not list((out / "shards").glob("*.part"))
        select_latents(long_run / "encoder.onnx", long_run / "d.h5", out, workers=3)
        same_result(out, long_run / "out")

    def test_an_interrupted_replacement_keeps_the_old_result(self, command_line, long_run, tmp_path, as_h5):
        small = as_h5(tmp_path / "d.h5", images_of(20, SHAPE))
        record = select_latents(long_run / "encoder.onnx", small, tmp_path / "out")
        found = stopped(command_line, long_run, signal.SIGINT, tmp_path / "out", "--overwrite")
        assert found.returncode == 130
        assert AnalysisRecord.read(tmp_path / "out") == record
        select_latents(long_run / "encoder.onnx", long_run / "d.h5", tmp_path / "out", overwrite=True)
        same_result(tmp_path / "out", long_run / "out")

    def test_only_what_is_missing_is_done(self, monkeypatch, trained, whole, tmp_path):
        out = tmp_path / "out"
        self.interrupt(monkeypatch, trained, whole, out, shards=3)
        plans, told = [], []
        select_latents(
            trained / "encoder.onnx", whole / "d.h5", out, on_plan=plans.append, on_progress=told.append, workers=1
        )
        assert (plans[0].n_images, plans[0].n_done) == (5 * BLOCK + 300, 3 * BLOCK)
        assert told[0].done == 3 * BLOCK + 256
        same_result(out, whole / "out")

    def interrupt(self, monkeypatch, trained, whole, out, *, shards):
        """A run that ends after so many shards."""

        keep = ShardFolder.keep

        def keep_some(folder, result):
            # In the worker, which would else go on until the interruption reaches it.
            if result.shard.number == shards:
                raise KeyboardInterrupt
            keep(folder, result)

        monkeypatch.setattr(ShardFolder, "keep", keep_some)
        with pytest.raises(KeyboardInterrupt, match=f"{shards} of 6 shards are finished"):
            select_latents(trained / "encoder.onnx", whole / "d.h5", out, workers=1)
        monkeypatch.undo()
        assert len(shards_of(out)) == shards

    @pytest.mark.parametrize("options", [{"workers": 2}, {"batch_size": 7}, {"rule": "active"}, {"device": "cpu"}])
    def test_what_does_not_change_the_shards_may_change(self, monkeypatch, trained, whole, tmp_path, options):
        self.interrupt(monkeypatch, trained, whole, tmp_path / "out", shards=2)
        record = select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "out", **options)
        expected = select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "expected", **options)
        assert record.equal_but_for_timings(expected)

    @pytest.mark.parametrize("what", ["encoder", "data", "bootstrap"])
    def test_what_does_is_refused_and_named(self, monkeypatch, trained, whole, tmp_path, as_h5, what):
        out = tmp_path / "out"
        self.interrupt(monkeypatch, trained, whole, out, shards=2)
        model, data, options = trained / "encoder.onnx", whole / "d.h5", {}
        if what == "encoder":
            model = Linear(5, (16, 16, 3)).save(tmp_path / "other.onnx")
        elif what == "data":
            data = as_h5(tmp_path / "other.h5", images_of(5 * BLOCK + 300, (16, 16, 3)))
        else:
            options = {"bootstrap": 10}
        named = {"encoder": "encoder: ", "data": "data fingerprint: ", "bootstrap": "bootstrap: 10 in place of 200"}
        with pytest.raises(OutputError, match=f"holds an unfinished result of another.*{named[what]}"):
            select_latents(model, data, out, **options)
        assert len(shards_of(out)) == 2
        select_latents(model, data, out, overwrite=True, **options)
        assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
            "latents.h5",
            "selection.json",
        ]

    def test_a_damaged_shard_is_made_again(self, monkeypatch, trained, whole, tmp_path):
        out = tmp_path / "out"
        self.interrupt(monkeypatch, trained, whole, out, shards=4)
        for number, place in ((1, 5000), (2, 0)):
            path = out / "shards" / f"{number:06d}.npz"
            data = bytearray(path.read_bytes())
            data[place] ^= 1
            path.write_bytes(data)
        (out / "shards" / "000003.npz").rename(out / "shards" / "000005.npz")
        (out / "shards" / "000004.npz.part").write_bytes(b"half")
        plans = []
        select_latents(trained / "encoder.onnx", whole / "d.h5", out, on_plan=plans.append)
        assert plans[0].n_done == BLOCK
        same_result(out, whole / "out")

    def test_a_plan_that_cannot_be_read(self, monkeypatch, trained, whole, tmp_path):
        out = tmp_path / "out"
        self.interrupt(monkeypatch, trained, whole, out, shards=1)
        (out / "shards" / "plan.json").write_text("{")
        with pytest.raises(RecordError, match="--overwrite"):
            select_latents(trained / "encoder.onnx", whole / "d.h5", out)
        select_latents(trained / "encoder.onnx", whole / "d.h5", out, overwrite=True)
        same_result(out, whole / "out")

    def test_one_process_at_a_time(self, trained, whole, tmp_path):
        out = tmp_path / "out"
        refused = []

        def another(_):
            if not refused:
                with pytest.raises(OutputError, match="is in use") as error:
                    select_latents(trained / "encoder.onnx", whole / "d.h5", out)
                refused.append(error)

        select_latents(trained / "encoder.onnx", whole / "d.h5", out, on_progress=another)
        assert refused
        same_result(out, whole / "out")


class TestBadFiles:
    def test_a_folder_of_everything_that_goes_wrong(self, command_line, tmp_path, as_pngs):
        """Each broken file is rejected with its reason, each sound one is encoded, and the run goes on."""
        encoder = Linear(3, (16, 16, 3)).save(tmp_path / "encoder.onnx")
        folder = as_pngs(tmp_path / "d", images_of(50, (16, 16, 3)))
        broken = unusable_files()
        for name, (data, _) in broken.items():
            (folder / name).write_bytes(data)
        odd = [b"new\nline.png", b"not-utf8-\xff.png", b"JPEG.png"]
        for name in odd[:2]:
            shutil.copy(folder / "00000.png", folder / os.fsdecode(name))
        Image.fromarray(images_of(1, (16, 16, 3))[0]).save(folder / os.fsdecode(odd[2]), format="JPEG")
        (folder / "folder.png").mkdir()
        (folder / "broken link.png").symlink_to("nowhere")
        (folder / "circle").symlink_to(folder, target_is_directory=True)
        found = command_line("select-latents", encoder, folder, "-o", "out", "--workers", "2")
        assert found.returncode == 3, found.stderr
        assert "Traceback" not in found.stderr
        record = AnalysisRecord.read(tmp_path / "out")
        lines = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
        assert {line["id"] for line in lines} == {*broken, "broken link.png"}
        assert all(line["reason"] for line in lines)
        _, names, _ = read_latents(tmp_path / "out/latents.h5")
        assert {*odd} <= {*names.tolist()}
        assert record.data.n_images == len(names) + len(lines) == 50 + 3 + len(broken) + 1


class TestMaxRejected:
    @pytest.fixture
    def data(self, tmp_path, as_h5):
        images = images_of(3 * BLOCK)
        images[::100, -1, -1, -1] = 255
        return as_h5(tmp_path / "d.h5", images)

    @pytest.fixture
    def encoder(self, tmp_path):
        return Linear().save(tmp_path / "encoder.onnx", nan_where_white=True)

    @pytest.mark.parametrize("limit", [5, 0, 0.009])
    def test_too_many_end_the_run_and_keep_what_is_done(self, tmp_path, data, encoder, limit):
        with pytest.raises(TooManyRejectedError, match="--max-rejected") as caught:
            select_latents(encoder, data, tmp_path / "out", max_rejected=limit, workers=1)
        assert "such as" in str(caught.value)
        assert not (tmp_path / "out/selection.json").exists()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]
        # A higher limit goes on; shards that are there count as before.
        if shards_of(tmp_path / "out"):
            with pytest.raises(TooManyRejectedError):
                select_latents(encoder, data, tmp_path / "out", max_rejected=limit)
        record = select_latents(encoder, data, tmp_path / "out", max_rejected=0.5)
        assert record.data.n_rejected == 31

    @pytest.mark.parametrize("limit", [31, 0.0102, 0.99])
    def test_just_as_many_are_allowed(self, tmp_path, data, encoder, limit):
        assert select_latents(encoder, data, tmp_path / "out", max_rejected=limit).data.n_rejected == 31

    @pytest.mark.parametrize("limit", [-1, 1.5, float("nan")])
    def test_limits_that_mean_nothing(self, tmp_path, data, encoder, limit):
        with pytest.raises(OptionError, match="--max-rejected"):
            select_latents(encoder, data, tmp_path / "out", max_rejected=limit)

    def test_exit_code_4(self, commands, data, encoder):
        found = commands("select-latents", encoder, data, "-o", "out", "--max-rejected", "0.5%")
        assert found.returncode == 4
        assert "at most 15 of 3,072, by --max-rejected" in found.stderr
        found = commands("select-latents", encoder, data, "-o", "out", "--max-rejected", "2%")
        assert found.returncode == 3
        assert commands("select-latents", encoder, data, "--max-rejected", "many").returncode == 2


@pytest.fixture(scope="module")
def parts(trained, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    for number in (3, 1, 2):
        part = encode_part(
            trained / "encoder.onnx", whole / "d.h5", folder / f"part-{number}", number=number, of=3, workers=number
        )
        assert (part.n_shards, part.n_rejected) == (2, 0)
    return folder


class TestParts:
    def test_merged_they_equal_one_run(self, parts, whole, tmp_path):
        names = ["part-2", "part-3", "part-1"]
        before = {path: path.read_bytes() for path in parts.rglob("*.npz")}
        merge([parts / name for name in names], tmp_path / "out")
        same_result(tmp_path / "out", whole / "out")
        assert {path: path.read_bytes() for path in parts.rglob("*.npz")} == before

    def test_elsewhere_without_model_and_data(self, trained, whole, parts, tmp_path):
        """The data lie at another path for one part, and nowhere for the merge."""
        (tmp_path / "node").mkdir()
        shutil.copy(trained / "encoder.onnx", tmp_path / "node/encoder.onnx")
        shutil.copy(whole / "d.h5", tmp_path / "node/d.h5")
        encode_part(tmp_path / "node/encoder.onnx", tmp_path / "node/d.h5", tmp_path / "two", number=2, of=3)
        shutil.rmtree(tmp_path / "node")
        merge([parts / "part-1", tmp_path / "two", parts / "part-3"], tmp_path / "out")
        same_result(tmp_path / "out", whole / "out")

    def test_with_another_rule_and_a_decoder(self, trained, parts, whole, tmp_path):
        record = merge(sorted(parts.iterdir()), tmp_path / "out", dimensions=(0, 2), decoder=trained / "decoder.onnx")
        expected = select_latents(
            trained / "encoder.onnx",
            whole / "d.h5",
            tmp_path / "expected",
            dimensions=(0, 2),
            decoder=trained / "decoder.onnx",
        )
        assert record.truncation is not None
        assert record.equal_but_for_timings(expected)

    def test_missing_and_doubled_ones_are_named(self, parts, tmp_path):
        with pytest.raises(OutputError, match="missing: 2, 3"):
            merge([parts / "part-1", parts / "part-3"], tmp_path / "out")
        with pytest.raises(OutputError, match="in two parts: 0, 1"):
            merge([parts / "part-1", parts / "part-2", parts / "part-3", parts / "part-1"], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_parts_of_another_pass(self, trained, whole, parts, tmp_path):
        encode_part(trained / "encoder.onnx", whole / "d.h5", tmp_path / "two", number=2, of=3, bootstrap=0)
        with pytest.raises(OutputError, match=r"different passes.*bootstrap: 0 in place of 200"):
            merge([parts / "part-1", tmp_path / "two", parts / "part-3"], tmp_path / "out")

    def test_what_is_no_part(self, whole, parts, tmp_path):
        with pytest.raises(RecordError, match=r"no part of a pass.*a finished result"):
            merge([whole / "out"], tmp_path / "out")
        with pytest.raises(RecordError, match="no part of a pass"):
            merge([tmp_path / "nothing"], tmp_path / "out")
        with pytest.raises(OptionError, match="no part"):
            merge([], tmp_path / "out")

    def test_the_shards_of_all_parts_in_one_folder_are_a_run(self, trained, whole, tmp_path):
        for number in (1, 2):
            encode_part(trained / "encoder.onnx", whole / "d.h5", tmp_path / "out", number=number, of=2)
        plans = []
        select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "out", on_plan=plans.append)
        assert plans[0].n_done == plans[0].n_images
        same_result(tmp_path / "out", whole / "out")

    def test_more_parts_than_shards(self, trained, whole, tmp_path):
        sizes = []
        for number in range(1, 9):
            part = encode_part(trained / "encoder.onnx", whole / "d.h5", tmp_path / f"{number}", number=number, of=8)
            sizes.append(part.n_shards)
        assert sorted(sizes) == [0, 0, 1, 1, 1, 1, 1, 1]
        merge([tmp_path / f"{number}" for number in range(1, 9)], tmp_path / "out")
        same_result(tmp_path / "out", whole / "out")

    def test_the_commands(self, commands, trained, whole, tmp_path):
        words = ("select-latents", trained / "encoder.onnx", whole / "d.h5")
        found = commands(*words, "--shard", "1/2")
        assert found.returncode == 0, found.stderr
        assert "ngvae-tools merge PART... --output OUT" in found.stderr
        assert commands(*words, "--shard", "2/2", "-o", "two", "--workers", "2").returncode == 0
        found = commands("merge", "two", "encoder-d-1-of-2", "--output", "out")
        assert found.returncode == 0, found.stderr
        assert "dimensions are informative" in found.stdout
        same_result(tmp_path / "out", whole / "out")
        for shard in ("3/2", "0/2", "1", "a/b"):
            found = commands(*words, "--shard", shard)
            assert found.returncode == 2
            assert "--shard" in found.stderr
        found = commands(*words, "--shard", "1/2", "--rule", "active")
        assert found.returncode == 2
        assert "ngvae-tools merge" in found.stderr


class TestRay:
    @pytest.mark.slow
    def test_two_workers_give_the_same_bits(self, command_line, trained, whole, tmp_path, as_pngs):
        pytest.importorskip("ray")
        words = ("select-latents", trained / "encoder.onnx", whole / "d.h5", "--engine", "ray", "--workers", "2")
        found = command_line(*words, "-o", "out")
        assert found.returncode == 0, found.stderr
        same_result(tmp_path / "out", whole / "out")
        # A folder, with rejections.
        images = np.random.default_rng(1).integers(0, 256, (1500, 16, 16, 3), dtype=np.uint8)
        folder = as_pngs(tmp_path / "d", images)
        (folder / "00007.png").write_bytes(b"broken")
        select_latents(trained / "encoder.onnx", folder, tmp_path / "expected")
        found = command_line("select-latents", trained / "encoder.onnx", folder, "-o", "ray", "--engine", "ray")
        assert found.returncode == 3, found.stderr
        same_result(tmp_path / "ray", tmp_path / "expected")

    @pytest.mark.slow
    def test_errors_of_a_worker_are_sentences(self, command_line, tmp_path, as_h5):
        pytest.importorskip("ray")
        bad = Linear()
        bad.second_weight *= 4
        data = as_h5(tmp_path / "d.h5", images_of(3000))
        words = ("select-latents", bad.save(tmp_path / "bad.onnx"), data, "-o", "out", "--engine", "ray")
        found = command_line(*words, "--workers", "2")
        assert found.returncode == 2, found.stderr
        assert "p between 0 and 1" in found.stderr
        assert "Traceback" not in found.stderr

    def test_without_ray(self, trained, whole, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingDependencyError, match=r"ngvae-tools\[ray\]"):
            select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "out", engine="ray")
        assert not (tmp_path / "out").exists()


def test_no_descriptor_is_left_open(trained, whole, tmp_path):
    def opened():
        links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return {str(path.readlink()) for path in links}

    before = opened()
    select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "out")

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        select_latents(trained / "encoder.onnx", whole / "d.h5", tmp_path / "other", on_progress=stop)
    assert not [path for path in opened() - before if str(tmp_path) in path or str(whole) in path]
