import json
import os
import re
import statistics
import subprocess
import time

import h5py
import numpy as np
import pytest
from inference.graphs import Linear, images_of

import ngvae_tools
from ngvae_tools.datasets import FACTOR_SETS, read_factors
from ngvae_tools.record import AnalysisRecord

COMMANDS = (
    "train",
    "select-latents",
    "sweep",
    "benchmark",
    "report",
    "explore",
    "compare",
    "inspect",
    "latents",
    "prune",
    "sprites",
    "doctor",
)
LATENTS_COMMANDS = ("latents info", "latents verify", "latents export", "latents index", "latents similar")
HEAVY = {"numpy", "torch", "onnx", "onnxruntime", "h5py", "matplotlib", "scipy", "sklearn", "PIL"}


@pytest.fixture
def encoder(tmp_path):
    return Linear().save(tmp_path / "encoder.onnx", nan_where_white=True)


@pytest.fixture
def data(tmp_path, as_h5):
    return as_h5(tmp_path / "data.h5", images_of(50))


class TestHelpAndVersion:
    def test_help_is_quick_and_loads_nothing_heavy(self, watch, command_line):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            found = command_line("--help")
            seconds.append(time.perf_counter() - start)
            assert found.returncode == 0
            for command in COMMANDS:
                assert command in found.stdout
        assert statistics.median(seconds) < 1.0
        watched = watch()
        watched.run("--help")
        assert {"typer", "ngvae_tools"} <= watched.loaded
        assert not HEAVY & watched.loaded

    def test_the_check_can_fail(self, watch, encoder, data):
        watched = watch()
        assert watched.run("select-latents", encoder, data, "-o", "out").returncode == 0
        assert {"numpy", "onnxruntime", "h5py"} <= watched.loaded

    def test_version(self, command_line):
        found = command_line("--version")
        assert (found.returncode, found.stdout, found.stderr) == (0, f"ngvae-tools {ngvae_tools.__version__}\n", "")

    @pytest.mark.parametrize("command", [*(name for name in COMMANDS if name != "latents"), *LATENTS_COMMANDS])
    def test_every_command_has_help(self, commands, command):
        found = commands(*command.split(), "--help")
        assert found.returncode == 0
        assert ("--quiet" in found.stdout) != (command == "latents")  # a group, whose own commands have it


class TestTorch:
    def test_select_latents_and_report_never_import_it(self, watch, encoder, data, run):
        watched = watch("torch")
        for words in (
            ("select-latents", encoder, data, "-o", "out"),
            ("report", "out", run.folder),
            ("report", "out", run.folder, "--html", "page.html", "--figures", "figures"),
            ("report", "out", "--json"),
        ):
            assert watched.run(*words).returncode == 0
            assert watched.attempts == []
            assert "ngvae_tools" in watched.loaded
            assert "torch" not in watched.loaded

    def test_the_check_can_fail(self, watch, tmp_path, sprites):
        watched = watch("torch")
        found = watched.run("train", sprites, "-o", "run", "--epochs", 1)
        assert found.returncode == 2
        assert "torch" in watched.attempts
        assert found.stderr.count("Error: ") == 1
        assert "pip install 'ngvae-tools[cpu,train]'" in found.stderr
        assert not (tmp_path / "run").exists()

    def test_without_onnxruntime_one_sentence_says_what_to_install(self, watch, encoder, data, tmp_path):
        watched = watch("onnxruntime")
        found = watched.run("select-latents", encoder, data, "-o", "out")
        assert "onnxruntime" in watched.attempts
        assert_refused(found, "pip install 'ngvae-tools[cpu]'")
        assert not (tmp_path / "out").exists()
        doctor = watched.run("doctor", "--json")
        assert doctor.returncode == 0
        assert any("onnxruntime is missing" in sentence for sentence in json.loads(doctor.stdout)["missing"])


PLAN = r"[\d,]+ images\. Their latents take \d+ \w+ of disk until the result is written, [^\n]+"


def assert_refused(found, *parts):
    """Exit code 2, and one sentence on stderr that starts with "Error:", after what was said of the plan at most."""
    assert found.returncode == 2, found
    assert found.stdout == ""
    assert re.fullmatch(rf"({PLAN}\n(Warning: [^\n]+\n)?)?Error: [^\n]+\.\n", found.stderr), found.stderr
    assert "Traceback" not in found.stderr
    for part in parts:
        assert part in found.stderr, found.stderr


