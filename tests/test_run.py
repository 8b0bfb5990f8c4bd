"""Run folders: finished, unfinished, killed in the middle, foreign, damaged."""

import dataclasses
import json

import pytest
import records

from ngvae_tools.errors import RecordError
from ngvae_tools.run import CONFIG_NAME, HISTORY_NAME, SUMMARY_NAME, EpochRecord, RunRecord


@pytest.mark.parametrize("options", [{}, {"gaussian": True}, {"held_out": False}, {"dim": 1, "informative": 1}])
def test_a_finished_run_reads_as_it_was_written(tmp_path, options):
    epochs = records.epochs(5, **options)
    run = RunRecord.read(records.write_run(tmp_path, epochs))
    assert run.epochs == epochs
    assert run.summary == {"reason": "plateau", "epochs": 5}
    assert run.config["options"] == {"epochs": 30, "sigma": 0.245, "seed": 0}
    assert (run.encoder, run.decoder) == (tmp_path / "encoder.onnx", tmp_path / "decoder.onnx")


def test_an_unfinished_run_has_its_epochs_and_no_summary(tmp_path):
    run = RunRecord.read(records.write_run(tmp_path, records.epochs(3), finished=False))
    assert (len(run.epochs), run.summary) == (3, None)


def test_a_run_before_its_first_epoch(tmp_path):
    records.write_run(tmp_path, (), finished=False)
    assert RunRecord.read(tmp_path).epochs == ()
    (tmp_path / HISTORY_NAME).unlink()
    assert RunRecord.read(tmp_path).epochs == ()


def test_a_last_line_cut_anywhere_is_left_out(tmp_path):
    epochs = records.epochs(3, dim=2, informative=1)
    history = records.write_run(tmp_path, epochs, finished=False) / HISTORY_NAME
    whole = history.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last + 1):
        history.write_bytes(whole[:-cut])
        assert RunRecord.read(tmp_path).epochs == epochs[:2]
    history.write_bytes(whole[:-last] + b'{"epoch": \xc3')
    assert RunRecord.read(tmp_path).epochs == epochs[:2]


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"epoch": 2}', '{"epoch": 2, "train": null}'])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_whole_line_is_refused(tmp_path, line, place):
    history = records.write_run(tmp_path, records.epochs(2, dim=2, informative=1)) / HISTORY_NAME
    lines = history.read_text().splitlines()
    lines.insert(place, line)
    history.write_text("".join(f"{text}\n" for text in lines))
    with pytest.raises(RecordError, match="is not a training run that can be read"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"model_type": "foreign"}', "format None version None"),
        ('{"format": "ngvae-tools/run", "version": 99}', "version 99"),
        ("[]", "a damaged config.json .*; restore it"),
        ("{", "a damaged config.json .JSONDecodeError"),
        ("", "JSONDecodeError"),
        ("\udcff", "UnicodeDecodeError"),
    ],
)
def test_foreign_and_newer_configurations_are_refused(tmp_path, text, found):
    records.write_run(tmp_path)
    (tmp_path / CONFIG_NAME).write_text(text, errors="surrogateescape")
    with pytest.raises(RecordError, match=found):
        RunRecord.read(tmp_path)


def test_folders_without_a_run(tmp_path):
    for folder in (tmp_path, tmp_path / "missing", records.write_analysis(tmp_path / "selection")):
        with pytest.raises(RecordError, match="name a folder that train of this version wrote"):
            RunRecord.read(folder)


def test_a_damaged_summary_is_refused(tmp_path):
    (records.write_run(tmp_path) / SUMMARY_NAME).write_text("{")
    with pytest.raises(RecordError):
        RunRecord.read(tmp_path)


def test_an_epoch_survives_json():
    for epoch in (records.epochs(1)[0], records.epochs(1, gaussian=True, held_out=False)[0]):
        assert EpochRecord.from_json(json.loads(json.dumps(dataclasses.asdict(epoch)))) == epoch
