import dataclasses
import io

import numpy as np
import records as build
from rich.console import Console

from ngvae_tools.analysis.comparisons import StoredRows
from ngvae_tools.analysis.drift_verdict import drift_between
from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.ranges import RangeCheck
from ngvae_tools.reporting.drift import WORST, render
from ngvae_tools.reporting.stability import (
    stability_headline,
    stability_matches,
    stability_notes,
    stability_rows,
    stability_tables,
)

HOSTILE = "[red]\x1b[31m\udcff"


def drift_of(dim, images=400):
    one, other = (build.analysis(dim, 3, seed=seed, images=images) for seed in (0, 1))
    kept = one.latents.dimensions
    rng = np.random.default_rng(0)
    rows = [StoredRows(kept, np.full(3, 1e-3), rng.normal(shift, 1, size=(images, 3))) for shift in (0, 0.5)]
    check = RangeCheck(kept, np.full(3, -2.0), np.full(3, 2.0), np.ones(3), np.full(3, 1e-3))
    names = np.array([f"{k}-{HOSTILE}".encode(errors="surrogateescape") for k in range(images)])
    check.add(rows[1].values, names)
    return drift_between(one, other, *rows, check.outside(images), folders=(HOSTILE, "B"))


def text_of(renderable, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(renderable, markup=False)
    return console.file.getvalue()


def test_every_line_fits_and_no_control_character_is_obeyed():
    text = text_of(render(drift_of(15)))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text
    assert r"\x1b[31m\udcff" in text
    assert text.lstrip().startswith("The data sets differ in dimension")


def test_the_worst_images_are_bounded():
    drift = drift_of(15)
    assert drift.outside.n_outside > WORST
    text = text_of(render(drift))
    assert text.count(r"[red]\x1b") == WORST + 1
    assert f"{drift.outside.n_outside - WORST} more" in text


def test_many_dimensions_are_folded_but_not_a_single_one():
    drift = drift_of(64)
    quiet = dataclasses.replace(drift.dimensions[0], comparisons=())
    found = next(row for row in drift.dimensions if row.beyond_chance)
    loud = [dataclasses.replace(found, index=k) for k in range(1, 64)]
    assert "left out" not in text_of(render(dataclasses.replace(drift, dimensions=(quiet, *loud))))
    both = (quiet, dataclasses.replace(quiet, index=1), *loud[1:])
    shown = text_of(render(dataclasses.replace(drift, dimensions=both)))
    assert "left out" not in text_of(render(dataclasses.replace(drift, dimensions=both), every=True))
    assert "2 dimensions without a difference left out, --every shows them: 0, 1." in shown


def test_cells_that_are_absent_are_explained():
    drift = drift_of(5)
    kept = [row.index for row in drift.dimensions if row.in_both]
    shown = " ".join(text_of(render(drift)).split())
    rest = indices(set(range(5)) - set(kept))
    assert f"n/a in {rest}: not in both latent files" in shown
    assert "n/a of mean or variance" not in shown
    constant = dataclasses.replace(drift.dimensions[0], comparisons=())
    shown = text_of(render(dataclasses.replace(drift, dimensions=(constant, *drift.dimensions[1:]))))
    assert "n/a of mean or variance in 0: constant in A" in " ".join(shown.split())


def test_stability_in_words():
    from analysis.test_stability import model

    from ngvae_tools.analysis.stability import compare_pair, stability_of

    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3))
    pair = compare_pair(model("one", values), model("two", np.column_stack([-values[:, 1], rng.normal(size=500)])))
    found = stability_of([("one", (0, 1, 2)), ("two", (0, 1))], [pair], [f"{HOSTILE} note"])
    assert stability_headline(found) == "Informative dimensions: 3, 2: mean 2.5, range 2 to 3"
    assert dict(stability_rows(found))["Mean and range"] == "2.5 ± 0.7, 2 to 3"
    models, pairs = stability_tables(found)
    assert models.rows[0][3] == "of 1: 1 in 1; 0, 2 in 0"
    assert pairs.rows[0][4:] == ("1", "1.00", "0, 2 of one; 1 of two")
    assert stability_matches(found) == [("one, two", ["1~0 (-1.00)"])]
    assert all(len(row) == len(table.heads) for table in (models, pairs) for row in table.rows)
    assert stability_notes(found)[0] == r"[red]\x1b[31m\udcff note"
    alone = stability_of([("one", (0,)), ("two", (0,))], [], [])
    assert len(stability_tables(alone)) == 1
    assert "the same in every analysis" in stability_headline(alone)
