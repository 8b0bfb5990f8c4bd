"""A sweep in the terminal, as figures, as JSON and on a page."""

import dataclasses
import json
import xml.etree.ElementTree as ET

import pytest
import records
from rich.console import Console

from ngvae_tools.errors import RecordError
from ngvae_tools.reporting.document import as_json
from ngvae_tools.reporting.html import page
from ngvae_tools.reporting.sources import find_sources, open_sources
from ngvae_tools.reporting.sweep_figure import sweep_svg, write_figures
from ngvae_tools.reporting.sweep_view import sweep_view
from ngvae_tools.reporting.sweep_words import headline
from ngvae_tools.reporting.terminal import headlines, render
from ngvae_tools.sweep_record import FILE_NAME, PNG_NAME, SVG_NAME, Plateau, SweepRecord, Verdict

FAILING = ((13, 12), (None, None), (6, None), (6, 6), (0, 1))


def text(renderable, width=80):
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(renderable, markup=False)
    return captured.get()


def write(folder, record=None):
    folder.mkdir(exist_ok=True)
    (folder / FILE_NAME).write_text((record or records.sweep()).to_json())
    return folder


class TestHeadline:
    def test_the_answer(self):
        assert headline(records.sweep()) == (
            "6 informative dimensions by p: the same from sigma 0.245 to 0.5 (factor 2.0)."
        )
        one = records.sweep(verdicts=(Verdict("variance", (Plateau(1, 0.1, 0.2, 2),)),))
        assert headline(one).startswith("1 informative dimension by variance:")

    def test_none_and_ties(self):
        assert headline(records.sweep(verdicts=(Verdict("p", ()),))).startswith("No plateau by p")
        tied = (Plateau(9, 0.06, 0.12, 2), Plateau(6, 0.25, 0.5, 2))
        assert "9 and 6" in headline(records.sweep(verdicts=(Verdict("p", tied),)))

    @pytest.mark.parametrize(
        ("counts", "why"),
        [
            ((15,) * 5, "all 15 dimensions are informative at every level"),
            ((0,) * 5, "no dimension is informative at any level"),
            ((13, 12, 9, 6, 6), "no count holds over a factor of 1.5 in sigma; 6 from 0.35 to 0.5 is the widest"),
            ((13, 12, 9, 7, 6), "no count holds over a range of sigma"),
        ],
    )
    def test_why_there_is_none(self, counts, why):
        record = records.sweep(tuple((count, count) for count in counts), verdicts=(Verdict("p", ()),))
        assert headline(record).startswith(f"No plateau by p: {why}")


class TestTerminal:
    @pytest.mark.parametrize("counts", [FAILING, ((13, 12), (9, 9), (6, 7), (6, 6), (6, 6))])
    def test_it_fits_80_columns_with_a_row_a_level(self, counts):
        shown = text(sweep_view(records.sweep(counts)))
        lines = shown.splitlines()
        assert max(map(len, lines)) <= 80
        for sigma in ("0.06", "0.12", "0.245", "0.35", "0.5"):
            assert sum(line.lstrip("* ").startswith(f"{sigma} ") for line in lines) == 2
        assert [line.split()[1] for line in lines if line.startswith("* ") and "on the" not in line] == [
            "0.245",
            "0.35",
            "0.5",
        ]

    def test_the_figures_are_those_of_the_kept_trial(self):
        record = records.sweep()
        shown = text(sweep_view(record))
        assert "13 (13, 12)" in shown
        assert "5.2 (4.7 to 6.3)" in shown
        assert f"{record.levels[0].kept.mse:.2e}" in shown
        assert record.notes[0].split(":")[0] in shown

    def test_foreign_text_is_not_obeyed(self):
        record = records.sweep(notes=("[red]\x1b[31mred",), data={"path": "\x1b]0;x\x07", "n_images": 1})
        assert "\x1b" not in text(sweep_view(record))


