"""The explorer's page in headless Chromium: sliders, map, own images, names that are markup, accessibility."""

import io
import json

import chromium
import numpy as np
import pytest
from inference.graphs import Linear, images_of
from PIL import Image
from served import DIMENSIONS, Served, write_analysis

from ngvae_tools.record import AnalysisRecord

pytestmark = pytest.mark.slow

HOSTILE = '<img src=x onerror=alert(1)>"{:02}.png'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An analysis of images whose names are markup, in a folder whose name is, and whose record says more of it."""
    folder = tmp_path_factory.mktemp("browser") / "<b onclick=alert(2)>"
    folder.mkdir()
    write_analysis(folder, name=HOSTILE)
    Image.fromarray(images_of(1, seed=5)[0]).save(folder / "<i>new.png")
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def served(folder):
    with Served("out", folder=folder) as server:
        yield server


class Opened(chromium.Opened):
    """The explorer's page."""

    def __init__(self, browser, url, **options):
        super().__init__(browser, url, **options)
        self.page.wait_for_selector("#decoded[src]")

    def __getattr__(self, name):
        return getattr(self.page, name)

    def status(self):
        return self.page.text_content("#status")

    def shown(self, name):
        """Wait until an image is shown."""
        self.page.locator("#status", has_text=f"Shown: {name}.").wait_for()

    def picture(self, name="decoded"):
        """What is seen of an image."""
        self.page.wait_for_timeout(150)
        content = self.page.locator(f"#{name}").screenshot()
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float64) / 255

    def values(self):
        """Of the informative sliders."""
        return [float(text) for text in self.page.locator("#informative output").all_text_contents()]

    def place_of(self, index):
        """Where a point of the map is in the window."""
        box = self.page.locator("#map circle").nth(index).bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.fixture
