import dataclasses
import io
import json
import math
import subprocess
import sys

import pytest
import records as build
from rich.console import Console

from ngvae_tools.analysis.indices import indices
from ngvae_tools.record import CovarianceMetrics, DimensionStatistics, IntrinsicDimension, Selection
from ngvae_tools.reporting import facts, known, sections, terminal
from ngvae_tools.reporting.comparison import comparison_rows, comparison_table
from ngvae_tools.reporting.histogram import blocks
from ngvae_tools.reporting.html import page
from ngvae_tools.reporting.progress import epoch_rows
from ngvae_tools.reporting.sources import NamedRun, Sources, open_sources
from ngvae_tools.reporting.words import folded, number, spread


def text(renderable, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def disagreeing():
    """Dimensions of which rate and information mark one more than the other rules."""
    record = build.analysis(full=True)
    odd = min(set(range(15)) - set(record.selection.indices))

    def mark(rule):
        if rule.rule not in {"rate", "information"}:
            return rule
        score = tuple(0.2 if k == odd else s for k, s in enumerate(rule.score))
        informative = tuple(v or k == odd for k, v in enumerate(rule.informative))
        return dataclasses.replace(rule, score=score, informative=informative, count_interval=(8, 9))

    return dataclasses.replace(record, rules=tuple(mark(rule) for rule in record.rules))


def rows(shown):
    return [line.split() for line in shown.splitlines()]


def test_numbers_are_the_records(alone):
    record = alone.analyses[0].record
    shown = rows(text(sections.dimension_table(record)))[4:]
    assert [int(cells[1] if cells[0] == "*" else cells[0]) for cells in shown] == [
        row.index for row in sorted(record.dimensions, key=lambda row: not row.informative)
    ]
    for row in record.dimensions:
        line = next(cells for cells in shown if str(row.index) in cells[: 1 + row.informative])
        assert (line[0] == "*") == row.informative
        assert (
            line[-9:]
            == [
                *spread(row.p_mean, row.p_std).split(),
                blocks(row.p_histogram),
                number(row.posterior_variance),
                f"{row.information:.3f}",
                "±",
                "0.004",
                f"{row.snr:.3f}",
                row.type,
            ][-9:]
        )


def test_informative_rows_come_first(alone):
    marks = [cells[0] == "*" for cells in rows(text(sections.dimension_table(alone.analyses[0].record)))[4:]]
    assert marks == [True] * 7 + [False] * 8


def test_families_show_what_they_have():
    gaussian = text(sections.dimension_table(build.analysis(family="gaussian")))
    assert "variance" in gaussian
    assert "p, mean" not in gaussian
    codes = build.analysis(family="deterministic")
    assert "range of mu" in text(sections.dimension_table(codes))
    shown = text(sections.analysis_view(codes, every=True))
    assert "variance of mu at least 0.01" in shown
    assert "SNR" not in shown
    assert "Where the rules agree" not in shown


def test_the_verdict_comes_first_and_says_how_sure_it_is():
    record = build.analysis(full=True)
    shown = rows(text(sections.verdict(record), 100))
    chosen = indices(record.selection.indices)
    assert " ".join(shown[0]) == f"Informative 7 of 15 (95 % interval 7 to 8): {chosen}"
    low = max(s for s, v in zip(record.selection.score, record.selection.informative, strict=True) if v)
    high = min(s for s, v in zip(record.selection.score, record.selection.informative, strict=True) if not v)
    assert " ".join(shown[2]) == f"Threshold 7 for any threshold from {low:.3f} to {high:.3f}"
    assert "5.6 (5.4 to 5.8) by TwoNN, 5.5 (5.4 to 5.9) by maximum likelihood" in " ".join(shown[3])
    assert "7 dimensions in order of relevance and of information" in " ".join(shown[4])


def test_dimensions_whose_interval_spans_the_threshold_are_named():
    record = build.analysis(full=True)
    k = record.selection.indices[0]
    rows_ = [dataclasses.replace(r, intervals={"p_mean": (0.4, 0.6)}) if r.index == k else r for r in record.dimensions]
    shown = text(sections.verdict(dataclasses.replace(record, dimensions=tuple(rows_))), 120)
    assert f"dimension {k}: its interval, 0.400 to 0.600, spans the threshold" in shown
    assert "spans" not in text(sections.verdict(record))


def test_agreement_groups_dimensions_of_which_all_rules_say_the_same():
    record = disagreeing()
    shown = rows(text(sections.agreement_table(record)))
    chosen, others = set(record.selection.indices), set(range(15)) - set(record.selection.indices)
    odd = min(others)
    assert [*indices(chosen).split(), *"*******"] in shown
    assert [str(odd), *"···**··"] in shown
    assert [*indices(others - {odd}).split(), *"·······"] in shown
    assert ["count", "7", "7", "7", "8", "8", "7", "7"] in shown
    assert ["95", "%", "interval", *["7-8"] * 3, *["8-9"] * 2, *["7-8"] * 2] in shown
    assert [cell for cells in shown for cell in cells if cell.startswith("≥")] == ["≥0.01", "≥0.1", "≥0.1", "≥1"]
    every = rows(text(sections.agreement_table(record, every=True)))
    assert [str(odd), *"···**··"] in every
    assert sum(cells[-7:] == [*"*******"] for cells in every) == 7


def test_every_shows_every_statistic_and_interval():
    record = build.analysis(full=True)
    shown = text(sections.analysis_view(record, every=True))
    for heading in ("95 % intervals", "range of mu", "std over", "floor"):
        assert heading in shown
        assert heading not in text(sections.analysis_view(record))
    table = rows(text(sections.interval_table(record)))
    low, high = record.dimensions[0].intervals["information"]
    place = next(i for i, cells in enumerate(table) if cells[:1] == ["0"])
    assert f"{low:.3f}" in table[place]
    assert f"{high:.3f}" in table[place + 1]


def test_covariance_metrics_are_named_and_samples_are_optional():
    record = build.analysis()
    shown = text(sections.metric_table(record))
    for name in ("absolute", "signed", "correlation matrix", "effective dimensions", "participation ratio"):
        assert name in shown
    assert f"{record.sample_metrics.entropy:.3f}" not in shown
    both = text(sections.metric_table(record, samples=True))
    for metrics in (record.metrics, record.sample_metrics):
        for value in dataclasses.astuple(metrics):
            assert number(value) in both
    assert "of samples" not in text(sections.metric_table(build.analysis(family="deterministic"), samples=True))


def test_truncation():
    truncation = build.analysis(full=True).truncation
    shown = rows(text(sections.truncation_view(truncation)))
    first = truncation.by_relevance.order[0]
    line = next(cells for cells in shown if cells[:2] == ["1", str(first)])
    assert line[2] == number(truncation.by_relevance.error[1])
    assert line[-3:] == [number(v[first]) for v in (truncation.relevance, truncation.effect, truncation.sensitivity)]
    assert any(cells[:2] == ["7", "(knee)"] for cells in shown)
    bare = dataclasses.replace(
        truncation,
        by_information=None,
        by_relevance=dataclasses.replace(truncation.by_relevance, standard_error=None, knee=None),
    )
    assert "n/a" in text(sections.truncation_view(bare))
    assert "knee" not in text(sections.truncation_view(bare))
    long = build.analysis(100, 12, full=True).truncation
    assert "left out" in text(sections.truncation_view(long))
    assert "left out" not in text(sections.truncation_view(long, every=True))


def test_supervised():
    record = build.analysis(full=True)
    shown = text(sections.supervised_view(record.supervised))
    for fragment in ("MIG", "0.312", "n/a", "sap is not defined", "hue (circular", "20 classes"):
        assert fragment in shown
    assert "LogisticRegression" not in shown
    settings = {"scikit_learn": "1.9", "factor_vae_dead_standard_deviation": 0.05, "dci": "trees", "sapling": 1}
    asked = dataclasses.replace(record.supervised, settings=settings)
    labels = [label for label, _ in known.setting_rows(asked)]
    assert labels == ["scikit-learn", "FactorVAE dead standard deviation", "DCI", "Sapling"]
    assert "FactorVAE dead" in text(sections.supervised_view(asked, every=True))
    for k in record.selection.indices:
        line = next(cells for cells in rows(shown) if cells[:1] == [str(k)])
        assert [cell.rstrip("*") for cell in line[1:]] == [number(row[k]) for row in record.supervised.information]
    assert sum(cell.endswith("*") for cells in rows(shown) for cell in cells[1:] if cells[0].isdigit()) == 5
    assert "Left out, less than 0.01 nat" in shown
    empty = dataclasses.replace(record.supervised, factors=(), information=())
    assert "MIG" in text(sections.supervised_view(empty))


def test_what_was_analysed(alone):
    shown = text(sections.analysis_view(alone.analyses[0].record))
    for fragment in (
        "normal-gamma-mixture, K = 15",
        "6,000 seen, 3 rejected",
        "61,234 bytes, 10.21 an image",
        "480 images/s",
    ):
        assert fragment in shown
    record = alone.analyses[0].record
    spatial = dataclasses.replace(record, model=dataclasses.replace(record.model, positions=64))
    assert "K = 15 at each of 64 positions" in text(sections.analysis_view(spatial))


def test_a_given_selection_does_not_claim_that_it_found_something():
    record = build.analysis()
    given = Selection("given", 0.5, "above", (1.0, *[0.0] * 14), (True, *[False] * 14))
    record = dataclasses.replace(record, selection=given, rules=(given, *record.rules))
    assert facts.headline(record) == "1 of 15 dimensions named beforehand"
    shown = text(sections.analysis_view(record))
    assert "any threshold" not in shown
    assert "named by the user or by another selection" in shown


def test_many_dimensions_fold_unless_every_is_asked_for():
    record = build.analysis(64, 11)
    few, every = (
        rows(text(sections.dimension_table(record))),
        rows(text(sections.dimension_table(record, every=True))),
    )
    assert [cells[0] for cells in few[-2:]] == ["min", "max"]
    assert len(every) == len(few) + 51
    rest = [row for row in record.dimensions if not row.informative]
    assert [cells[1] for cells in few[-2:]] == [f"{pick(row.p_mean for row in rest):.3f}" for pick in (min, max)]
    assert f"the 53 uninformative, {indices(row.index for row in rest)}; --every" in " ".join(
        text(sections.analysis_view(record)).split()
    )


@pytest.mark.parametrize("informative", [62, 63, 64])
def test_a_row_or_two_are_not_folded(informative):
    record = build.analysis(64, informative)
    assert len(rows(text(sections.dimension_table(record)))) == 4 + 64
    assert "--every" not in text(sections.analysis_view(record))


def test_what_the_columns_mean():
    assert "near 0 = active, both = mixed." in " ".join(text(sections.analysis_view(build.analysis())).split())
    assert "SNR" not in text(sections.analysis_view(build.analysis(family="deterministic")))


def test_undefined_numbers_and_why(many):
    single = next(a for a in many.analyses if a.name == "single")
    shown = text(terminal.render(Sources((single,))))
    assert "n/a" in shown
    assert "it needs at least two dimensions" in shown


def test_undefined_numbers_without_a_note_are_owned_up_to(alone):
    record = dataclasses.replace(alone.analyses[0].record, metrics=CovarianceMetrics(*[None] * 7))
    assert "The record does not say why entropy" in " ".join(text(sections.verdict(record)).split())


def test_comparison_of_two_has_a_column_each(many):
    shown = text(comparison_table(Sources(many.analyses[:2])))
    line = next(cells for cells in rows(shown) if cells[:1] == ["entropy"])
    assert line[1:] == [number(a.record.metrics.entropy) for a in many.analyses[:2]]


def test_comparison_of_more_has_a_row_each(many):
    shown = text(comparison_table(many))
    line = next(cells for cells in rows(shown) if cells[:1] == ["wide"])
    metrics = many.analyses[3].record.metrics
    shown_there = (metrics.entropy, metrics.decorrelation, metrics.decorrelation_signed, metrics.total_correlation)
    assert line[1:5] == [number(value) for value in shown_there]


@pytest.mark.parametrize("number_of", [2, 3, 5, 8])
def test_no_word_of_a_comparison_is_broken(number_of, tmp_path):
    families = ("normal-gamma-mixture", "deterministic", "gaussian", "normal-gamma")
    folders = [
        build.write_analysis(
            tmp_path / f"encoder-{k}-of-many",
            build.analysis(100, 30 + k, family=families[k % 4], images=1_000_000, seed=k, full=True),
        )
        for k in range(number_of)
    ]
    shown = text(comparison_table(open_sources(folders)))
    assert max(len(line) for line in shown.splitlines()) <= 80
    words = {word for cells in rows(shown) for word in cells}
    assert {"deterministic", "variance" if number_of > 2 else "active", "1,000,000"} <= words
    assert words & {"normal-gamma-", "normal-gamma-mixture"}
    assert words & {"encoder-0-of-", "encoder-0-of-many"}
    values = {value for _, texts in comparison_rows(open_sources(folders).analyses) for value in texts}
    assert {value for value in values if "-" not in value[1:] and " " not in value} <= words


def test_a_metric_that_one_analysis_lacks_is_explained(tmp_path):
    folders = [build.write_analysis(tmp_path / str(full), build.analysis(full=full)) for full in (False, True)]
    assert "no labels were given" in text(comparison_table(open_sources(folders)))
    assert "no labels were given" not in text(comparison_table(open_sources(folders[:1] * 2)))


def test_several_are_short_unless_every_is_asked_for(tmp_path):
    folders = [build.write_analysis(tmp_path / str(k), build.analysis(seed=k, full=True)) for k in range(3)]
    sources = open_sources(folders)
    few, every = (text(terminal.render(sources, every=every)) for every in (False, True))
    assert "Where the rules agree" not in few
    assert every.count("Where the rules agree") == 3
    for shown in (few, every):
        assert shown.count("7 of 15 dimensions are informative") == shown.count("Intrinsic dimension") == 3
    assert "Where the rules agree" in text(terminal.render(open_sources(folders[:1])))


def test_headlines(many):
    shown = text(terminal.headlines(many)).splitlines()
    assert len(shown) == len(many.analyses) + len(many.runs)
    assert "wide: 11 of 64 dimensions are informative" in shown
    assert not any("\x1b" in line for line in shown)


def test_long_names_break_behind_their_parts():
    assert folded("normal-gamma-mixture", 13) == "normal-gamma-\nmixture"
    assert folded("a/bb/" + "c" * 7, 4) == "a/\nbb/\ncccc\nccc"
    assert folded("", 5) == ""


def test_other_data_is_told(many):
    other = dataclasses.replace(
        many.analyses[1].record, data=dataclasses.replace(many.analyses[1].record.data, fingerprint="x")
    )
    named = dataclasses.replace(many.analyses[1], record=other)
    assert "did not see the same data" in text(comparison_table(Sources((many.analyses[0], named))), 200)


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


def test_a_training_that_ended_before_its_prior_weights_says_so(tmp_path):
    folder = build.write_run(tmp_path)
    (folder / "summary.json").write_text(json.dumps({"adapted": 0.367}))
    (run,) = open_sources([folder]).runs
    assert "36 % of the change to learned prior weights" in dict(epoch_rows(run))["Prior weights"]
    for odd in (1.0, None, "x", [1], math.nan):
        (folder / "summary.json").write_text(json.dumps({"adapted": odd}))
        assert "Prior weights" not in dict(epoch_rows(*open_sources([folder]).runs))


def test_a_run_without_epochs(tmp_path):
    sources = open_sources([build.write_run(tmp_path, [], finished=False)])
    assert isinstance(sources.runs[0], NamedRun)
    assert "No epoch has finished yet" in text(terminal.render(sources))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("family", ["normal-gamma-mixture", "gaussian", "deterministic"])
@pytest.mark.parametrize(("dim", "informative"), [(1, 1), (2, 1), (15, 0), (15, 7), (100, 100)])
def test_any_record_fits_and_no_word_is_broken(dim, informative, family, width, tmp_path):
    record = build.analysis(dim, informative, family=family, full=True)
    sources = open_sources([build.write_analysis(tmp_path / "x", record)])
    for every in (False, True):
        shown = text(terminal.render(sources, every=every, samples=True), width)
        assert max(len(line) for line in shown.splitlines()) <= width
        words = shown.split()
        for head in (
            "dim.",
            "relevance",
            "participation",
            *(["information,", "informative)"] if record.sample_metrics else []),
        ):
            assert head in words or (head == "informative)" and family == "gaussian")


def test_numbers_that_are_absent_are_told(tmp_path):
    record = build.analysis(full=True)
    keep = {"index", "informative", "mu_mean", "mu_low", "mu_high"}
    nothing = {f.name: None for f in dataclasses.fields(DimensionStatistics) if f.name not in keep | {"intervals"}}
    empty = dataclasses.replace(
        record,
        dimensions=(
            dataclasses.replace(record.dimensions[0], **nothing, intervals={}),
            *record.dimensions[1:],
        ),
        covariance=None,
        metrics=CovarianceMetrics(*[None] * 7),
        sample_metrics=CovarianceMetrics(*[None] * 7),
        intrinsic_dimension=IntrinsicDimension((0,), 60, None, None, None, None),
        supervised=dataclasses.replace(record.supervised, mig=None, beta_vae=None),
    )
    sources = open_sources([build.write_analysis(tmp_path / "x", empty)])
    for every in (False, True):
        assert "n/a" in text(terminal.render(sources, every=every, samples=True))
    assert "n/a" in page(sources)


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
        "import sys, ngvae_tools.reporting.terminal as t, ngvae_tools.reporting.html, ngvae_tools.reporting.document\n"
        "from ngvae_tools.reporting.sources import Sources\n"
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