class TestFigure:
    def test_svg_names_the_plateau_and_every_curve(self):
        svg = sweep_svg(records.sweep())
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg")
        words = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
        for wanted in ("plateau: 6", "count by p", "count by information", "TwoNN", "noise level sigma", "0.245"):
            assert wanted in words
        assert svg == sweep_svg(records.sweep())

    def test_no_plateau_shades_nothing(self):
        svg = sweep_svg(records.sweep(verdicts=(Verdict("p", ()), Verdict("information", ()))))
        assert "plateau:" not in svg
        assert "No plateau by p" in svg

    @pytest.mark.parametrize("counts", [FAILING, ((None,),) * 5, ((1,), (1,), (0,), (0,), (0,))])
    def test_gaps_draw(self, counts, tmp_path):
        write_figures(records.sweep(counts), tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [PNG_NAME, SVG_NAME]

    def test_a_gaussian_model_and_one_rule(self):
        record = records.sweep(rule="information", verdicts=(Verdict("information", ()),))
        assert sweep_svg(record).count("count by information") == 1


class TestReport:
    def test_a_sweep_alone_is_its_own_json(self, tmp_path):
        found = open_sources([write(tmp_path / "S")])
        assert SweepRecord.from_json(as_json(found)) == records.sweep()

    def test_beside_an_analysis(self, tmp_path):
        found = open_sources([write(tmp_path / "S"), records.write_analysis(tmp_path / "OUT")])
        body = json.loads(as_json(found))
        assert [(sweep["name"], sweep["record"]["rule"]) for sweep in body["sweeps"]] == [("S", "p")]
        assert len(body["analyses"]) == 1

    def test_terminal_and_headlines(self, tmp_path):
        found = open_sources([write(tmp_path / "S")])
        assert "S: sweep. 6 informative dimensions by p" in text(render(found), 200)
        assert "S: sweep. 6 informative dimensions by p" in text(headlines(found), 200)

    def test_the_page_has_its_figure_and_every_level(self, tmp_path):
        record = records.sweep(notes=("<b>bold</b>",))
        shown = page(open_sources([write(tmp_path / "S", record)]))
        assert "<title>6 informative dimensions by p" in shown
        assert shown.count("<svg") == 1
        assert '<tr class="yes"><th scope="row">0.245</th>' in shown
        assert "&lt;b&gt;bold" in shown
        assert "<b>bold" not in shown

    def test_its_trainings_are_passed_over_when_it_is_found(self, tmp_path):
        write(tmp_path / "S")
        (tmp_path / "S/cells/a").mkdir(parents=True)
        records.write_run(tmp_path / "S/cells/a/run")
        found = find_sources(tmp_path)
        assert (len(found.sweeps), len(found.runs)) == (1, 0)
        (tmp_path / "S" / FILE_NAME).unlink()
        assert len(find_sources(tmp_path).runs) == 1

    def test_a_damaged_one_is_skipped_when_found_and_refused_when_named(self, tmp_path):
        (write(tmp_path / "S") / FILE_NAME).write_text("{")
        records.write_analysis(tmp_path / "OUT")
        assert "The sweep in" in find_sources(tmp_path).skipped[0]
        with pytest.raises(RecordError):
            open_sources([tmp_path / "S"])

    @pytest.mark.parametrize(
        "change",
        [
            lambda r: dataclasses.replace(r, latent_dim=3),
            lambda r: dataclasses.replace(r, levels=r.levels[::-1]),
            lambda r: dataclasses.replace(r, levels=(dataclasses.replace(r.levels[0], best=5),)),
            lambda r: dataclasses.replace(r, levels=(dataclasses.replace(r.levels[0], sigma="x"),)),
            lambda r: dataclasses.replace(r, levels=()),
            lambda r: dataclasses.replace(r, verdicts=()),
            lambda r: dataclasses.replace(r, notes=(3,)),
        ],
    )
    def test_one_that_does_not_fit_together(self, tmp_path, change):
        with pytest.raises(RecordError, match="does not fit together"):
            open_sources([write(tmp_path / "S", change(records.sweep()))])
