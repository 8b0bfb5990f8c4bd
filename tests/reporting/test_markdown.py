"""The Markdown of a report, as a real parser of GitHub's tables and links reads it."""

import dataclasses
import re

import pytest
import records as build
from markdown_it import MarkdownIt

from ngvae_tools.reporting.agreement import agreement
from ngvae_tools.reporting.markdown import LONGEST, ROWS, code, markdown, words
from ngvae_tools.reporting.sources import NamedSweep, Sources, open_sources
from ngvae_tools.workflows.stability import stability

COMMENT = 65_536
"""Characters that GitHub takes in a comment."""

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</details><script>alert(1)</script>",
    "![x](https://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "a | b || c",
    "`` ` ``` code",
    "\\`x\\` \\| end\\",
    "line\nbreak\r\n# heading\n\n| a | b |\n| - | - |",
    "@octocat and #1 and GH-1 and octo/cat#1 :tada: $x^2$",
    "https://evil.example www.evil.example a@evil.example",
    "&lt;b&gt; &#64;octocat &amp;",
    "\x1b[31m \u202e\u2066 \u200b \udc80 \x00",
    "*bold* _em_ ~~s~~ **x**",
    "",
    "   ",
    "1. list",
    "- [ ] task",
    "[^1]: note",
    "x" * 100_000,
]


