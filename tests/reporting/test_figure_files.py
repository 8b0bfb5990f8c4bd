"""Figures as files: their numbers are the record's, they stand alone, and no name or place does harm."""

import csv
import dataclasses
import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import records as build
from PIL import Image

from ngvae_tools.analysis.stability import Match, ModelStability, PairStability, Stability
from ngvae_tools.errors import OutputError
from ngvae_tools.reporting.figure_files import ENDINGS, LIST_NAME, csv_of, figures_of, file_names, write_figures
from ngvae_tools.reporting.heatmap import correlation, correlation_drawing, covariance_drawing, scaled_covariance
from ngvae_tools.reporting.picture_figures import picture_drawings
from ngvae_tools.reporting.pictures import Colouring, Extremes, LatentMap, Pictures, Reconstructed, Traversal
from ngvae_tools.reporting.sources import NamedSweep, Sources, open_sources

HOSTILE = "=cmd|' /C calc'!A0 <script>alert(1)</script> ]]> -- \x1b"
POINTS = 40


def pictures(rng, channels=3):
    def images(number):
        return rng.integers(0, 256, (number, 8, 6, channels), dtype=np.uint8)

    def numbers(*shape):
        return tuple(rng.normal(size=shape).tolist())

    shape = np.where(np.arange(POINTS) % 7, np.arange(POINTS) % 3, np.nan).astype(float)
    return Pictures(
        traversals=(
            Traversal(4, False, numbers(11), images(11), numbers(11)),
            *(Traversal(k, True, numbers(11), images(11), numbers(11)) for k in range(16)),
        ),
        base="7.png",
        reconstructed=Reconstructed((HOSTILE, "b", "c"), images(3), images(3), (0.1, 1e-17, 0.25)),
        extremes=(
            Extremes(2, ("a", "b"), numbers(2), images(2), ("c",), numbers(1), images(1)),
            Extremes(3, ("-d",), numbers(1), images(1), ("+e", "@f"), numbers(2), images(2)),
        ),
        map=LatentMap(
            "PCA",
            "its own standard deviation",
            rng.normal(size=(POINTS, 2)),
            (0.4, 0.2),
            tuple(f"{i}.png" for i in range(POINTS)),
            None,
            (
                Colouring("shape", categorical=True, values=shape, classes=("round", "$long$", HOSTILE)),
                Colouring("label", categorical=True, values=np.arange(POINTS, dtype=float)),
                Colouring("z3", categorical=False, values=rng.normal(size=POINTS)),
                Colouring("unknown", categorical=True, values=np.full(POINTS, np.nan)),
                Colouring("huge", categorical=False, values=np.linspace(-1, 1, POINTS) * 1e308),
            ),
            6000,
        ),
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two analyses and a training called alike, a sweep, pictures and a match of the analyses."""
    top = tmp_path_factory.mktemp("sources")
    found = open_sources(
        [
            build.write_analysis(top / "one" / "out", build.analysis(full=True)),
            build.write_analysis(top / "two" / "out", build.analysis(4, 2, seed=3, family="gaussian")),
            build.write_run(top / "run"),
        ]
    )
    one, two = found.analyses
    known = one.record.supervised
    hostile = dataclasses.replace(known.factors[0], name=HOSTILE)
    known = dataclasses.replace(known, factors=(hostile, *known.factors[1:]))
    one = dataclasses.replace(one, record=dataclasses.replace(one.record, supervised=known))
    pair = PairStability(one.name, two.name, 500, (Match(0, 3, -0.98), Match(2, 1, 0.3)), (2,), (1,), 0.91, 0.12)
    model = ModelStability(one.name, 2, (0, 2), 1, (1, 0), 0.91)
    return dataclasses.replace(
        found,
        analyses=(dataclasses.replace(one, name="../x <b>", pictures=pictures(np.random.default_rng(0))), two),
        sweeps=(NamedSweep("sweep", top, build.sweep()),),
        stability=Stability((model, dataclasses.replace(model, name=two.name)), (pair,), 2.0, 0.0, (2, 2)),
    )


@pytest.fixture(scope="module")
def folder(sources, tmp_path_factory):
    place = tmp_path_factory.mktemp("figures") / "new" / "figures"
    write_figures(sources, place)
    return place


def table(folder, name):
    """Columns of a CSV by their head, cells as they were before they became text."""
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    return dict(zip(heads, zip(*(map(value, row) for row in rows), strict=True), strict=True))


def value(text):
    if text in {"", "true", "false"}:
        return {"": None, "true": True, "false": False}[text]
    if text.startswith("'"):
        return text[1:]
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        return text


def test_every_figure_is_there_three_times(folder, sources):
    names = [file.name for file in figures_of(sources)]
    parts = "information p-histograms thresholds reconstructions traversals extremes map truncation factors storage"
    assert names == [
        "covariance",
        "correlation",
        "stability",
        *(f"x-b-{part}" for part in parts.split()),
        *(f"two-out-{part}" for part in ("information", "thresholds", "storage")),
        "run-p-over-epochs",
        "run-losses",
        "sweep-count-over-sigma",
    ]
    expected = {LIST_NAME, *(name + ending for name in names for ending in ENDINGS)}
    assert {path.name for path in folder.iterdir()} == expected
    listed = table(folder, "figures")
    assert list(listed["figure"]) == names
    assert set(listed["of"]) == {"all", "../x <b>", "two/out", "run", "sweep"}
    assert all(listed["caption"])
    assert [path.name for path in folder.parent.iterdir()] == ["figures"]


def test_numbers_of_the_matrices(folder, sources):
    for name, drawn, head in (
        ("covariance", scaled_covariance, "scaled_covariance"),
        ("correlation", correlation, "correlation"),
    ):
        found = table(folder, name)
        for named in sources.analyses:
            own = [i for i, analysis in enumerate(found["analysis"]) if analysis == named.name]
            dim = named.record.model.latent_dim
            assert len(own) == dim**2
            for i in own:
                a, b = found["dimension_a"][i], found["dimension_b"][i]
                assert found["covariance"][i] == named.record.covariance[a][b]
                assert found[head][i] == drawn(named.record)[a, b]


def test_columns_of_the_map_are_told_apart_whatever_factors_are_called():
    found = pictures(np.random.default_rng(0)).map
    names = ("x", "image", "map_y", "map_y_2", "x")
    colourings = tuple(dataclasses.replace(found.colourings[0], name=name) for name in names)
    (drawing,) = picture_drawings(Pictures(map=dataclasses.replace(found, colourings=colourings)))
    assert drawing.heads == ("image", "map_x", "map_y", "x", "image_2", "map_y_3", "map_y_2", "x_2")


def test_correlations_of_uninformative_dimensions_are_pale():
    record = build.analysis()
    seen = np.array(record.selection.informative)
    for drawing, pale in ((correlation_drawing([record]), 0.25), (covariance_drawing([record]), 1.0)):
        strength = drawing.draw().axes[0].images[0].get_alpha()
        assert (strength == np.where(np.outer(seen, seen), 1.0, pale)).all()


def test_numbers_of_the_dimensions(folder, sources):
    record = sources.analyses[0].record
    found = table(folder, "x-b-information")
    assert sorted(found["dimension"]) == list(range(15))
    assert list(found["information_nats"]) == sorted(found["information_nats"], reverse=True)
    for place, k in enumerate(found["dimension"]):
        row = record.dimensions[k]
        assert (found["low"][place], found["high"][place]) == row.intervals["information"]
        assert found["information_nats"][place] == row.information
        assert found["standard_error"][place] == row.information_error
        assert found["informative"][place] is row.informative
    bins = table(folder, "x-b-p-histograms")
    for row in record.dimensions:
        own = [i for i, k in enumerate(bins["dimension"]) if k == row.index]
        assert tuple(bins["images"][i] for i in own) == row.p_histogram
        assert [bins["p_low"][i] for i in own] == [i / 20 for i in range(20)]
    stored = table(folder, "x-b-storage")
    for head, values in (
        ("dimension", record.latents.dimensions),
        ("bits", record.latents.bits),
        ("entropy_bits", record.latents.entropy_bits),
        ("max_error", record.latents.max_error),
        ("mean_squared_error", record.latents.mean_squared_error),
    ):
        assert stored[head] == values


def test_numbers_of_the_thresholds(folder, sources):
    record = sources.analyses[0].record
    found = table(folder, "x-b-thresholds")
    rows = [dict(zip(found, cells, strict=True)) for cells in zip(*found.values(), strict=True)]
    for rule in record.rules:
        own = [row for row in rows if row["rule"] == rule.rule]
        assert len(own) == (0 if rule.rule == "type" else 15)
        for row in own:
            assert row["score"] == rule.score[row["dimension"]]
            assert (row["threshold"], row["keeps"]) == (rule.threshold, rule.keeps)
            above = math.nextafter(row["score"], math.inf)
            kept = [score < above if rule.keeps == "below" else score >= above for score in rule.score]
            assert row["count_just_above"] == sum(kept)


def test_numbers_of_truncation_and_factors(folder, sources):
    record = sources.analyses[0].record
    found = table(folder, "x-b-truncation")
    for order, curve in (
        ("relevance", record.truncation.by_relevance),
        ("information", record.truncation.by_information),
    ):
        own = [i for i, name in enumerate(found["order"]) if name == order]
        assert [found["dimension"][i] for i in own] == [None, *curve.order]
        assert tuple(found["mean_squared_error"][i] for i in own) == curve.error
        assert tuple(found["standard_error"][i] for i in own) == curve.standard_error
        assert [found["kept"][i] for i in own if found["knee"][i]] == [curve.knee]
    factors = table(folder, "x-b-factors")
    names = [factor.name.replace("\x1b", r"\x1b") for factor in record.supervised.factors]
    for name, k, nats in zip(factors["factor"], factors["dimension"], factors["information_nats"], strict=True):
        assert nats == record.supervised.information[names.index(name)][k]
    assert len(factors["factor"]) == 15 * len(names)


def test_numbers_of_training_and_sweep(folder, sources):
    epochs = sources.runs[0].record.epochs
    found = table(folder, "run-p-over-epochs")
    assert list(found["mean_p"]) == [p for epoch in epochs for p in epoch.p]
    assert list(found["epoch"]) == [epoch.epoch for epoch in epochs for _ in epoch.p]
    losses = table(folder, "run-losses")
    for name in ("distortion", "rate"):
        assert list(losses[f"training_{name}"]) == [getattr(epoch.train, name) for epoch in epochs]
        assert list(losses[f"held_out_{name}"]) == [getattr(epoch.held_out, name) for epoch in epochs]
    record = sources.sweeps[0].record
    found = table(folder, "sweep-count-over-sigma")
    rows = list(zip(*found.values(), strict=True))
    for level in record.levels:
        for i, trial in enumerate(level.trials):
            start = (level.sigma, trial.seed, i == level.best)
            own = [row[3:] for row in rows if row[:3] == start]
            assert own[0] == ("count by p", None, None, trial.counts["p"], None, None)
            nats = [row[3] for row in own if row[0] == "information, nats"]
            assert nats == (list(trial.information) if i == level.best else [])
    pairs = table(folder, "stability")
    assert pairs["correlation"] == (-0.98, 0.3)
    assert pairs["udr_by_chance"] == (0.12, 0.12)


def test_numbers_of_the_pictures(folder, sources):
    shown = sources.analyses[0].pictures
    found = table(folder, "x-b-traversals")
    moved = [*shown.traversals[1:], shown.traversals[0]]
    assert list(found["dimension"]) == [row.dimension for row in moved for _ in row.values]
    assert list(found["value"]) == [number for row in moved for number in row.values]
    assert list(found["change"]) == [number for row in moved for number in row.change]
    found = table(folder, "x-b-reconstructions")
    assert found["mean_squared_error"] == shown.reconstructed.error
    assert found["image"][0] == HOSTILE.replace("\x1b", r"\x1b")
    found = table(folder, "x-b-extremes")
    assert list(found["value"]) == [v for row in shown.extremes for v in (*row.low_values, *row.high_values)]
    assert found["image"] == ("a", "b", "c", "-d", "+e", "@f")
    found = table(folder, "x-b-map")
    assert np.array_equal(np.transpose([found["map_x"], found["map_y"]]), shown.map.points)
    shape, *colourings = shown.map.colourings
    called = [None if np.isnan(value) else shape.called(value) for value in shape.values]
    assert list(found["shape"]) == called
    assert set(called) == {None, "round", "$long$", HOSTILE.replace("\x1b", r"\x1b")}
    for colouring in colourings:
        assert np.array_equal(np.array(found[colouring.name], dtype=float), colouring.values, equal_nan=True)


def test_svg_stands_alone(folder):
    for path in folder.glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        root = ET.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root[0].text
        assert root[1].text
        assert not re.search(r"currentColor|var\(|@import|<!DOCTYPE|<script|<text|\x1b", text), path
        assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        ids = {element.get("id") for element in root.iter()}
        for element in root.iter():
            for name, used in element.attrib.items():
                if name.endswith("href"):
                    assert used.startswith("data:image/png;base64,") or used[1:] in ids
                assert not name.startswith("on")
        assert set(re.findall(r"url\(([^)]*)\)", text)) <= {f"#{name}" for name in ids}


def test_png_has_the_size_in_print(folder):
    for path in folder.glob("*.png"):
        root = ET.fromstring(path.with_suffix(".svg").read_text(encoding="utf-8"))
        with Image.open(path) as image:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
            for pixels, points in zip(image.size, (root.get("width"), root.get("height")), strict=True):
                assert pixels / 300 == pytest.approx(float(points.removesuffix("pt")) / 72, abs=0.01)
            assert image.width <= 7.3 * 300
            # White all round, whatever looks at it.
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
            assert image.convert("L").getextrema()[0] < 128


@pytest.mark.slow
def test_same_bytes_each_time(folder, sources, tmp_path):
    write_figures(sources, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_csv_is_as_the_standard_has_it():
    cells = ("a,b", 'say "x"', "two\nlines", "=1+1", "'quoted", "-", None, True, 3, -0.1, 1e-300)
    text = csv_of(("a", *"bcdefghij", "@k"), [cells]).decode()
    heads, line, end = text.split("\r\n")
    assert heads == "a,b,c,d,e,f,g,h,i,j,'@k"
    assert line == '"a,b","say ""x""","two\nlines",\'=1+1,\'\'quoted,\'-,,true,3,-0.1,1e-300'
    assert end == ""
    assert list(csv.reader(io.StringIO(text, newline="")))[1][:3] == list(cells[:3])


def test_file_names_are_safe_and_differ():
    names = [
        "a",
        "A",
        "a-2",
        "../x",
        "x",
        "<b>",
        "漢字",
        "",
        "con",
        "-rf",
        "." * 9,
        "y" * 300,
        "a/b",
        "a b",
        "~",
        "\x00",
    ]
    found = file_names(names)
    assert found[:5] == ["a", "A-2", "a-2-2", "x", "x-2"]
    assert len({name.lower() for name in found}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,70}", name) for name in found)


def test_what_has_no_data_is_not_written(tmp_path):
    record = build.analysis(3, 1, family="deterministic")
    record = dataclasses.replace(
        record, covariance=None, latents=dataclasses.replace(record.latents, entropy_bits=None)
    )
    bare = open_sources(
        [build.write_analysis(tmp_path / "a", record), build.write_run(tmp_path / "run", [], finished=False)]
    )
    write_figures(bare, tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"a-thresholds", "figures"}
    assert write_figures(Sources(), tmp_path / "none") == []
    assert [path.name for path in (tmp_path / "none").iterdir()] == [LIST_NAME]
    nothing = dataclasses.replace(bare.analyses[0], pictures=Pictures(notes=("Why.",)))
    assert len(figures_of(Sources((nothing,)))) == 1


def test_grey_images_and_a_map_of_one_point(tmp_path):
    record = dataclasses.replace(build.analysis(3, 1), covariance=None)
    named = open_sources([build.write_analysis(tmp_path / "a", record)]).analyses[0]
    found = pictures(np.random.default_rng(1), channels=1)
    point = LatentMap("UMAP", "its own standard deviation", np.zeros((1, 2)), None, ("a",), None, (), 1)
    sources = Sources((dataclasses.replace(named, pictures=dataclasses.replace(found, map=point)),))
    write_figures(sources, tmp_path / "figures")
    assert table(tmp_path / "figures", "a-map") == {"image": ("a",), "map_x": (0.0,), "map_y": (0.0,)}


def test_only_a_reports_own_folder_is_replaced(tmp_path):
    record = dataclasses.replace(build.analysis(3, 1, full=True), covariance=None, supervised=None)
    full = open_sources([build.write_analysis(tmp_path / "a", record)])
    less = open_sources([build.write_analysis(tmp_path / "a", dataclasses.replace(record, truncation=None))])
    place = tmp_path / "figures"
    write_figures(full, place)
    with pytest.raises(OutputError, match="already exists") as caught:
        write_figures(less, place)
    assert "--overwrite" in caught.value.remedy
    write_figures(less, place, overwrite=True)
    assert not list(place.glob("*truncation*"))
    (place / "mine.svg").write_text("mine")
    with pytest.raises(OutputError) as caught:
        write_figures(full, place, overwrite=True)
    assert "mine.svg" in caught.value.found
    assert (place / "mine.svg").read_text() == "mine"
    for other in (tmp_path / "file", tmp_path / "empty"):
        other.touch() if other.name == "file" else other.mkdir()
        with pytest.raises(OutputError):
            write_figures(full, other, overwrite=True)
    with pytest.raises(OutputError):
        write_figures(full, tmp_path / "file" / "below")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "figures", "file", "empty"}


def test_a_list_of_foreign_files_frees_nothing(tmp_path):
    place = tmp_path / "figures"
    place.mkdir()
    (place / LIST_NAME).write_bytes(csv_of(("name", "x"), [("mine", "")]))
    (place / "mine.svg").touch()
    with pytest.raises(OutputError):
        write_figures(Sources(), place, overwrite=True)
    assert (place / "mine.svg").exists()


def test_the_command_says_what_it_wrote(commands, tmp_path):
    folder = build.write_analysis(tmp_path / "out", dataclasses.replace(build.analysis(3, 1), covariance=None))
    found = commands("report", folder, "--figures", "figures")
    assert found.returncode == 0, found.stderr
    said = " ".join(found.stderr.split())
    assert "Wrote 4 figures to figures, each as SVG, PNG and CSV: out-information, out-p-histograms," in said
    again = commands("report", folder, "--figures", "figures")
    assert again.returncode == 2
    assert "figures already exists" in again.stderr
    assert "Traceback" not in again.stderr
