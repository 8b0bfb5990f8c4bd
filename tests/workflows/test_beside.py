"""A latent file that has changed since it was analysed: every form of the report says so, and no condition passes."""

import dataclasses
import json

import latent_files
import numpy as np
import pytest
import records as build

from ngvae_tools.errors import ConditionError
from ngvae_tools.files import sha256_of
from ngvae_tools.reporting.conditions import check, parse
from ngvae_tools.reporting.document import as_json
from ngvae_tools.reporting.html import page
from ngvae_tools.reporting.markdown import markdown
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.reporting.terminal import headlines, render
from ngvae_tools.workflows import beside
from ngvae_tools.workflows.beside import stale
from ngvae_tools.workflows.report import report


@pytest.fixture
def out(tmp_path):
    """An analysis of 40 images and its latent file."""
    record = build.analysis(15, 6, images=40)
    folder = build.write_analysis(tmp_path / "out", record)
    path = folder / "latents.h5"
    latent_files.write(path, np.random.default_rng(0).normal(size=(40, 6)))
    latents = dataclasses.replace(record.latents, sha256=sha256_of(path), bytes=path.stat().st_size)
    build.write_analysis(folder, dataclasses.replace(record, latents=latents))
    return folder


def stale_of(folder):
    return stale(open_sources([folder]).analyses[0])


def grow(folder, rows=50):
    latent_files.write(folder / "latents.h5", np.random.default_rng(1).normal(size=(rows, 6)))


def test_what_has_changed(out, monkeypatch):
    assert stale_of(out) is None
    grow(out)
    assert "has changed since it was analysed, and holds 50 images in place of 40;" in stale_of(out)
    grow(out, 40)
    assert "and is another;" in stale_of(out)
    (out / "latents.h5").write_bytes(b"no")
    assert "and cannot be read;" in stale_of(out)
    (out / "latents.h5").unlink()
    assert stale_of(out) is None
    (out / "latents.h5").write_bytes(bytes(open_sources([out]).analyses[0].record.latents.bytes))
    assert "cannot be read" in stale_of(out)
    monkeypatch.setattr(beside, "HASHED_BYTES", 0)
    assert stale_of(out) is None


def test_every_form_says_so(out, tmp_path, capsys):
    from rich.console import Console

    grow(out)
    alone, both = report([out]), report([out, build.write_analysis(tmp_path / "two", build.analysis(15, 6, seed=1))])
    said = "latents.h5 has changed since it was analysed"
    for shown in (render(alone), render(both), headlines(both)):
        Console(width=500).print(shown)
        assert f"out: {said}" in capsys.readouterr().out
    for form in (markdown, page):
        assert form(both).count(f"out: {said}") == 1
    assert as_json(alone) == (out / "selection.json").read_text()
    first, second = json.loads(as_json(both))["analyses"]
    assert first["stale"].startswith(said)
    assert "stale" not in second


def test_no_condition_on_it_passes(out):
    check([parse("informative > 10")], report([out]))
    grow(out)
    with pytest.raises(ConditionError, match=r"no condition can be checked of out: latents\.h5 has changed"):
        check([parse("informative > 10")], report([out]))
    check([], report([out]))
