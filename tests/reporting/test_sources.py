import io
import json

import pytest
import records as build
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ngvae_tools.errors import RecordError
from ngvae_tools.files import LOCK_NAME
from ngvae_tools.reporting.document import as_json
from ngvae_tools.reporting.sources import Sources, find_sources, open_sources
from ngvae_tools.reporting.terminal import render


def test_opens_folders_files_and_runs(tmp_path):
    folder = build.write_analysis(tmp_path / "selection")
    run = build.write_run(tmp_path / "run", finished=False)
    sources = open_sources([folder, folder / "selection.json", run])
    assert [(a.name, a.folder, a.record) for a in sources.analyses] == [("selection", folder, build.analysis())]
    assert [(r.name, r.finished, len(r.record.epochs)) for r in sources.runs] == [("run", False, 30)]


def test_equal_names_take_as_many_parents_as_they_need(tmp_path):
    paths = [build.write_analysis(tmp_path / name) for name in ("a/x/out", "b/x/out", "c/out", "other")]
    assert [a.name for a in open_sources(paths).analyses] == ["a/x/out", "b/x/out", "c/out", "other"]


@pytest.mark.parametrize("paths", [[], ["missing"], ["empty"], ["file.txt"], ["foreign"]])
def test_what_cannot_be_opened_is_named(tmp_path, paths):
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    (tmp_path / "file.txt").write_text("no record")
    with pytest.raises(RecordError):
        open_sources([tmp_path / path for path in paths])


def test_a_benchmark_is_shown_by_its_own_command(tmp_path):
    place = tmp_path / "B"
    cell = build.write_analysis(place / "cells" / "one" / "analysis")
    (place / "benchmark.json").write_text("{}")
    with pytest.raises(RecordError, match="benchmark --table-only --output"):
        open_sources([place])
    assert len(open_sources([cell]).analyses) == 1
    build.write_analysis(tmp_path / "other")
    assert [a.name for a in find_sources(tmp_path).analyses] == ["other"]


def test_a_path_that_is_neither_tells_what_is_there(tmp_path):
    (tmp_path / "cat.png").touch()
    with pytest.raises(RecordError, match=r"a folder with cat\.png"):
        open_sources([tmp_path])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"latent_dim": 15', '"latent_dim": 14'),
        ('"mu_mean": ', '"mu_mean": "<b>", "x": '),
        ('"entropy": ', '"entropy": NaN, "x": '),
        ('"n_images": 6000', '"n_images": "many"'),
        ('"threshold": 0.5', '"threshold": Infinity'),
        ('"n_images": 6000', f'"n_images": {10**400}'),
        ('"mu_low": ', '"mu_low": 1e999, "x": '),
    ],
)
def test_a_record_that_does_not_fit_together_is_refused(tmp_path, old, new):
    text = build.analysis().to_json()
    assert old in text
    (tmp_path / "selection.json").write_text(text.replace(old, new))
    with pytest.raises(RecordError):
        open_sources([tmp_path])


