import dataclasses
import json

import pytest
import records

from ngvae_tools.errors import RecordError
from ngvae_tools.sweep_record import FILE_NAME, Plateau, SweepRecord, Verdict


def test_json_in_json_out_equal(tmp_path):
    record = records.sweep()
    assert SweepRecord.from_json(record.to_json()) == record
    (tmp_path / FILE_NAME).write_text(record.to_json())
    assert SweepRecord.read(tmp_path) == record


def test_the_best_trial_stands_for_the_level():
    record = records.sweep()
    for level in record.levels:
        assert level.kept is level.trials[level.best]
        assert level.count("p") == level.kept.counts["p"]
        assert level.count("variance") is None
    failed = dataclasses.replace(record.levels[0], best=None)
    assert failed.kept is failed.count("p") is None


def test_an_answer_is_one_plateau():
    one, two = Plateau(6, 0.2, 0.4, 2), Plateau(5, 0.5, 1.0, 2)
    assert Verdict("p", ()).answer is None
    assert Verdict("p", (one,)).answer == one
    assert Verdict("p", (one, two)).answer is None
    assert one.factor == 2.0


def test_only_timings_may_differ():
    record = records.sweep()
    later = dataclasses.replace(record, timings={"total_seconds": 9.0})
    assert later != record
    assert later.equal_but_for_timings(record)
    assert not dataclasses.replace(record, rule="variance").equal_but_for_timings(record)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"format": "ngvae-tools/selection", "version": 2}',
        '{"format": "ngvae-tools/sweep", "version": 9}',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(RecordError, match="name a folder that sweep"):
        SweepRecord.read(tmp_path)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SweepRecord)])
def test_a_missing_field_is_refused(name):
    body = json.loads(records.sweep().to_json())
    del body[name]
    if name == "notes":  # the one that may be absent
        assert SweepRecord.from_json(json.dumps(body)).notes == ()
    else:
        with pytest.raises(RecordError):
            SweepRecord.from_json(json.dumps(body))


def test_a_folder_without_one(tmp_path):
    with pytest.raises(RecordError):
        SweepRecord.read(tmp_path)
