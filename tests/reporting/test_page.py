import copy
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import records as build
from rich.console import Console

from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.stability import Match, ModelStability, PairStability, Stability
from ngvae_tools.errors import OutputError
from ngvae_tools.record import Selection
from ngvae_tools.reporting import html
from ngvae_tools.reporting.curves import count_over_threshold, error_over_dimensions
from ngvae_tools.reporting.document import as_json
from ngvae_tools.reporting.figures import covariance_heatmap, loss_over_epochs, p_over_epochs
from ngvae_tools.reporting.heatmap import correlation, correlation_heatmap, factor_heatmap
from ngvae_tools.reporting.histogram import blocks, picture
from ngvae_tools.reporting.html import page, write_html
from ngvae_tools.reporting.labels import clusters, placed
from ngvae_tools.reporting.rules import score_name, score_text
from ngvae_tools.reporting.sources import Sources, open_sources
from ngvae_tools.reporting.terminal import render
from ngvae_tools.reporting.words import decimals, number, span, spread


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_hostile_strings_are_inert(many_page):
    parsed = Elements(many_page)
    assert not {"script", "img", "iframe", "b"} & set(parsed.tags)  # without pictures there is no script at all
    assert not [a for a in parsed.attributes if a[1].startswith("on")]
    assert any("<img src=x onerror=alert(1)>" in text for text in parsed.texts)
    assert "\x1b" not in many_page


def test_nothing_is_loaded(many_page):
    shown = many_page
    parsed = Elements(shown)
    assert not {"link", "script", "object", "embed", "base"} & set(parsed.tags)
    for _, name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith(("data:image/png;base64,", "#"))
    assert set(re.findall(r"https?://[^\s\"'<]+", shown)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"url\((?!#)|@import", shown)


def test_references_lead_somewhere(many_page):
    parsed = Elements(many_page)
    ids = {value for _, name, value in parsed.attributes if name == "id"}
    used = {v[1:] for _, name, v in parsed.attributes if name == "xlink:href" and v.startswith("#")}
    used |= set(re.findall(r"url\(#([^)]+)\)", many_page))
    assert used <= ids


def test_the_same_bytes_each_time(many, many_page, tmp_path):
    path = write_html(many, tmp_path / "a.html")
    assert path == tmp_path / "a.html"
    assert path.read_bytes() == many_page.encode()


def test_numbers_are_the_records(alone):
    record = alone.analyses[0].record
    shown = page(alone)
    assert "<h1>7 of 15 dimensions are informative</h1>" in shown
    assert "its mean p is below 0.5" in shown
    assert f'<p class="kept">Dimensions {indices(record.selection.indices)}</p>' in shown
    for row in record.dimensions:
        cells = [f"{row.information:.3f} ± 0.004", spread(row.p_mean, row.p_std), number(row.mu_variance)]
        cells += [number(row.posterior_variance), f"{row.snr:.3f}", row.type]
        cells.append(f"{sum(rule.informative[row.index] for rule in record.rules)} of 7")
        more = [number(row.posterior_variance_std), number(row.rate), "3.560", number(row.posterior_entropy)]
        more += [number(row.mu_mean), span((row.mu_low, row.mu_high))]
        verdict = "informative" if row.informative else "uninformative"
        start = shown.index(f'>{row.index}<span class="unseen"> {verdict}</span></th>')
        line = shown[start : shown.index("</tr>", start)]
        assert line.endswith("".join(f"<td>{cell}</td>" for cell in cells))
        assert f">{row.index}</th>" + "".join(f"<td>{cell}</td>" for cell in more) in shown
        assert picture(row.p_histogram, f"Histogram of p over images, dimension {row.index}, from 0 to 1") in line
    for fact in (
        record.data.fingerprint,
        record.model.sha256,
        "6,000 images",
        "3; listed in rejected.jsonl",
        "2.4.6",
    ):
        assert fact in shown


def test_a_full_record_shows_everything(tmp_path):
    record = build.analysis(full=True)
    shown = page(open_sources([build.write_analysis(tmp_path, record)]))
    assert "95 % interval of the count: 7 to 8." in shown
    for rule in record.rules:
        for k, verdict in enumerate(rule.informative):
            assert f'<td class="{"in" if verdict else "out"}">{score_text(rule, k)}</td>' in shown
    for row in record.dimensions:
        short = [" to ".join(map(decimals, row.intervals[name])) for name in ("p_mean", "information", "snr")]
        for interval in (*short, span(row.intervals["rate"]), span(row.intervals["mu_variance"])):
            assert f"<small>{interval}</small>" in shown
    for metrics in (record.metrics, record.sample_metrics):
        for value in dataclasses.astuple(metrics):
            assert f"<td>{number(value)}</td>" in shown
    for value in (*record.truncation.relevance, *record.truncation.effect, *record.truncation.sensitivity):
        assert f"<td>{number(value)}</td>" in shown
    for fragment in ("0.981", "sap is not defined", "hue (circular, declared", "<dt>Classifier</dt>"):
        assert fragment in shown
    assert shown.index('id="provenance-1"') < shown.index("<dt>Classifier</dt>")
    labels = re.findall(r'aria-label="([^"]*)"', shown)
    for start in ("Number of informative", "Reconstruction error", "Heat map of the information"):
        assert sum(label.startswith(start) for label in labels) == 1