def places(value, path=()):
    """The place of everything in a JSON document, one of each kind: elements of a list are alike."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


FULL = build.analysis(2, 1, full=True).to_json()


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(list(places(json.loads(FULL)))),
    st.sampled_from([None, "x", -1, 0.5, True, 1e308, [], [1], [[1]], {}, {"a": 1}]),
)
def test_whatever_a_record_holds_it_is_shown_or_refused(tmp_path_factory, place, value):
    body = json.loads(FULL)
    part = body
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    folder = tmp_path_factory.mktemp("odd")
    (folder / "selection.json").write_text(json.dumps(body))
    try:
        sources = open_sources([folder])
    except RecordError:
        return
    console = Console(file=io.StringIO(), width=80)
    console.print(render(sources, every=True, samples=True))
    assert "carr" in console.file.getvalue() or "named beforehand" in console.file.getvalue()


def test_epochs_that_differ_in_dimensions_are_refused(tmp_path):
    with pytest.raises(RecordError, match="same number of dimensions"):
        open_sources([build.write_run(tmp_path, [*build.epochs(2, 15), *build.epochs(2, 14)])])


def test_finds_everything_below_but_hidden_and_deep_folders(tmp_path):
    for name in ("b", "a/sel", ".hidden", ".venv/x", "node_modules/x", "1/2/3/4", "1/2/3/4/5"):
        build.write_analysis(tmp_path / name)
    build.write_run(tmp_path / "a" / "run")
    (tmp_path / "b" / "config.json").write_text('{"model_type": "foreign"}')
    sources = find_sources(tmp_path)
    assert [a.name for a in sources.analyses] == ["4", "sel", "b"]
    assert [r.name for r in sources.runs] == ["run"]
    assert sources.skipped == ()


def test_the_root_itself_counts(tmp_path):
    assert len(find_sources(build.write_analysis(tmp_path)).analyses) == 1


def test_unreadable_ones_are_skipped_and_told(tmp_path):
    build.write_analysis(tmp_path / "good")
    for name in ("bad", "worse"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "selection.json").write_text("{")
    (tmp_path / "worse" / "config.json").write_text('{"format": "ngvae-tools/run", "version": 99}')
    sources = find_sources(tmp_path)
    assert len(sources.analyses) == 1
    assert [("bad" in s, "worse" in s) for s in sources.skipped] == [(True, False), (False, True)]


def test_the_lock_of_an_output_folder_is_not_what_it_holds(tmp_path):
    (tmp_path / LOCK_NAME).write_text("process 7")
    with pytest.raises(RecordError, match="found an empty folder"):
        open_sources([tmp_path])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out/latents.h5", "latents.h5 is neither .*found an HDF5 file; name its folder, .*/out"),
        ("copied.h5", "copied.h5 is neither .*found an HDF5 file; .*ngvae-tools latents info .*/copied.h5"),
        ("run/encoder.onnx", "encoder.onnx is neither .*found a file that is no text; name its folder, .*/run"),
        ("run/config.json", "config.json is neither .*name its folder, .*/run"),
        ("cut/selection.json", "cut/selection.json is not .*text that is no JSON from line 1, column 2 on; restore it"),
        ("cut", "cut/selection.json is not .*text that is no JSON from line 1, column 2 on; restore it"),
        ("missing", "found nothing there; check the path"),
        ("copied.h5/x", "found Not a directory; check the path"),
        ("x" * 300, "found File name too long; check the path"),
    ],
)
def test_what_is_no_source_is_refused_with_what_to_name(tmp_path, name, said):
    hdf5 = b"\x89HDF\r\n\x1a\n\x03\x08\x08"
    (build.write_analysis(tmp_path / "out") / "latents.h5").write_bytes(hdf5)
    (tmp_path / "copied.h5").write_bytes(hdf5)
    (build.write_run(tmp_path / "run") / "encoder.onnx").write_bytes(b"\x08\x08\x12\xff")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/selection.json").write_text("{")
    with pytest.raises(RecordError, match=said):
        open_sources([tmp_path / name])


@pytest.mark.parametrize("name", [".", "missing", "file"])
def test_nothing_found_names_what_makes_one(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match=r"ngvae-tools train.*ngvae-tools select-latents"):
        find_sources(tmp_path / name)


def test_json_of_one_analysis_is_the_record(alone):
    assert as_json(alone) == alone.analyses[0].record.to_json()


def test_json_of_several_holds_each_record(many):
    def refuse(constant):
        raise AssertionError(constant)

    document = json.loads(as_json(many), parse_constant=refuse)
    assert [entry["name"] for entry in document["analyses"]] == [a.name for a in many.analyses]
    for entry, named in zip(document["analyses"], many.analyses, strict=True):
        assert entry["record"] == json.loads(named.record.to_json())
        assert entry["folder"] == str(named.folder)
    assert [run["finished"] for run in document["runs"]] == [True, False]
    assert document["runs"][0]["epochs"][0]["p"] == list(many.runs[0].record.epochs[0].p)
    assert document["skipped"] == []


def test_json_of_nothing():
    assert json.loads(as_json(Sources())) == {"analyses": [], "runs": [], "skipped": []}


def test_losses_that_json_cannot_hold_are_null(tmp_path):
    run = build.write_run(tmp_path, build.epochs(2))
    history = run / "history.jsonl"
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    for line in lines:
        line["train"]["loss"] = float("nan")
    history.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert json.loads(as_json(open_sources([run])))["runs"][0]["epochs"][0]["train"]["loss"] is None