def parsed(text):
    """Tokens of a parser with GitHub's tables, strikethrough and bare links."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return list(_flat(parser.parse(text)))


def _flat(tokens):
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def tables(tokens):
    """Cells of every row of every table."""
    rows = []
    for token in tokens:
        if token.type == "table_open":
            rows.append([])
        elif token.type == "tr_open":
            rows[-1].append(0)
        elif token.type in {"td_open", "th_open"}:
            rows[-1][-1] += 1
    return rows


OURS = {"<details>", "</details>", "<summary>", "</summary>"}


def assert_inert(text):
    tokens = parsed(text)
    kinds = {token.type for token in tokens}
    assert not kinds & {"link_open", "image", "fence", "code_block", "s_open", "em_open", "hr", "blockquote_open"}
    for token in tokens:
        if token.type in {"html_block", "html_inline"}:
            assert re.fullmatch(r"(</?(details|summary)>|[\w ,]|\s)*", token.content), token.content
        if token.type == "text":
            # What GitHub turns into links, mentions, references, emoji or formulas outside code.
            assert not re.search(r"[@#$<>`|\\\[\]_*~]|://|www\.|:\w|GH-\d", token.content), token.content
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    text.encode()
    for table in tables(tokens):
        assert len(set(table)) == 1, table
    return tokens


def nasty(text):
    record = build.analysis(4, 2, full=True, notes=(text,))
    return dataclasses.replace(
        record,
        model=dataclasses.replace(record.model, path=text, family=text, sha256=text),
        data=dataclasses.replace(record.data, path=text, resize=text),
        rules=tuple(dataclasses.replace(rule, rule=text + rule.rule) for rule in record.rules),
        selection=dataclasses.replace(record.selection, rule=text),
        latents=dataclasses.replace(record.latents, file=text, codec=text),
        truncation=dataclasses.replace(record.truncation, decoder=text),
        supervised=dataclasses.replace(record.supervised, source=text, notes=(text,)),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_stays_text(text):
    for made in (code(text), words(text)):
        assert_inert(f"A sentence: {made}\n\n- item {made}\n\n| a | b |\n| - | - |\n| {made} | {made} |\n")
        tokens = parsed(f"| a | b |\n| - | - |\n| {made} | {made} |\n")
        assert tables(tokens) == [[2, 2]]
        assert len(made) <= LONGEST + 10


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_records_make_an_inert_page(text, tmp_path):
    names = [f"{k}<b>@x|`[a](b)" for k in range(2)]
    found = open_sources(
        [build.write_analysis(tmp_path / name, nasty(text)) for name in names]
        + [build.write_run(tmp_path / "run <img>|@me", config={text: text})]
    )
    shown = markdown(found)
    tokens = assert_inert(shown)
    assert len(shown) < COMMENT
    assert len([token for token in tokens if token.type == "heading_open"]) == 4


def test_ordinary_words_are_not_made_code():
    for text in (
        "mean p below 0.5",
        "6 for any threshold from 6.69e-04 to 0.949",
        "normal-gamma-mixture",
        "latents.h5",
    ):
        assert words(text) == text


def test_numbers_are_the_records(alone):
    record = alone.analyses[0].record
    shown = markdown(alone)
    assert shown.startswith("### 7 of 15 dimensions are informative: `selection`\n")
    rows = [line.split(" | ") for line in shown.splitlines() if re.match(r"\| \d+ \|", line)]
    order = sorted(record.dimensions, key=lambda row: not row.informative)
    assert [(int(cells[0][2:]), cells[1]) for cells in rows] == [
        (row.index, "yes" if row.informative else "no") for row in order
    ]
    for row, cells in zip(order, rows, strict=True):
        assert cells[-3] == f"{row.information:.3f} ± 0.004"
        assert cells[-1] == f"{row.type} |"
    assert "61,234 bytes" in shown
    assert "| Images | 6,000 seen, 3 rejected |" in shown
    assert agreement(record) in shown
    assert "<details>" not in shown


def test_the_interval_of_the_count(tmp_path):
    found = open_sources([build.write_analysis(tmp_path / "a", build.analysis(full=True))])
    assert "### 7 of 15 dimensions are informative (95 % interval 7 to 8): `a`" in markdown(found)


@pytest.mark.parametrize("dim", [1, 20, 21, 300])
def test_long_tables_are_folded_and_cut(dim, tmp_path):
    found = open_sources([build.write_analysis(tmp_path / "a", build.analysis(dim, 1))])
    shown = markdown(found)
    assert_inert(shown)
    assert (shown.count("<details>"), shown.count("</details>")) == ((1, 1) if dim > 20 else (0, 0))
    assert tables(parsed(shown))[0][1:].__len__() == min(dim, ROWS)
    assert len(shown) < COMMENT
    assert (f"{dim - ROWS} dimensions are left out" in shown) == (dim > ROWS)


def test_several_are_compared_and_stay_within_a_comment(tmp_path):
    many = [build.analysis(60, 7, seed=k, full=True) for k in range(14)]
    found = open_sources([build.write_analysis(tmp_path / f"model-{k}", record) for k, record in enumerate(many)])
    found = dataclasses.replace(found, stability=stability(found.analyses))
    shown = markdown(found)
    tokens = assert_inert(shown)
    assert len(shown) < COMMENT
    assert "2 more analyses are not shown here" in shown
    assert set(tables(tokens)[0]) == {13}
    assert f"| informative | {' | '.join(['7'] * 12)} |" in shown


def test_runs(many):
    shown = markdown(many)
    tokens = assert_inert(shown)
    last = many.runs[0].record.epochs[-1]
    assert f"{last.train.distortion:.2f} (held out {last.held_out.distortion:.2f})" in shown
    assert "unfinished, 30 epochs so far" in shown
    assert [7, 7, 7] in tables(tokens)


def test_sweeps_and_what_was_skipped(tmp_path):
    text = "[x](y) <b> | `"
    record = build.sweep(rule=text, notes=[text] * 14, options={"model": text})
    swept = tuple(NamedSweep(f"sweep-{k}", tmp_path, record) for k in range(14))
    shown = markdown(Sources(sweeps=swept, skipped=(text,) * 15))
    found = tables(assert_inert(shown))
    assert found == [[8] * (1 + len(record.levels))] * 12
    assert "| 0.245 | yes | " in markdown(Sources(sweeps=(NamedSweep("s", tmp_path, build.sweep()),)))
    assert "2 more sweeps are not shown here" in shown
    assert shown.count("- Notes: 2 more are not shown here") == 12
    assert "3 more that were skipped are not shown here" in shown


def test_agreement_says_which_rules_differ():
    record = build.analysis(full=True)
    assert agreement(record) == "All 6 other rules mark the same dimensions."
    odd = min(set(range(15)) - set(record.selection.indices))
    gone = record.selection.indices[0]

    def change(rule):
        if rule.rule != "rate":
            return rule
        return dataclasses.replace(
            rule, informative=tuple((v or k == odd) and k != gone for k, v in enumerate(rule.informative))
        )

    other = dataclasses.replace(record, rules=tuple(change(rule) for rule in record.rules))
    assert agreement(other) == (
        f"5 of 6 other rules mark the same dimensions; rate marks {odd} too and does not mark {gone}."
    )
    assert agreement(build.analysis(family="deterministic")) == ""