def opened(browser, served):
    pages = []

    def open_page(url=served.url, **options):
        pages.append(Opened(browser, url, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.context.close()


@pytest.fixture
def page(opened):
    page = opened()
    yield page
    assert page.faults == []
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in page.requests)


def test_a_slider_moves_the_image_by_keyboard(page, folder):
    record = AnalysisRecord.read(folder / "out")
    before, start = page.picture(), page.values()
    step = record.dimensions[DIMENSIONS[0]].posterior_variance ** 0.5
    page.focus("#z0")
    page.keyboard.press("ArrowRight")
    assert page.values()[0] == pytest.approx(start[0] + step, abs=0.01)
    page.keyboard.press("PageUp")
    assert page.values()[0] == pytest.approx(start[0] + 6 * step, abs=0.01)
    page.keyboard.press("End")
    assert page.values()[0] == pytest.approx(float(page.get_attribute("#z0", "max")), abs=0.01)
    assert page.get_attribute("#z0", "aria-valuetext") == page.text_content("output[for=z0]")
    assert page.values()[1] == start[1]
    assert np.abs(page.picture() - before).max() > 0.1
    assert page.status() == "Moved away from the mean."
    page.click("#reset")
    assert page.values() == start
    assert np.abs(page.picture() - before).max() < 0.01


def test_a_slider_moves_the_image_by_mouse(page):
    before = page.picture()
    box = page.locator("#z2").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for part in np.linspace(0.5, 0.98, 30):
        page.mouse.move(box["x"] + box["width"] * part, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert np.abs(page.picture() - before).max() > 0.05
    # However many moves there were, the image is that of the last one.
    last = page.picture()
    page.focus("#z2")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert np.abs(page.picture() - last).max() < 0.01


def test_uninformative_dimensions_are_folded(page):
    assert not page.is_visible("#z1")
    page.click("#others summary")
    assert page.is_visible("#z1")
    assert page.text_content("#others-title") == "1 dimension that is not informative"


def test_clicking_a_point_shows_its_image(page, served, folder):
    page.mouse.click(*page.place_of(7))
    page.shown(HOSTILE.format(7))
    original = np.asarray(Image.open(folder / "images" / HOSTILE.format(7)), np.float64) / 255
    assert_shows(page.picture("original"), original)
    answer = served.ask("point", {"row": 7})[1]
    np.testing.assert_allclose(page.values(), [answer["z"][k] for k in DIMENSIONS], atol=0.01)
    # The ring and the cross are there.
    x, y = page.place_of(7)
    for mark in (".chosen", ".here"):
        box = page.locator(f"#map {mark}").first.bounding_box()
        assert abs(box["x"] + box["width"] / 2 - x) < 2
        assert abs(box["y"] + box["height"] / 2 - y) < 2


def test_a_point_is_reached_by_keyboard(page, served):
    names = served.ask("about")[1]["map"]["names"]
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    first = page.text_content("#pointed")
    page.keyboard.press("ArrowLeft")
    second = page.text_content("#pointed")
    assert {first, second} <= set(names)
    assert page.place_of(names.index(second))[0] < page.place_of(names.index(first))[0]
    page.keyboard.press("Enter")
    page.shown(second)


def test_an_image_by_its_name_and_one_by_chance(page):
    page.fill("#identifier", HOSTILE.format(12))
    page.keyboard.press("Enter")
    page.shown(HOSTILE.format(12))
    page.fill("#identifier", "<u>nope</u>")
    page.keyboard.press("Enter")
    page.locator("#status.error", has_text="there is no image <u>nope</u>").wait_for()
    # What was shown before is still there, and the sentence is no fault.
    assert page.is_visible("#original")
    page.faults[:] = [fault for fault in page.faults if "422" not in fault]
    page.click("#random")
    page.locator("#status:not(.error)").wait_for()


def test_a_chosen_file_is_placed_with_its_latents(page, folder):
    page.set_input_files("#file", folder / "<i>new.png")
    page.shown("<i>new.png")
    image = np.asarray(Image.open(folder / "<i>new.png"))
    mu = Linear().heads(image[None])[0][0]
    np.testing.assert_allclose(page.values(), mu[list(DIMENSIONS)], atol=0.01)
    assert_shows(page.picture("original"), image / 255)
    assert page.locator("#map .chosen").last.get_attribute("d")
    page.set_input_files("#file", folder / "text.png")
    page.locator("#status.error", has_text="text.png: the image cannot be encoded").wait_for()
    page.faults[:] = [fault for fault in page.faults if "422" not in fault]


def test_a_dropped_file_is_placed(page, folder):
    data = list((folder / "images" / HOSTILE.format(3)).read_bytes())
    page.locator("body").evaluate(
        """(body, data) => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(data)], "dropped.png"));
            for (const kind of ["dragover", "drop"])
                body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: held }));
        }""",
        data,
    )
    page.shown("dropped.png")
    dropped = page.values()
    page.fill("#identifier", HOSTILE.format(3))
    page.keyboard.press("Enter")
    page.shown(HOSTILE.format(3))
    np.testing.assert_allclose(page.values(), dropped, atol=0.2)


def test_points_are_coloured(page):
    page.select_option("#colour", label="z2")
    fills = {page.locator("#map circle").nth(k).evaluate("point => getComputedStyle(point).fill") for k in range(10)}
    assert len(fills) > 5
    assert page.locator("#legend span").count() == 3


def test_a_map_along_which_one_axis_does_not_vary_with_labels_that_are_huge(browser, served):
    def answer(route):
        about = route.fetch().json()
        places = about["map"]["places"]
        about["map"]["places"] = [[1e-6 * k / len(places), 0] for k in range(len(places))]
        huge = [(2 * k / (len(places) - 1) - 1) * 1.7e308 for k in range(len(places))]
        kinds = [None, *(k % 3 for k in range(1, len(places)))]
        about["map"]["colourings"] = [
            {"name": "huge", "categorical": False, "values": huge, "classes": []},
            {"name": "kind", "categorical": True, "values": kinds, "classes": ["round", "<b>long", ""]},
            {"name": "number", "categorical": True, "values": kinds, "classes": []},
        ]
        route.fulfill(json=about)

    context = browser.new_context()
    page = context.new_page()
    page.route("**/api/about", answer)
    page.goto(served.url)
    page.select_option("#colour", label="huge")
    box = page.locator("#map").bounding_box()
    points = [page.locator("#map circle").nth(k) for k in (0, 20, 39)]
    across = [(point.bounding_box()["x"] - box["x"]) / box["width"] for point in points]
    assert across[0] < 0.1
    assert across[2] > 0.9
    assert len({point.evaluate("point => getComputedStyle(point).fill") for point in points}) == 3
    for label, legend in (("kind", ["round", "<b>long", ""]), ("number", ["0", "1", "2"])):
        page.select_option("#colour", label=label)
        assert page.locator("#legend span").all_text_contents() == legend
    context.close()


def test_names_are_text(page, folder):
    assert page.text_content("#source").endswith("<b onclick=alert(2)>/out/latents.h5")
    assert page.locator("main b, main i, main u, #status img, #pointed img").count() == 0


def test_the_server_ends_meanwhile(opened, folder):
    with Served("out", folder=folder) as server:
        page = opened(server.url)
        assert server.end()[0] == 130
        page.click("#random")
        page.locator("#status.error", has_text="the explorer has ended").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_accessible_at_every_width(opened, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    # The tool puts its script into the page, which the page's own policy forbids.
    page = opened(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True)
    page.click("#others summary")
    page.click("#random")
    page.locator("#original").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("#decoded", "#original", "#z0", "#z1", "#map", "#reset", "#identifier", "#file"):
        box = page.locator(name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    for name in ("#z0", "#reset", "#random"):
        assert page.locator(name).bounding_box()["height"] >= 24
    found = Axe().run(
        page.page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    serious = [one for one in found.response["violations"] if one["impact"] in {"serious", "critical"}]
    assert not serious, json.dumps(serious, indent=1)[:3000]
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) > 384) == (scheme == "light")


def assert_shows(picture, image):
    """A picture on the screen shows an image, each pixel as a square, above and below it what the frame is made of."""
    height, width = picture.shape[:2]
    scale = min(height / image.shape[0], width / image.shape[1])
    top, left = ((side - scale * pixels) / 2 for side, pixels in zip((height, width), image.shape[:2], strict=True))
    rows = (top + scale * (np.arange(image.shape[0]) + 0.5)).astype(int)
    columns = (left + scale * (np.arange(image.shape[1]) + 0.5)).astype(int)
    assert np.abs(picture[rows][:, columns] - image).max() < 0.02
