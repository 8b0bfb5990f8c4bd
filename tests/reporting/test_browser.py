"""The page in headless Chromium: nothing is loaded, sliders move images, themes and widths, accessibility, print."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path

import chromium
import numpy as np
import page_pictures
import pytest
import records as build
from PIL import Image

from ngvae_tools.reporting.html import LIMIT, write_html
from ngvae_tools.reporting.sources import open_sources

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
WIDTHS = 390, 1440
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


class Opened(chromium.Opened):
    """A page that is a file."""

    def __init__(self, browser, path, **options):
        super().__init__(browser, path.as_uri(), **options)

    @property
    def foreign(self):
        """Requests that leave the file."""
        return [url for url in self.requests if not url.startswith("data:")][1:]


@pytest.fixture
def opened(browser):
    pages = []

    def open_page(path, **options):
        pages.append(Opened(browser, path, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The page of the sample data, made by the commands that a user types."""
    folder = tmp_path_factory.mktemp("real")
    sample = ROOT / "sample_data"
    encoder, decoder, data = (sample / name for name in ("encoder.onnx", "decoder.onnx", "sprites.h5"))
    for words in (
        ("select-latents", encoder, data, "--decoder", decoder, "-o", "OUT"),
        ("report", "OUT", "--html", "report.html"),
    ):
        subprocess.run(
            [sys.executable, "-m", "ngvae_tools", *map(str, words)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
    return folder / "report.html"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A page with everything: intervals, truncation, factors, a map in several colours, a training run."""
    folder = tmp_path_factory.mktemp("full")
    record = build.analysis(15, 7, full=True)
    sources = open_sources([build.write_analysis(folder / "selection", record), build.write_run(folder / "run")])
    return _written(folder, sources, page_pictures.pictures(record))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A page that compares two analyses, one with images."""
    folder = tmp_path_factory.mktemp("several")
    record = build.analysis(12, 5, full=True)
    other = build.analysis(40, 9, family="gaussian", seed=1)
    paths = [build.write_analysis(folder / "one", record), build.write_analysis(folder / "two", other)]
    return _written(folder, open_sources(paths), page_pictures.pictures(record))


def _written(folder, sources, pictures):
    named = dataclasses.replace(sources.analyses[0], pictures=pictures)
    return write_html(dataclasses.replace(sources, analyses=(named, *sources.analyses[1:])), folder / "page.html")


def picture_of(locator):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), np.float64) / 255


def change(before, after):
    """Root mean square difference of two screenshots, of values in [0, 1]."""
    return float(np.sqrt(((before - after) ** 2).mean()))


@pytest.mark.parametrize("name", ["real", "full", "several"])
def test_opens_without_a_fault_and_asks_for_nothing(opened, name, request):
    path = request.getfixturevalue(name)
    shown = opened(path)
    shown.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shown.page.wait_for_timeout(200)
    assert shown.faults == []
    assert shown.foreign == []
    assert path.stat().st_size < LIMIT
    assert shown.page.locator("html.live").count() == 1
    assert shown.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_a_slider_moves_the_image_by_keyboard_and_by_mouse(opened, real):
    page = opened(real).page
    films = page.locator("#does-1 .cards").first.locator(".film")
    assert films.count() >= 3
    for film in films.all():
        window, slider = film.locator(".window"), film.locator("input")
        start = picture_of(window)
        assert start.std() > 0.01
        slider.focus()
        page.keyboard.press("Home")
        first = picture_of(window)
        page.keyboard.press("End")
        last = picture_of(window)
        assert change(first, last) > 0.02
        assert film.locator("output").inner_text().startswith("z")
        assert slider.get_attribute("aria-valuetext").split(",")[0] in film.locator("output").inner_text()
        box = slider.bounding_box()
        page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
        assert change(picture_of(window), first) == 0
        strip = film.locator(".strip").bounding_box()
        page.mouse.click(strip["x"] + strip["width"] - 3, strip["y"] + strip["height"] / 2)
        assert change(picture_of(window), last) == 0


def test_an_uninformative_slider_changes_nothing_to_see(opened, real):
    page = opened(real).page
    films = page.locator("[id^=still-1-]")
    assert films.count() >= 1
    for slider in films.all():
        window = slider.locator("xpath=ancestor::*[contains(@class, 'stage')]").locator(".window")
        slider.focus()
        page.keyboard.press("Home")
        first = picture_of(window)
        page.keyboard.press("End")
        assert slider.get_attribute("aria-valuetext").startswith("z")
        assert change(first, picture_of(window)) < 0.02


def test_the_shown_frame_is_the_one_of_the_slider(opened, full):
    """Pixels in the window are those of the frame: no neighbour shows, no half of a frame."""
    page = opened(full).page
    film = page.locator(".film").first
    record = build.analysis(15, 7, full=True)
    traversal = page_pictures.pictures(record).traversals[0]
    film.locator("input").focus()
    page.keyboard.press("Home")
    for frame in traversal.frames:
        shot = picture_of(film.locator(".window"))
        side = min(shot.shape[:2])
        middles = ((np.arange(32) + 0.5) * side / 32).astype(int)[4:-4]
        assert np.abs(shot[np.ix_(middles, middles)] - frame[4:-4, 4:-4] / 255).max() < 0.02
        page.keyboard.press("ArrowRight")


