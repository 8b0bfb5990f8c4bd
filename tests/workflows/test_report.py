"""What report may replace: pages and folders of figures that it wrote, and nothing that it shows."""

import dataclasses

import pytest
import records as build

from ngvae_tools import report
from ngvae_tools.errors import OptionError, OutputError
from ngvae_tools.reporting.figure_files import LIST_NAME, write_figures
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.run import SUMMARY_NAME


@pytest.fixture
def out(tmp_path):
    record = dataclasses.replace(build.analysis(3, 1), covariance=None)
    data = dataclasses.replace(record.data, path=str(tmp_path / "figures"))
    model = dataclasses.replace(record.model, path=str(tmp_path / "null\0"))
    return build.write_analysis(tmp_path / "out", dataclasses.replace(record, data=data, model=model))


def test_a_page_is_replaced_by_a_page_alone(tmp_path, out):
    page = tmp_path / "page.html"
    report([out], html=page)
    page.write_bytes(page.read_bytes() + b"<!-- of before -->")
    with pytest.raises(OutputError, match=r"found a page of a report; .*--overwrite"):
        report([out], html=page)
    report([out], html=page, overwrite=True)
    written = page.read_bytes()
    assert not written.endswith(b"-->")
    other = tmp_path / "other.html"
    other.write_bytes(written.replace(b"ngvae-tools report", b"something else"))
    before = {path: path.read_bytes() for path in (other, out / "selection.json")}
    for path in (*before, out):
        for overwrite in (False, True):
            with pytest.raises(OutputError) as caught:
                report([out], html=path, overwrite=overwrite)
            assert "--overwrite" not in caught.value.remedy
    assert str(out / "report.html") in caught.value.remedy
    assert {path: path.read_bytes() for path in before} == before


def test_figures_replace_nothing_that_the_report_is_made_of(tmp_path, out, listed):
    """The data set of the analysis is a folder of figures."""
    write_figures(open_sources([out]), tmp_path / "figures")
    before = listed(tmp_path)
    with pytest.raises(OptionError, match=r"figures would replace what it is made of"):
        report([out], figures=tmp_path / "figures", overwrite=True)
    run = build.write_run(tmp_path / "run", build.epochs(2, 3, 1), finished=False)
    with pytest.raises(OptionError, match=r"summary.json would replace what it is made of"):
        report([run], html=run / SUMMARY_NAME)
    assert [name for name in listed(tmp_path) if not name.startswith("run/")] == before


@pytest.mark.parametrize(("page", "figures"), [("both/page.html", "both"), ("both", "both"), ("both", "both/below")])
def test_page_and_figures_are_apart(tmp_path, out, listed, page, figures):
    with pytest.raises(OptionError, match="apart from each other"):
        report([out], html=tmp_path / page, figures=tmp_path / figures)
    assert listed(tmp_path) == ["out/selection.json"]


@pytest.mark.parametrize("name", [LIST_NAME, "a-map.svg/mine.txt", "empty/"])
def test_what_the_list_of_figures_does_not_name_stays(tmp_path, out, listed, name):
    folder = tmp_path / "shown"
    folder.mkdir()
    if name != LIST_NAME:  # else it is another's list
        (folder / LIST_NAME).write_text("figure,of,shows,caption\na-map,a,,\n")
    place = folder / name
    (place if name.endswith("/") else place.parent).mkdir(exist_ok=True)
    if not name.endswith("/"):
        place.write_text("mine,too\n")
    before = listed(tmp_path)
    with pytest.raises(OutputError):
        report([out], figures=folder, overwrite=True)
    assert listed(tmp_path) == before
