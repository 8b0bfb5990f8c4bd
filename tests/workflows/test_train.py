import json
import shutil

import h5py
import numpy as np
import pytest

import ngvae_tools
from ngvae_tools import select_latents, train
from ngvae_tools.errors import ContractError, DatasetError, OptionError, OutputError, TrainingDivergedError
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.run import RunRecord

FILES = ["checkpoint.pt", "config.json", "decoder.onnx", "encoder.onnx", "history.jsonl", "summary.json"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Sprites as PNG files of mixed sizes, two of them unusable."""
    from PIL import Image

    from ngvae_tools.datasets import write_sprites

    folder = tmp_path_factory.mktemp("mixed") / "images"
    folder.mkdir()
    for size in (20, 33):
        path = folder.parent / f"{size}.h5"
        write_sprites(path, images=20, size=size, seed=size)
        with h5py.File(path) as file:
            for index, image in enumerate(file["images"][:]):
                Image.fromarray(image[:, : size - 3]).save(folder / f"{size}-{index:02d}.png")
    (folder / "20-05.png").write_bytes(b"broken")
    Image.new("L", (20, 20)).save(folder / "33-05.png")
    return folder


@pytest.fixture(scope="module")
def mixed_run(mixed, tmp_path_factory):
    output = tmp_path_factory.mktemp("mixed-run") / "run"
    return train(mixed, output, epochs=1, latent_dim=3, resize="pad", size=16, held_out=0.25, batch_size=8)


class TestRun:
    def test_files_and_record(self, run, sprites):
        assert sorted(path.name for path in run.folder.iterdir()) == FILES
        assert RunRecord.read(run.folder) == run
        assert len(run.epochs) == 1
        assert run.config["data"]["n_images"] == 200
        assert run.config["data"]["path"] == str(sprites.resolve())
        assert run.config["options"]["latent_dim"] == 6
        assert run.summary["epochs"] == 1
        for name in ("encoder.onnx", "decoder.onnx"):
            export = run.summary["exports"][name]
            assert export["bytes"] == (run.folder / name).stat().st_size
            assert export["max_abs_difference"] <= 1e-4

    def test_held_out_figures(self, run):
        assert (run.config["data"]["n_train"], run.config["data"]["n_held_out"]) == (180, 20)
        held_out = run.epochs[-1].held_out
        assert held_out is not None
        assert run.summary["held_out"]["mse"] == held_out.mse != run.epochs[-1].train.mse
        assert 0 < held_out.mse < 1

    def test_the_encoder_is_ready_for_select_latents(self, run, sprites, tmp_path):
        record = select_latents(run.folder, sprites, tmp_path / "out")
        assert record.model.latent_dim == 6
        assert record.model.family == "normal-gamma-mixture"
        assert record.data.fingerprint == run.config["data"]["fingerprint"]

    def test_an_existing_run_is_refused_and_kept(self, run, sprites):
        before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
        with pytest.raises(OutputError, match="--overwrite"):
            train(sprites, run.folder, epochs=1)
        assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before

    def test_a_run_that_did_not_finish_is_called_so(self, run, sprites, tmp_path):
        shutil.copytree(run.folder, tmp_path / "run")
        with pytest.raises(OutputError, match="found a finished run"):
            train(sprites, tmp_path / "run", epochs=1)
        (tmp_path / "run/summary.json").unlink()
        with pytest.raises(OutputError, match="did not finish"):
            train(sprites, tmp_path / "run", epochs=1)

    @pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "history.jsonl"])
    def test_a_file_of_someone_else_is_not_replaced(self, sprites, tmp_path, name):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=r"found a file of that name.*--overwrite"):
            train(sprites, tmp_path, epochs=1)
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_what_lies_beside_a_run_stays(self, sprites, tmp_path):
        mine = {tmp_path / "previous/thesis.txt": "x", tmp_path / "lock": "mine"}
        (tmp_path / "previous").mkdir()
        for path, text in mine.items():
            path.write_text(text)
        for overwrite in (False, True):
            train(sprites, tmp_path, epochs=1, latent_dim=2, overwrite=overwrite)
            assert {path: path.read_text() for path in mine} == mine
            assert [path.name for path in (tmp_path / "previous").iterdir()] == ["thesis.txt"]
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "lock", "previous"])

    @pytest.mark.parametrize("name", FILES)
    def test_a_run_of_someone_else_in_previous_is_not_removed(self, run, sprites, tmp_path, name):
        (tmp_path / "previous").mkdir()
        shutil.copy(run.folder / name, tmp_path / "previous" / name)
        with pytest.raises(OutputError, match=rf"previous/{name} already exists.*--overwrite"):
            train(sprites, tmp_path, epochs=1)
        assert (tmp_path / "previous" / name).read_bytes() == (run.folder / name).read_bytes()
        assert [path.name for path in tmp_path.iterdir()] == ["previous"]

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_previous_that_is_no_folder_is_not_written_to(self, run, sprites, tmp_path, kind):
        other, out = (shutil.copytree(run.folder, tmp_path / name) for name in ("other", "out"))
        before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
        if kind == "link":
            (out / "previous").symlink_to(other)
        else:
            (out / "previous").write_text("mine")
        with pytest.raises(OutputError, match="no folder"):
            train(sprites, out, epochs=1, latent_dim=2, overwrite=True)
        assert {path.name: path.read_bytes() for path in other.iterdir()} == before

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("text", ['{"model_type": "foreign"}', "[1]", "{", ""])
    @pytest.mark.parametrize("place", [".", "previous"])
    @pytest.mark.parametrize("beside", [(), ("summary.json", "history.jsonl")])
    def test_a_configuration_of_another_program_is_never_replaced(
        self, sprites, tmp_path, overwrite, text, place, beside
    ):
        foreign = tmp_path / place / "config.json"
        foreign.parent.mkdir(exist_ok=True)
        for path in (foreign, *(foreign.parent / name for name in beside)):
            path.write_text(text)
        with pytest.raises(OutputError, match=r"config.json already exists.*found a file"):
            train(sprites, tmp_path, epochs=1, overwrite=overwrite)
        assert foreign.read_text() == text
        assert sorted(path.name for path in foreign.parent.iterdir()) == sorted(["config.json", *beside])

    def test_a_run_that_is_replaced_is_kept_until_the_new_one_has_finished(self, run, sprites, tmp_path):
        shutil.copytree(run.folder, tmp_path / "run")
        before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
        for _ in range(2):
            with pytest.raises(TrainingDivergedError):
                train(sprites, tmp_path / "run", epochs=1, learning_rate=1e30, overwrite=True)
            kept = tmp_path / "run/previous"
            assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
        train(sprites, tmp_path / "run", epochs=1, latent_dim=2, overwrite=True)
        assert not kept.exists()
        assert RunRecord.read(tmp_path / "run").config["options"]["latent_dim"] == 2

    def test_networks_that_do_not_fit_into_memory(self, sprites, tmp_path):
        with pytest.raises(OptionError, match=r"do not fit into memory.*--latent-dim"):
            train(sprites, tmp_path / "run", latent_dim=10**13)
        assert not (tmp_path / "run").exists()

    def test_it_is_said_that_the_number_of_epochs_ended_it(self, run):
        assert run.summary["ended_by"] == "epochs"

    def test_it_is_said_how_far_the_prior_weights_have_come(self, run, sprites, tmp_path):
        assert 0 <= run.summary["adapted"] < 1
        other = train(sprites, tmp_path / "run", model="vae", latent_dim=2, epochs=1, device="cpu")
        assert "adapted" not in other.summary

    def test_a_run_without_an_encoder_is_called_unfinished(self, run, sprites, tmp_path):
        shutil.copytree(run.folder, tmp_path / "run")
        (tmp_path / "run/encoder.onnx").unlink()
        with pytest.raises(ContractError, match="has no encoder: expected a run that has finished"):
            select_latents(tmp_path / "run", sprites, tmp_path / "out")

    def test_an_unfit_data_set_keeps_the_old_run(self, run, tmp_path, as_h5):
        before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
        with pytest.raises(DatasetError, match="multiples of 16"):
            train(as_h5(tmp_path / "d.h5", np.ones((9, 20, 20, 3), np.uint8)), run.folder, overwrite=True)
        assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before

    def test_the_image_whose_size_cannot_be_used_is_named(self, tmp_path, as_pngs):
        with pytest.raises(DatasetError, match=r"found 20 x 20, the size of 00000\.png, the first; .* move it out"):
            train(as_pngs(tmp_path / "d", np.ones((3, 20, 20, 3), np.uint8)), tmp_path / "run")

    def test_an_unknown_option_is_named(self, sprites, tmp_path):
        with pytest.raises(OptionError, match="latent_dims"):
            train(sprites, tmp_path / "run", latent_dims=3)
        assert not (tmp_path / "run").exists()

    def test_the_library_offers_it(self):
        assert ngvae_tools.train is train


@pytest.mark.slow
class TestResize:
    def test_mixed_sizes_train_and_the_unfit_are_named(self, mixed_run):
        data = mixed_run.config["data"]
        assert data["image_shape"] == [16, 16, 3]
        assert data["n_images"] == 40
        assert data["n_train"] + data["n_held_out"] == 38
        assert data["n_held_out"] == round(38 * 0.25)
        assert [r["id"] for r in data["rejected"]] == ["20-05.png", "33-05.png"]
        assert all(r["reason"] for r in data["rejected"])

    def test_select_latents_resizes_as_in_training(self, mixed, mixed_run, tmp_path):
        record = select_latents(mixed_run.encoder, mixed, tmp_path / "out")
        assert record.data.resize == "pad"
        assert record.data.image_shape == (16, 16, 3)
        assert (record.data.n_images, record.data.n_rejected) == (40, 2)
        other = select_latents(mixed_run.encoder, mixed, tmp_path / "other", resize="stretch")
        assert other.data.resize == "stretch"
        assert other.covariance != record.covariance

    def test_without_resize_the_sizes_are_refused(self, mixed, tmp_path):
        with pytest.raises(DatasetError, match="--resize"):
            train(mixed, tmp_path / "run", epochs=1)
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_replacing_a_run_leaves_nothing_of_the_old(tmp_path, as_h5):
    data = as_h5(tmp_path / "d.h5", np.random.default_rng(0).integers(0, 255, (20, 16, 16, 1), dtype=np.uint8))
    train(data, tmp_path / "run", epochs=2, latent_dim=2, seed=1)
    second = train(data, tmp_path / "run", epochs=1, latent_dim=3, held_out=0.0, overwrite=True)
    assert sorted(path.name for path in second.folder.iterdir()) == FILES
    assert len(second.epochs) == 1
    assert second.epochs[0].held_out is second.summary["held_out"] is None
    assert select_latents(second.encoder, data, tmp_path / "out").model.latent_dim == 3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_samples_of_other_types_train(tmp_path, as_h5, dtype):
    images = np.random.default_rng(0).integers(500, 9000, (60, 16, 16, 2)).astype(dtype)
    run = train(as_h5(tmp_path / "d.h5", images), tmp_path / "run", epochs=1, latent_dim=2)
    scale = run.config["data"]["scale"]
    assert 500 <= scale["low"] < 700
    assert 8800 < scale["high"] <= 9000
    record = select_latents(run.encoder, tmp_path / "d.h5", tmp_path / "out")
    assert record.data.n_rejected == 0
    assert AnalysisRecord.read(tmp_path / "out") == record


@pytest.mark.slow
def test_the_same_seed_trains_the_same_in_two_processes(command_line, sprites, tmp_path):
    histories = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        found = command_line("train", sprites, "-o", name, "--epochs", 2, "--seed", seed, "--device", "cpu", "-q")
        assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
        lines = [json.loads(line) for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("seconds")
        histories.append(lines)
    assert histories[0] == histories[1] != histories[2]
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert (tmp_path / "one" / name).read_bytes() != (tmp_path / "three" / name).read_bytes()