class TestSelectLatents:
    def test_json_is_the_file_and_nothing_else(self, command_line, encoder, data, tmp_path):
        found = command_line("select-latents", encoder, data, "-o", "out", "--json")
        assert found.returncode == 0
        assert found.stdout == (tmp_path / "out" / "selection.json").read_text()
        plan, following = found.stderr.splitlines()
        assert plan == (
            "50 images. Their latents take 1 kB of disk until the result is written, which takes 17 kB at most, "
            "the names of images apart."
        )
        assert following == "Next: ngvae-tools report out --html out/report.html"
        record = AnalysisRecord.from_json(found.stdout)
        library = ngvae_tools.select_latents(encoder, data, tmp_path / "library")
        assert record.equal_but_for_timings(library)
        assert (tmp_path / "out/latents.h5").read_bytes() == (tmp_path / "library/latents.h5").read_bytes()
        raw = json.loads(found.stdout)
        assert (raw["format"], raw["version"]) == ("ngvae-tools/selection", 3)
        assert raw["selection"]["informative"] == list(record.selection.indices)
        assert raw["selection"]["count"] == len(record.selection.indices)

    def test_words_on_stderr_and_the_table_on_stdout(self, command_line, encoder, data):
        found = command_line("select-latents", encoder, data)
        assert found.returncode == 0
        assert "posterior" in found.stdout
        assert "Next:" not in found.stdout
        assert [line for line in found.stderr.splitlines() if not re.fullmatch(PLAN, line)] == [
            "No output named: writing to encoder-data.",
            "Next: ngvae-tools report encoder-data --html encoder-data/report.html",
        ]

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_quiet_says_nothing_and_the_log_file_does(self, commands, encoder, data, tmp_path, place):
        options = ["--quiet", "--log-file", "log.txt"]
        words = ["select-latents", encoder, data, "-o", "out", "--json"]
        found = commands(*options, *words) if place == "before" else commands(*words, *options)
        assert (found.returncode, found.stderr) == (0, "")
        log = (tmp_path / "log.txt").read_text()
        assert "50 images seen, 0 rejected" in log
        assert re.match(r"\d{4}-\d\d-\d\d ", log)
        assert commands("select-latents", encoder, data, "-o", "out", *options).returncode == 2
        assert "already exists" in (tmp_path / "log.txt").read_text().removeprefix(log)

    def test_names_that_are_not_utf8_do_not_disturb_the_log(self, command_line, encoder, data, tmp_path):
        out = os.fsdecode(b"out-\xff")
        found = command_line("select-latents", encoder, data, "-o", out, "--log-file", "log.txt")
        assert found.returncode == 0
        assert "Traceback" not in found.stderr
        assert "Logging error" not in found.stderr
        assert (tmp_path / out / "selection.json").exists()

    def test_rejected_images_give_exit_code_3(self, commands, encoder, as_pngs, tmp_path):
        images = images_of(6)
        images[1, -1, -1, -1] = 255
        folder = as_pngs(tmp_path / "d", images)
        (folder / "00004.png").write_bytes(b"broken")
        found = commands("select-latents", encoder, folder, "-o", "out")
        assert found.returncode == 3
        assert "2 of 6 images (33 %) could not be used: 1 makes the encoder return" in found.stderr
        assert "(00004.png); out/rejected.jsonl lists each." in found.stderr
        lines = (tmp_path / "out/rejected.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ["00001.png", "00004.png"]

    @pytest.mark.slow
    def test_training_with_a_rejected_image_gives_exit_code_3(self, command_line, as_pngs, tmp_path):
        folder = as_pngs(tmp_path / "d", np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8))
        (folder / "00004.png").write_bytes(b"broken")
        found = command_line("train", folder, "-o", "run", "--epochs", "1", "--latent-dim", "2")
        assert found.returncode == 3, found.stderr
        assert "1 of 20 images (5 %) could not be used: 1 is not an image" in found.stderr
        assert "(00004.png); run/config.json lists each." in found.stderr
        assert "no prior weights were learned" in found.stderr
        rejected = json.loads((tmp_path / "run/config.json").read_text())["data"]["rejected"]
        assert [line["id"] for line in rejected] == ["00004.png"]

    def test_a_foreign_model_by_flags(self, commands, as_h5, tmp_path):
        linear = Linear()
        linear.save(tmp_path / "m.onnx", metadata=None, sample_type="float32", layout="NCHW", names=("mean", "gate"))
        data = as_h5(tmp_path / "d.h5", images_of(20))
        words = ("select-latents", "m.onnx", data, "-o", "out")
        assert_refused(commands(*words), "mean (N, 3)", "--mu")
        found = commands(*words, "--mu", "mean", "--p", "gate", "--input-range", "0,255", "--json")
        assert found.returncode == 0
        rows = json.loads(found.stdout)["dimensions"]
        expected = linear.heads(images_of(20))[0].mean(0)
        np.testing.assert_allclose([row["mu_mean"] for row in rows], expected, atol=1e-4)

    @pytest.mark.parametrize("words", [("--json",), ()])
    def test_a_reader_that_has_gone_is_no_error(self, command_line, tmp_path, as_h5, words):
        # The JSON of 64 dimensions is larger than a pipe holds.
        Linear(64).save(tmp_path / "wide.onnx")
        data = as_h5(tmp_path / "d.h5", images_of(100))
        with command_line.start("select-latents", "wide.onnx", data, "-o", "out", *words) as process:
            with subprocess.Popen(["head", "-n", "1"], stdin=process.stdout, stdout=subprocess.PIPE, text=True) as head:
                process.stdout.close()
                first = head.communicate(timeout=60)[0]
            err = process.stderr.read()
            process.wait(timeout=60)
        assert len(first.splitlines()) <= 1
        assert process.returncode == 0
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        assert (tmp_path / "out/selection.json").exists()

    @pytest.mark.parametrize("words", [("--json",), ()])
    def test_nobody_reads_at_all(self, command_line, encoder, data, tmp_path, words):
        with command_line.start("select-latents", encoder, data, "-o", "out", "--bootstrap", 0, *words) as process:
            process.stdout.close()
            err = process.stderr.read()
            process.wait(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in err
        assert "Exception ignored" not in err
        assert (tmp_path / "out/selection.json").exists()

    def test_a_fault_inside_shows_no_traceback(self, command_line, encoder, data, tmp_path):
        # A package that breaks while it loads stands for any fault of ours.
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "onnxruntime.py").write_text("raise ZeroDivisionError('made to fail')")
        found = command_line.under(PYTHONPATH=tmp_path / "broken", TMPDIR=tmp_path)(
            "select-latents", encoder, data, "-o", "out"
        )
        assert found.returncode == 1
        assert found.stdout == ""
        assert re.fullmatch(r"Error: a fault inside ngvae-tools \(ZeroDivisionError: made to fail\).*\n", found.stderr)
        (details,) = tmp_path.glob("ngvae-tools-*.log")
        assert "Traceback" in details.read_text()
        assert not (tmp_path / "out").exists()


