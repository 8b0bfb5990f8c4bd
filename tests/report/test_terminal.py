import dataclasses
import io
import subprocess
import sys

import pytest
import records as build
from rich.console import Console

from ngvae_tools.record import CovarianceMetrics
from ngvae_tools.report import terminal
from ngvae_tools.report.sources import NamedRun, Sources, open_sources
from ngvae_tools.report.words import number, spread


def text(renderable, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def rows(shown):
    return [line.split() for line in shown.splitlines()]


def test_numbers_are_the_records(alone):
    record = alone.analyses[0].record
    shown = rows(text(terminal.dimension_table(record)))
    for row in record.dimensions:
        line = next(cells for cells in shown if str(row.index) in cells[:2] and "nformative" in " ".join(cells).lower())
        assert (line[0] == "*") == row.informative
        assert line[-6:] == [
            *spread(row.p_mean, row.p_std).split(),
            number(row.posterior_variance),
            number(row.mu_mean),
            number(row.mu_variance),
        ]
        assert float(line[-3]) == pytest.approx(row.posterior_variance, abs=5e-4)


def test_informative_rows_come_first(alone):
    marks = [cells[0] == "*" for cells in rows(text(terminal.dimension_table(alone.analyses[0].record)))[4:]]
    assert marks == [True] * 7 + [False] * 8


def test_totals(alone):
    record = alone.analyses[0].record
    shown = text(terminal.totals(record))
    for fragment in (
        "normal-gamma-mixture, K = 15",
        "7 of 15",
        f"{record.metrics.entropy:.3f} nats (ceiling ln 15 = 2.708)",
        f"{record.metrics.decorrelation_signed:.3f} (the paper's reading)",
        "6,000 seen, 3 rejected",
        "61,234 bytes, 10.21 an image",
        "480 images/s",
    ):
        assert fragment in shown


def test_many_dimensions_fold_unless_every_is_asked_for():
    record = build.analysis(64, 11)
    assert len(rows(text(terminal.dimension_table(record)))) < 20
    assert "53 others" in text(terminal.dimension_table(record))
    assert sum("informative" in " ".join(r) for r in rows(text(terminal.dimension_table(record, every=True)))) >= 64


def test_undefined_numbers_and_why(many):
    single = next(a for a in many.analyses if a.name == "single")
    shown = text(terminal.render(Sources((single,))))
    assert "n/a" in shown
    assert "it needs at least two dimensions" in shown


def test_undefined_numbers_without_a_note_are_owned_up_to(alone):
    record = dataclasses.replace(alone.analyses[0].record, metrics=CovarianceMetrics(None, None, None, None))
    assert "The record does not say why entropy" in " ".join(text(terminal.totals(record)).split())


def test_comparison_of_up_to_four_has_a_column_each(many):
    shown = text(terminal.comparison_table(Sources(many.analyses[:2])))
    line = next(cells for cells in rows(shown) if cells[:1] == ["entropy"])
    assert line[1:] == [number(a.record.metrics.entropy) for a in many.analyses[:2]]


def test_comparison_of_more_has_a_row_each(many):
    shown = text(terminal.comparison_table(many), width=140)
    line = next(cells for cells in rows(shown) if cells[:1] == ["wide"])
    metrics = dataclasses.astuple(many.analyses[3].record.metrics)
    assert line[1:5] == [number(value) for value in metrics]


def test_other_data_is_told(many):
    other = dataclasses.replace(
        many.analyses[1].record, data=dataclasses.replace(many.analyses[1].record.data, fingerprint="x")
    )
    named = dataclasses.replace(many.analyses[1], record=other)
    assert "did not see the same data" in text(terminal.comparison_table(Sources((many.analyses[0], named))), 200)


def test_run_view(many):
    shown = text(terminal.run_view(many.runs[0]))
    last = many.runs[0].record.epochs[-1]
    for fragment in (
        f"{last.train.distortion:.2f}",
        f"{last.held_out.distortion:.2f}",
        "7 of 15",
        "finished",
        "▇",
        "0.0001",
    ):
        assert fragment in shown
    assert "p near 0 = informative" in shown
    assert "unfinished" in text(terminal.run_view(many.runs[1]))


def test_a_run_without_epochs(tmp_path):
    sources = open_sources([build.write_run(tmp_path, [], finished=False)])
    assert isinstance(sources.runs[0], NamedRun)
    assert "No epoch has finished yet" in text(terminal.render(sources))


def test_fits_80_columns_and_obeys_no_markup_or_control(many):
    shown = text(terminal.render(many))
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "\x1b" not in shown
    assert "[red]$x" in shown
    assert "\\x1b[31m" in shown


def test_width_narrows(alone):
    assert max(len(line) for line in text(terminal.render(alone, 72), width=200).splitlines()) <= 72


def test_loads_neither_matplotlib_nor_jinja2():
    code = (
        "import sys, ngvae_tools.report.terminal as t, ngvae_tools.report.html, ngvae_tools.report.document\n"
        "from ngvae_tools.report.sources import Sources\n"
        "assert 'rich' not in sys.modules\n"
        "t.render(Sources())\n"
        "print(*(m for m in ('matplotlib', 'jinja2', 'torch', 'onnxruntime') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "n/a"),
        (0.0, "0.000"),
        (-0.0, "0.000"),
        (0.0123, "0.012"),
        (-0.00456, "-4.56e-03"),
        (1e6, "1.00e+06"),
    ],
)
def test_numbers(value, shown):
    assert number(value) == shown