def test_the_map_shows_an_image_by_pointer_and_by_keyboard(opened, full):
    page = opened(full).page
    popup = page.locator(".popup")
    assert not popup.is_visible()
    drawing = page.locator(".map > svg")
    drawing.scroll_into_view_if_needed()
    point = page.locator(".map circle[class^=c]").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    assert popup.is_visible()
    assert popup.inner_text().startswith("sprites/")
    by_pointer = popup.inner_text()
    page.mouse.move(1, 1)
    assert not popup.is_visible()
    walk = page.locator(".walk input")
    walk.focus()
    named = []
    for _ in range(3):
        assert popup.is_visible()
        named.append(popup.inner_text())
        assert walk.get_attribute("aria-valuetext").startswith(named[-1])
        page.keyboard.press("ArrowRight")
    assert len(set(named)) == 3
    assert by_pointer
    assert picture_of(popup.locator("svg")).std() > 0.01
    inside, box = popup.bounding_box(), drawing.bounding_box()
    assert box["x"] - 1 <= inside["x"]
    assert inside["x"] + inside["width"] <= box["x"] + box["width"] + 1


def test_the_map_takes_another_colour(opened, full):
    page = opened(full).page
    drawing = page.locator(".map > svg")
    before = picture_of(drawing)
    page.get_by_label("Colour").select_option("1")
    assert change(before, picture_of(drawing)) > 0.01
    visible = [legend.inner_text() for legend in page.locator(".legend").all() if legend.is_visible()]
    assert len(visible) == 1
    assert visible[0].startswith("depth:")
    assert "not known" in visible[0]


@pytest.mark.parametrize("name", ["real", "full", "several"])
@pytest.mark.parametrize("width", WIDTHS)
def test_widths(opened, name, width, request):
    page = opened(request.getfixturevalue(name), viewport={"width": width, "height": 900}).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    headline = page.locator("h1").bounding_box()
    assert headline["y"] < 60
    assert headline["x"] >= 10
    assert page.locator("h1").evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 24
    for text in page.locator("main p, main td, main dd").all()[:40]:
        assert text.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 12
    # Nothing lies outside the window but what scrolls within itself.
    outside = page.evaluate(
        """width => [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide, .unseen, .window, svg")
        && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 80))""",
        width,
    )
    assert outside == []


def test_both_themes(opened, full):
    def colours(scheme):
        page = opened(full, color_scheme=scheme).page
        names = ["body", "h1", ".card", ".soft", "tr.yes"]
        script = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
        return [page.locator(name).first.evaluate(script) for name in names]

    light, dark = colours("light"), colours("dark")
    assert all(a != b for a, b in zip(light, dark, strict=True))
    assert light[0][0] == "rgb(255, 255, 255)"
    assert max(int(part) for part in dark[0][0][4:-1].split(",")) < 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["real", "full", "several"])
def test_axe_finds_nothing_serious(opened, name, scheme, request):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install --group peers has it")
    page = opened(request.getfixturevalue(name), color_scheme=scheme, viewport={"width": 390, "height": 900}).page
    found = axe.Axe().run(page).response
    assert len(found["passes"]) > 10  # it looked
    serious = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in {"serious", "critical"}]
    assert serious == []


def test_a_hostile_page_is_inert(opened, tmp_path):
    record = build.analysis(4, 2, full=True, family=HOSTILE, path=HOSTILE, notes=(HOSTILE,))
    record = dataclasses.replace(
        record,
        supervised=dataclasses.replace(
            record.supervised, factors=tuple(dataclasses.replace(f, name=HOSTILE) for f in record.supervised.factors)
        ),
    )
    pictures = page_pictures.pictures(record, points=30, name=HOSTILE, notes=(HOSTILE,))
    pictures = dataclasses.replace(
        pictures,
        base=HOSTILE,
        map=dataclasses.replace(
            pictures.map,
            method=HOSTILE,
            colourings=tuple(dataclasses.replace(c, name=HOSTILE) for c in pictures.map.colourings),
        ),
    )
    sources = open_sources([build.write_analysis(tmp_path / "x", record)])
    shown = opened(_written(tmp_path, sources, pictures))
    page = shown.page
    page.locator(".walk input").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".popup").inner_text().startswith("</script><script>alert(1)")
    page.get_by_label("Colour").select_option("2")
    page.wait_for_timeout(300)
    assert shown.faults == []
    assert shown.foreign == []
    assert page.locator("script").count() == 2
    assert page.locator("img[src=x], [onerror]").count() == 0
    assert "{{7*7}}" in page.locator("body").inner_text()
    # And were something to slip through, the policy would hold it.
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    page.wait_for_timeout(200)
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in fault for fault in shown.faults)


def test_without_script_the_frames_are_there(opened, full):
    page = opened(full, java_script_enabled=False).page
    assert page.locator(".stage").first.is_hidden()
    strip = page.locator(".film .strip").first.bounding_box()
    assert strip["width"] > 200
    assert strip["height"] > 10
    assert page.locator(".map circle[class^=c]").count() == 300
    assert page.locator(".tools").is_hidden()


def test_prints_on_light_paper_with_frames_instead_of_sliders(opened, full):
    page = opened(full, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".stage").first.is_hidden()
    assert page.locator(".film .strip").first.is_visible()
    assert page.locator("nav").is_hidden()
    made = page.pdf(format="A4")
    assert made.startswith(b"%PDF")
    pages = made.count(b"/Type /Page\n") + made.count(b"/Type /Page ")
    assert 4 <= pages <= 30
