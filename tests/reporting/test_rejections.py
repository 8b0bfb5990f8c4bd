"""What is said of images that could not be used: every reason counted, its most frequent first, in bounded length."""

import dataclasses
import html

import pytest
from rich.console import Console

from ngvae_tools.record import AnalysisRecord
from ngvae_tools.reporting.markdown import markdown
from ngvae_tools.reporting.rejections import MAX_REASONS, RejectionTally, reasons_text, rejected_by_run, rejected_text
from ngvae_tools.reporting.sections import verdict
from ngvae_tools.reporting.terminal import run_view

SIXTEEN = "is of type uint16 where uint8 is expected: height 32, width 32, 1 channel, uint16, expected 8 bits; advice"
MIXED = [
    ("broken.png", "cannot be decoded: no end"),
    *((f"{k}.tif", SIXTEEN) for k in range(80)),
    ("odd.png", "is of another size than 32 x 32: height 9"),
]
SAID = (
    "80 are of type uint16 where uint8 is expected (such as 0.tif), 1 cannot be decoded (broken.png), "
    "1 is of another size than 32 x 32 (odd.png)"
)


def tally(rejected):
    result = RejectionTally()
    for identifier, reason in rejected:
        result.add(identifier, reason)
    return result


def config(rejected, **data):
    lines = [{"id": identifier, "reason": reason} for identifier, reason in rejected]
    return {"data": {"n_images": 502, "n_train": 420, **data, "rejected": lines}}


def shown(view):
    console = Console(width=80)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


def flat(text):
    return " ".join(text.split())


def test_reasons_are_counted_and_the_most_frequent_comes_first():
    found = tally(MIXED)
    assert reasons_text(found.reasons, found.total) == SAID
    assert rejected_text(found.reasons, 82, 502) == f"82 of 502 images (16 %) could not be used: {SAID}"
    assert rejected_text((), 1) == "1 image could not be used"
    for total, share in (
        (1, "less than 0.1"),
        (25, "0.25"),
        (949, "9.5"),
        (951, "10"),
        (9_999, "100"),
        (10_000, "100"),
    ):
        assert rejected_text((), total, 10_000) == f"{total:,} of 10,000 images ({share} %) could not be used"
    assert found.in_full().startswith(f"{SAID}; most often (80): height 32, width 32, 1 channel, uint16")
    assert tally([("a", "is empty")] * 2).in_full() == "2 are empty (such as a)"


def test_verbs_agree_with_their_number():
    found = tally(
        [(f"{k}", f"{verb} it") for k, verb in enumerate(("has", "has", "holds", "holds", "cannot", "cannot"))]
    )
    assert reasons_text(found.reasons, 6) == "2 have it (such as 0), 2 hold it (such as 2), 2 cannot it (such as 4)"


def test_length_and_memory_are_bounded():
    found = tally(
        (f"{'deep/' * 900}{k}.png", f"is wrong in way {k} {'x' * 5000}\x1b[31m") for k in range(3 * MAX_REASONS)
    )
    text = rejected_text(found.reasons, found.total, 10**9)
    assert len(text) < 600
    assert text.endswith(f", {3 * MAX_REASONS - 3:,} for other reasons")
    assert "/0.png)" in text
    assert text.isprintable()
    assert len(found._counts) == len(found._examples) == len(found._whole) == MAX_REASONS


def test_a_run_says_which_image_set_the_size_where_most_did_not_fit():
    assert rejected_by_run(config([])) == ""
    few = rejected_by_run(config(MIXED, shape_from="00.png"))
    assert few == f"82 of 502 images (16 %) could not be used: {SAID}"
    most = rejected_by_run(config(MIXED, shape_from="00.png", n_images=90))
    assert most.endswith("Size and type are those of 00.png, the first image that can be read")


@pytest.mark.parametrize("data", [None, [], {"rejected": 3}, {"rejected": [3]}, {"rejected": [{}], "n_images": "x"}])
def test_a_configuration_of_something_else_is_no_fault(data):
    assert rejected_by_run({"data": data}) in {"", "1 image could not be used: 1 None (None)"}


def test_every_report_of_a_run_says_why_and_none_lists_all(many, many_page):
    said = "82 of 502 images (16 %) could not be used: 80 are of type uint16 where uint8 is expected (such as 0.tif)"
    section = many_page.partition('id="run-1"')[2].partition("</section>")[0]
    assert f"<p>{said}" in section
    assert f"<dt>data.rejected</dt><dd>{said}" in section
    assert "<dt>data.n_train</dt><dd>420</dd>" in section
    assert "<dt>identity.device</dt><dd>cpu</dd>" in section
    assert "identity.sigma" not in section
    assert "79.tif" not in section
    assert f"Note: {said}" in flat(shown(run_view(many.runs[0])))
    assert said in markdown(many)


def test_an_analysis_doubts_itself_where_a_considerable_share_was_rejected(many, many_page):
    (wide,) = (named for named in many.analyses if named.name == "wide")
    note = "60 of 6,000 images (1 %) could not be used: 59 hold &lt;img"
    trust = many_page.partition('id="trust-4"')[2].partition("</section>")[0]
    assert note in trust
    assert trust.count(", 1 for other reasons. What is said here is of the others; rejected.jsonl lists each.") == 1
    assert "<dd>60: 59 hold &lt;img" in many_page
    text = flat(shown(verdict(wide.record)))
    assert f"Note: {html.unescape(note)}" in text
    assert "60 of 6,000 images (1 %) could not be used" in markdown(many)
    few = dataclasses.replace(wide.record, data=dataclasses.replace(wide.record.data, n_rejected=59))
    assert "could not be used" not in shown(verdict(few))
    assert AnalysisRecord.from_json(wide.record.to_json()) == wide.record