def test_figures_hold_their_numbers():
    record = build.analysis(full=True)
    svg = count_over_threshold(record)
    for rule in record.rules:
        assert (f">{score_name(rule.rule)}: {rule.count}<" in svg) == (rule.rule != "type")
    assert error_over_dimensions(record.truncation).count(", knee at 7<") == 2
    heat = factor_heatmap(record.supervised)
    for row in record.supervised.information:
        for value in row:
            assert f">{value:.2f}<" in heat
    assert factor_heatmap(dataclasses.replace(record.supervised, factors=(), information=())) == ""
    wide = build.analysis(100, 12, full=True)
    assert factor_heatmap(wide.supervised).count("<text") < 60


def test_figures_of_odd_records():
    record = build.analysis(2, 0, full=True)
    constant = Selection("snr", 1.0, "above", (0.0, 0.0), (False, False))
    huge = Selection("rate", 1.0, "above", (1e-300, 1e300), (False, True))
    odd = dataclasses.replace(record, selection=constant, rules=(constant, huge))
    assert count_over_threshold(odd).count("count") >= 1
    given = Selection("given", 0.5, "above", (1.0, 0.0), (True, False))
    assert count_over_threshold(dataclasses.replace(record, selection=given, rules=(given,))) == ""
    bare = dataclasses.replace(record.truncation.by_relevance, standard_error=None, knee=None, error=(0.0, 0.0, 0.0))
    truncation = dataclasses.replace(record.truncation, by_relevance=bare, by_information=None)
    assert error_over_dimensions(truncation).startswith("<svg")
    nothing = dataclasses.replace(record.supervised, information=((0.0, 0.0),) * 5)
    assert factor_heatmap(nothing).startswith("<svg")


def test_histogram_shows_rare_images():
    counts = (0, 3, *[0] * 17, 5997)
    assert blocks(counts) == "▁········█"
    shown = picture(counts, "x")
    assert "M5 22v-1h4v1z" in shown
    assert "M95 22v-22h4v22z" in shown
    assert blocks((0,) * 20) == "·" * 10


def test_stability_of_several_models(tmp_path):
    model = ModelStability(name="<b>a", count=2, dimensions=(0, 1), others=1, found=(1, 0), udr=0.91)
    pair = PairStability("<b>a", "b", 500, (Match(0, 3, -0.98),), (1,), (2,), 0.91, 0.12)
    found = Stability(
        models=(model, dataclasses.replace(model, name="b", count=3)),
        pairs=(pair,),
        count_mean=2.5,
        count_sd=0.7,
        count_range=(2, 3),
        notes=("Why.",),
    )
    records = [build.write_analysis(tmp_path / name, build.analysis(3, 2)) for name in "ab"]
    sources = dataclasses.replace(open_sources(records), stability=found)
    shown = page(sources)
    assert '<section id="stability">' in shown
    assert "b" not in Elements(shown).tags
    body = json.loads(as_json(sources))
    assert body["stability"]["pairs"][0]["matches"] == [{"a": 0, "b": 3, "correlation": -0.98}]
    console = Console(file=io.StringIO(), width=80)
    console.print(render(sources))
    for text in (shown, console.file.getvalue()):
        assert "mean 2.5, range 2 to 3" in text
        assert "0~3 (-0.98)" in text
        assert "1 is best" not in text
        assert "Why." in text
        assert "below 1, even between equal codes" in " ".join(text.split())
        for title in ("Models", "Every two models", "Matched dimensions"):
            assert title in text
    assert "stability" not in json.loads(as_json(open_sources(records)))


def test_comparison_shows_every_metric(many, many_page):
    assert "an analysis is compared with them here" not in many_page
    for named in many.analyses:
        for value in dataclasses.astuple(named.record.metrics)[:-2]:
            assert f"<td>{number(value)}</td>" in many_page