class TestBadInput:
    """Every kind that the issue names: one sentence with the remedy, exit code 2, no partial output."""

    @pytest.fixture
    def refused(self, commands, encoder, data, tmp_path):
        def check(*parts, model=encoder, data=data, words=()):
            found = commands("select-latents", model, data, "-o", "out", *words)
            assert_refused(found, *parts)
            assert not (tmp_path / "out").exists()

        return check

    def test_not_onnx(self, refused, tmp_path):
        (tmp_path / "text.onnx").write_text("text")
        refused("expected an ONNX file", "text.onnx", model="text.onnx")

    def test_no_heads(self, refused, tmp_path):
        Linear().save(tmp_path / "m.onnx", metadata=None, names=("mean", "gate"))
        refused("mean (N, 3)", "gate (N, 3)", "--mu", "--logvar", model="m.onnx")

    def test_another_size_in_hdf5(self, refused, tmp_path, as_h5):
        refused(
            "height 6, width 5", "height 8, width 8", "--resize", data=as_h5(tmp_path / "o.h5", images_of(5, (8, 8, 3)))
        )

    def test_another_size_in_a_folder(self, refused, tmp_path, as_pngs):
        refused(
            "height 6, width 5", "height 8, width 8", "--resize", data=as_pngs(tmp_path / "o", images_of(5, (8, 8, 3)))
        )

    def test_other_channels(self, refused, tmp_path, as_h5):
        refused("3 channels", "1 channel", data=as_h5(tmp_path / "o.h5", images_of(5, (6, 5, 1))))

    def test_an_empty_folder(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        refused("holds no image", data="empty")

    def test_hdf5_without_images(self, refused, tmp_path):
        with h5py.File(tmp_path / "o.h5", "w") as file:
            file["table"] = np.zeros((4, 2))
        refused("table", "--dataset-key", data="o.h5")

    def test_no_data(self, refused):
        refused("nothing there", data="none.h5")

    def test_every_image_non_finite(self, refused, tmp_path, as_h5):
        Linear().save(tmp_path / "f.onnx", sample_type="float32")
        refused("non-finite", model="f.onnx", data=as_h5(tmp_path / "o.h5", np.full((5, 6, 5, 3), np.nan, np.float32)))

    def test_every_output_non_finite(self, refused, tmp_path, as_h5):
        refused("not finite", data=as_h5(tmp_path / "o.h5", np.full((5, 6, 5, 3), 255, np.uint8)))

    def test_cuda_that_cannot_run(self, refused):
        from ngvae_tools.inference.providers import CUDA, require_onnxruntime

        if CUDA in require_onnxruntime().get_available_providers():
            pytest.skip("CUDA is offered here")
        refused("--device cuda", words=("--device", "cuda"))

    def test_an_input_range_that_is_none(self, refused):
        refused("LOW,HIGH", words=("--input-range", "1,0"))

    def test_a_threshold_that_separates_nothing(self, refused):
        refused("--threshold", words=("--threshold", "1.5"))

    def test_an_existing_output(self, commands, encoder, data, tmp_path):
        words = ("select-latents", encoder, data, "-o", "out")
        assert commands(*words).returncode == 0
        before = (tmp_path / "out/selection.json").read_bytes()
        assert_refused(commands(*words), "already exists", "--overwrite")
        assert (tmp_path / "out/selection.json").read_bytes() == before
        assert commands(*words, "--overwrite", "-q").returncode == 0

    def test_a_full_disk(self, commands, encoder, tmp_path, as_h5, small_disk):
        folder = small_disk(32)
        data = as_h5(tmp_path / "o.h5", images_of(4000))
        assert_refused(commands("select-latents", encoder, data, "-o", folder / "out"), "No space left", "name another")
        assert not (folder / "out/selection.json").exists()

    def test_a_read_only_disk(self, commands, encoder, data, small_disk):
        folder = small_disk(32, read_only=True)
        assert_refused(commands("select-latents", encoder, data, "-o", folder / "out"), "Read-only file system")

    def test_a_log_file_that_cannot_be_written(self, commands, encoder, data, tmp_path):
        words = ("select-latents", encoder, data, "-o", "out", "--log-file", "none/log.txt")
        assert_refused(commands(*words), "--log-file")
        assert not (tmp_path / "out").exists()


class TestOtherCommands:
    @pytest.mark.slow
    def test_doctor_in_words(self, commands):
        found = commands("doctor")
        assert found.returncode == 0
        for word in ("numpy", "onnxruntime", "CPUExecutionProvider", ngvae_tools.__version__):
            assert word in found.stdout

    def test_doctor(self, command_line):
        raw = json.loads(command_line("doctor", "--json").stdout)
        assert raw["versions"]["ngvae-tools"] == ngvae_tools.__version__
        assert "CPUExecutionProvider" in raw["providers"]
        assert raw["devices"][0] == "cpu"

    def test_sprites(self, commands, tmp_path):
        words = ("--size", 16, "--factors", "grid")
        found = commands("sprites", "grid.h5", *words)
        assert found.returncode == 0
        assert "Next: ngvae-tools train grid.h5" in found.stderr
        found = commands("sprites", "some.h5", "--images", 40, "--size", 16, "--grid", "x=2", "--grid", "colour=3")
        assert found.returncode == 0
        with h5py.File(tmp_path / "grid.h5") as full, h5py.File(tmp_path / "some.h5") as some:
            assert full["images"].shape == (5184, 16, 16, 3)
            names = [str(name) for name in some["labels"].attrs["names"]]
            counts = {name: len(np.unique(some["labels"][:, k])) for k, name in enumerate(names)}
        assert (counts["x"], counts["colour"]) == (2, 3)
        assert counts["y"] > 30
        assert_refused(commands("sprites", "some.h5"), "already exists", "--overwrite")
        assert_refused(commands("sprites", "other.h5", "--grid", "x"), "NAME=COUNT")
        assert_refused(commands("sprites", "other.h5", "--grid", "size=3"), "size")
        assert_refused(commands("sprites", "other.h5", "--fix", "x=left"), "NAME=VALUE")
        assert_refused(commands("sprites", "other.h5", "--fix", "x=0.1", "--fix", "x=0.2"), "x as 0.1 and 0.2")
        assert not (tmp_path / "other.h5").exists()

    @pytest.mark.parametrize("name", FACTOR_SETS)
    def test_sets_of_factors(self, commands, tmp_path, name):
        found = commands("sprites", "a.h5", "--set", name, "--images", 20, "--size", 16, "--fix", "shape=1")
        assert found.returncode == 0, found.stderr
        factors = read_factors(tmp_path / "a.h5")
        assert factors.names == FACTOR_SETS[name].names
        assert set(factors.values[:, factors.names.index("shape")]) == {1}

    def test_report_without_anything_to_report(self, commands):
        assert_refused(commands("report"), "nothing to report", "ngvae-tools train")

    def test_report_page_and_the_next_command(self, commands, encoder, data, tmp_path):
        commands("select-latents", encoder, data, "-o", "out")
        found = commands("report", "out")
        assert found.stderr == "Next: ngvae-tools report out --html report.html\n"
        found = commands("report", "out", "--html", "report.html")
        assert found.returncode == 0
        assert found.stderr.endswith("Wrote report.html. Next: open it in a browser.\n")
        assert "no decoder is known" in " ".join(found.stderr.split())
        assert re.fullmatch(r"out: \d of \d dimensions are informative\n", found.stdout)
        assert (tmp_path / "report.html").read_text().lower().startswith("<!doctype html>")
        assert commands("report", "out", "--json").stdout == (tmp_path / "out/selection.json").read_text()


@pytest.mark.slow
def test_the_three_commands_bare(command_line, tmp_path):
    """With a small sprites.h5 that is there already; the slow test below lets `train` make it."""
    assert command_line("sprites", "sprites.h5", "--images", 120, "--size", 16).returncode == 0
    bare(command_line, tmp_path, "No data named: using sprites.h5, here.")


@pytest.mark.slow
def test_the_three_commands_bare_from_nothing(command_line, tmp_path):
    bare(command_line, tmp_path, "No data named: made the paper's sprites in sprites.h5.")
    with h5py.File(tmp_path / "sprites.h5") as file:
        assert file["images"].shape == (6000, 32, 32, 3)


def bare(command_line, tmp_path, first_words):
    found = command_line("train", "--epochs", 1, timeout=300)
    assert (found.returncode, found.stdout) == (0, "")
    lines = found.stderr.splitlines()
    assert lines[:2] == [first_words, "Training on sprites.h5; the run goes to run-sprites."]
    assert "held out: loss" in found.stderr
    assert lines[-1] == "Next: ngvae-tools select-latents run-sprites/encoder.onnx sprites.h5"

    found = command_line(*lines[-1].removeprefix("Next: ngvae-tools ").split())
    assert found.returncode == 0
    lines = found.stderr.splitlines()
    assert lines[0] == "No output named: writing to encoder-sprites."
    assert lines[-1] == "Next: ngvae-tools report encoder-sprites --html encoder-sprites/report.html"
    assert {"selection.json", "latents.h5"} == {path.name for path in (tmp_path / "encoder-sprites").iterdir()}

    found = command_line("select-latents", "run-sprites", "sprites.h5")
    assert found.returncode == 0
    folder = found.stderr.splitlines()[0].removeprefix("No output named: writing to ").rstrip(".")
    records = [AnalysisRecord.read(tmp_path / name) for name in ("encoder-sprites", folder)]
    assert records[0].equal_but_for_timings(records[1])

    found = command_line("report")
    assert found.returncode == 0
    for name in ("encoder-sprites", folder, "run-sprites"):
        assert name in found.stdout
    assert found.stderr.splitlines()[-1] == "Next: ngvae-tools report --html report.html"
    raw = json.loads(command_line("report", "--json", "-q").stdout)
    assert (len(raw["analyses"]), len(raw["runs"]), raw["skipped"]) == (2, 1, [])
    assert_refused(command_line("train", "-o", "run-sprites", "--quiet"), "already exists", "--overwrite")