def test_sections_without_data_are_absent(alone, many, tmp_path):
    def sections(sources):
        return re.findall(r'<section id="([^"]+)"', page(sources))

    plain = ["which-1", "trust-1", "compare", "covariance", "stored-1", "provenance-1"]
    assert sections(alone) == plain
    # The first has known factors, and so a section on what each dimension does.
    assert sections(Sources(many.analyses[:2])) == [
        *("analysis-1", "which-1", "does-1", "trust-1"),
        *("analysis-2", "which-2", "trust-2"),
        *("compare", "covariance", "stored-1", "stored-2", "provenance-1", "provenance-2"),
    ]
    assert sections(Sources(runs=many.runs)) == ["run-1", "run-2"]
    without = dataclasses.replace(
        alone.analyses[0], record=dataclasses.replace(alone.analyses[0].record, covariance=None)
    )
    assert sections(Sources((without,))) == [name for name in plain if name != "covariance"]
    empty = open_sources([build.write_run(tmp_path / "empty", [], finished=False)])
    assert "<svg" not in page(empty)
    assert "Unfinished, 0 epochs so far." in page(empty)
    assert 'class="notes"' not in page(alone)


def test_a_page_that_is_too_large_leaves_figures_out_and_says_so(tmp_path, monkeypatch):
    sources = open_sources([build.write_analysis(tmp_path / "a", build.analysis(3, 1, full=True))])
    view = html._view(sources)
    monkeypatch.setattr(html, "_view", lambda _: copy.deepcopy(view))
    own = {"Number of informative", "Reconstruction error", "Heat map of the information"}
    shared = {"Heat map of the scaled", "Heat map of the correlation"}
    whole = len(page(sources).encode())
    for limit, figures, heat_maps, larger in (
        (whole, own | shared, False, False),
        (whole - 1, shared, False, False),
        (9, set(), True, True),
    ):
        monkeypatch.setattr(html, "LIMIT", limit)
        text = page(sources)
        assert {start for start in own | shared if f'aria-label="{start}' in text} == figures
        said = [name in text for name in ("figures of each analysis are left", "heat maps are left", "takes more than")]
        assert said == [limit < whole, heat_maps, larger]


def test_skipped_sources_are_told(alone):
    assert "<p>The run was left out.</p>" in page(dataclasses.replace(alone, skipped=("The run was left out.",)))


def test_undefined_numbers_and_why(many):
    single = next(a for a in many.analyses if a.name == "single")
    shown = page(Sources((single,)))
    assert "<td>n/a</td>" in shown
    assert "decorrelation is not defined: it needs at least two dimensions." in shown
    assert "1 of 1 dimension is informative" in shown


def test_a_place_that_cannot_be_written(alone, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_html(alone, tmp_path / "file" / "page.html")


def test_figures_without_data_are_empty(tmp_path):
    run = open_sources([build.write_run(tmp_path, [], finished=False)]).runs[0]
    assert p_over_epochs(run) == loss_over_epochs(run) == ""
    assert covariance_heatmap([dataclasses.replace(build.analysis(), covariance=None)]) == ""


def test_figures_of_odd_data(tmp_path):
    record = build.analysis(3, 1)
    constant = dataclasses.replace(record, covariance=((0.0,) * 3,) * 3)
    assert "image" in covariance_heatmap([constant, record], ["漢字", "$\\frac{"])
    one = build.epochs(1, 40, 35)
    broken = dataclasses.replace(one[0], train=dataclasses.replace(one[0].train, distortion=float("inf")))
    for number_, history in enumerate((one, (broken,), (*one, broken))):
        run = open_sources([build.write_run(tmp_path / str(number_), history)]).runs[0]
        assert p_over_epochs(run).startswith("<svg")
        assert loss_over_epochs(run).startswith("<svg")


def test_correlation_leaves_constant_dimensions_out():
    record = dataclasses.replace(build.analysis(3, 1), covariance=((4.0, 3.0, 0.0), (3.0, 9.0, 0.0), (0.0, 0.0, 1e-13)))
    found = correlation(record)
    np.testing.assert_allclose(found[:2, :2], [[1, 0.5], [0.5, 1]], rtol=1e-12)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    svg = correlation_heatmap([record, build.analysis()], ["one", "<b>"])
    assert 'aria-label="Heat map of the correlation of mu: one, &lt;b&gt;"' in svg
    assert correlation_heatmap([dataclasses.replace(record, covariance=None)]) == ""


def test_figures_take_the_colour_around_them(many):
    svg = p_over_epochs(many.runs[0])
    assert "currentColor" in svg
    assert "#ffffff" not in svg
    assert "near 0 = informative" in svg


def test_labels_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    ends = {k: float(v) for k, v in enumerate(rng.beta(0.3, 0.3, 40))}
    labels = clusters(ends, 0.05, 7)
    assert sorted(k for _, members in labels for k in members) == list(range(40))
    heights = placed([end for end, _ in labels][:18], 0.05)
    assert min(np.diff(heights)) >= 0.05 - 1e-12
    assert heights[-1] <= 1
