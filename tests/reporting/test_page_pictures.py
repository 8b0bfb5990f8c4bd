"""The page's images, sliders and map as text; what a browser makes of them is in test_browser.py."""

import base64
import dataclasses
import hashlib
import html as markup
import io
import json
import re

import numpy as np
import page_pictures
import pytest
import records as build
from PIL import Image
from reporting.test_page import Elements

from ngvae_tools.record import Selection
from ngvae_tools.reporting import command, html, rules, storage
from ngvae_tools.reporting.html import LIMIT, page
from ngvae_tools.reporting.map_section import CLASSES, STEPS, coded, embedded, legend_of, placed
from ngvae_tools.reporting.page_images import LEVELS, Fineness, Press, TooLargeError, joined, kept_frames
from ngvae_tools.reporting.picture_sections import picture_view
from ngvae_tools.reporting.pictures import Colouring, Pictures
from ngvae_tools.reporting.sources import open_sources
from ngvae_tools.reporting.words import plain

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "{{7*7}}{% raw %}",
    "\udc80\u2028\x1b[31m",
)


def shown(folder, record, pictures):
    sources = open_sources([build.write_analysis(folder, record)])
    named = dataclasses.replace(sources.analyses[0], pictures=pictures)
    return dataclasses.replace(sources, analyses=(named,))


@pytest.fixture(scope="module")
def record():
    return build.analysis(8, 3, full=True)


@pytest.fixture(scope="module")
def text(record, tmp_path_factory):
    return page(shown(tmp_path_factory.mktemp("page"), record, page_pictures.pictures(record)))


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_only_the_pages_own_script_may_run(text):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1].replace("&#39;", "'")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert "innerHTML" not in script
    assert not [a for a in Elements(text).attributes if a[1].startswith("on")]


def test_every_reference_is_in_the_file(text):
    parsed = Elements(text)
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    own = [value for value in ids if re.search(r"-1(-|$)", value)]  # matplotlib's are made of their content
    assert len(own) == len(set(own)) > 10
    for tag, name, value in parsed.attributes:
        if name in {"src", "href", "xlink:href"}:
            assert value.startswith("data:image/") or value[1:] in ids, (tag, value[:60])


def test_a_strip_holds_the_frames_of_its_dimension(record, text):
    pictures = page_pictures.pictures(record)
    films = re.findall(
        r'data-index="(\d+)" data-values="([^"]*)".*?<img class="strip"[^>]* src="([^"]*)"', text, re.DOTALL
    )
    assert [int(index) for index, _, _ in films] == [t.dimension for t in pictures.traversals]
    for (_, values, uri), traversal in zip(films, pictures.traversals, strict=True):
        assert values == " ".join(f"{value:.2f}" for value in traversal.values)
        strip = pixels(uri)
        for i, frame in enumerate(traversal.frames):
            assert np.array_equal(strip[:, 32 * i : 32 * (i + 1)], frame)


def test_an_original_stands_above_what_is_decoded_of_it(record, text):
    found = page_pictures.pictures(record).reconstructed
    (shown,) = re.findall(r'<ul class="pairs">(.*?)</ul>', text, re.DOTALL)
    pairs = re.findall(r'src="([^"]+)"[^>]*><small>original</small><img[^>]* src="([^"]+)"[^>]*><small>decoded', shown)
    for (original, decoded), *images in zip(pairs, found.originals, found.decoded, strict=True):
        assert np.array_equal([pixels(original), pixels(decoded)], images)


def test_it_is_said_where_sliders_go_and_start(text):
    assert "From end to end. A slider starts in the middle of its range" in text


def test_a_decoder_that_is_no_better_than_none_is_doubted_beside_its_sliders(tmp_path):
    record = build.analysis(2, 1, full=True)
    pictures = page_pictures.pictures(record, points=20)
    assert picture_view(record, pictures, 1 << 30)["doubt"] == ""
    curve = dataclasses.replace(record.truncation.by_relevance, error=(0.5,) * 3)
    wrong = dataclasses.replace(record, truncation=dataclasses.replace(record.truncation, by_relevance=curve))
    found = page(shown(tmp_path, wrong, pictures)).partition('id="does-1"')[2]
    assert 0 < found.index("error is 0.5, no better than that of no dimension") < found.index('class="film"')
    none = dataclasses.replace(pictures, traversals=(), reconstructed=None)
    assert picture_view(wrong, none, 1 << 30)["doubt"] == ""


def test_the_order_is_that_of_the_readers_questions(text):
    sections = re.findall(r'<section id="([^"]+)"', text)
    assert sections == ["which-1", "does-1", "trust-1", "compare", "covariance", "stored-1", "provenance-1"]
    assert re.findall(r'<li><a href="#([^"]+)"', text) == [name for name in sections if name != "covariance"]
    assert "Other analyses are compared with this one here" in text
    assert text.index("<h1>") < text.index("All 7 rules name the same dimensions.") < text.index('id="which-1"')


def test_uninformative_dimensions_say_how_little_they_change(record, text):
    pictures = page_pictures.pictures(record)
    others = [t.dimension for t in pictures.traversals if not t.informative]
    assert "changes the image by at most 0.000; moving an informative one by" in text
    for k in others:
        assert f'id="still-1-{k}"' in text
        assert f'id="move-1-{k}"' not in text


def test_what_is_missing_is_absent(record, tmp_path):
    whole = page_pictures.pictures(record)
    only_map = page(
        shown(tmp_path / "map", record, dataclasses.replace(whole, traversals=(), extremes=(), reconstructed=None))
    )
    assert 'class="film"' not in only_map
    assert 'class="pairs"' not in only_map
    assert 'class="map"' in only_map
    bare = dataclasses.replace(record, supervised=None)
    nothing = page(shown(tmp_path / "none", bare, Pictures(notes=("No decoder was found.",))))
    assert 'id="does-1"' not in nothing
    assert '<p class="soft">No decoder was found.</p>' in nothing
    assert "<script" not in nothing
    without = dataclasses.replace(whole.map, thumbnails=None, colourings=(), explained=None, method="UMAP")
    drawn = page(shown(tmp_path / "points", bare, dataclasses.replace(whole, map=without)))
    assert '<image id="map' not in drawn
    assert "<select" not in drawn
    assert "the axes have no meaning of their own" in drawn


@pytest.fixture(scope="module")
def harmless(record, tmp_path_factory):
    """A page without a name that means anything."""
    return page(shown(tmp_path_factory.mktemp("harmless"), record, page_pictures.pictures(record, points=20)))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_text(record, harmless, tmp_path, hostile):
    pictures = page_pictures.pictures(record, points=20, name=hostile)
    coloured = dataclasses.replace(
        pictures.map,
        method=hostile,
        colourings=tuple(
            dataclasses.replace(c, name=hostile, classes=(hostile,) * len(c.classes)) for c in pictures.map.colourings
        ),
    )
    pictures = dataclasses.replace(
        pictures, base=hostile, map=coloured, notes=(hostile,), decoder=hostile, data=hostile
    )
    nasty = dataclasses.replace(
        record,
        model=dataclasses.replace(record.model, path=hostile, family=hostile, provider=hostile),
        data=dataclasses.replace(record.data, path=hostile, kind=hostile),
        latents=dataclasses.replace(record.latents, file=hostile, codec=hostile),
        versions={hostile: hostile},
        notes=(hostile,),
    )
    named = shown(tmp_path, nasty, pictures)
    text = page(dataclasses.replace(named, analyses=(dataclasses.replace(named.analyses[0], name=plain(hostile)),)))
    found, expected = Elements(text), Elements(harmless)
    assert found.tags.count("script") == 2
    assert set(found.tags) <= {*expected.tags, "code"}
    assert found.tags.count("img") == expected.tags.count("img")
    assert not [a for a in found.attributes if a[1].startswith("on")]
    assert "49" not in re.findall(r"<title>(.*?)</title>", text)[0]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u2028\ud800-\udfff]", text)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert len(json.loads(data)["names"]) == 20
    assert not set(data) & set("<>&\u2028")


def test_json_in_a_page_is_no_markup():
    value = ["</script>", "<!--", "&amp;", "\u2028", "\udc80", '"']
    assert json.loads(embedded(value)) == value
    assert embedded(value).isascii()


def test_many_large_images_fit_a_mail(tmp_path):
    record = build.analysis(64, 64)
    pictures = page_pictures.pictures(record, side=16, points=1500)
    noise = np.random.default_rng(0).integers(0, 96, (9, 256, 256, 3), np.uint8)
    noisy = tuple(dataclasses.replace(t, frames=noise + np.uint8(t.dimension)) for t in pictures.traversals)
    text = page(shown(tmp_path, record, dataclasses.replace(pictures, traversals=noisy)))
    assert 1_500_000 < len(text.encode()) <= LIMIT
    assert "To keep this page small, its images are compressed with losses" in text
    assert text.count('class="film"') == 64


@pytest.mark.parametrize(
    "room", [160_000, *(pytest.param(room, marks=pytest.mark.slow) for room in (250_000, 400_000))]
)
def test_a_page_stays_below_its_limit(record, tmp_path, monkeypatch, room):
    pictures = page_pictures.pictures(record, side=128, points=500, name="a folder with a long name/and another/")
    noise = np.random.default_rng(0).integers(0, 96, (9, 128, 128, 3), np.uint8)
    films = tuple(dataclasses.replace(t, frames=noise + np.uint8(t.dimension)) for t in pictures.traversals)
    bare = page(shown(tmp_path / "bare", record, None))
    monkeypatch.setattr(html, "LIMIT", len(bare.encode()) + room)
    text = page(shown(tmp_path / "whole", record, dataclasses.replace(pictures, traversals=films)))
    assert len(bare.encode()) + 20_000 < len(text.encode()) <= html.LIMIT


def test_images_that_find_no_room_are_said_to_be_missing(tmp_path, monkeypatch):
    record = build.analysis(2, 1)
    monkeypatch.setattr(html, "LIMIT", 1)
    text = page(shown(tmp_path, record, page_pictures.pictures(record, points=20)))
    assert 'class="film"' not in text
    assert "The images are left out: they would make this page too large." in text


def test_images_become_coarser_until_they_fit(record):
    pictures = page_pictures.pictures(record)

    def size(view):
        strips = [card["traversal"]["sheet"] for card in [*view["cards"], *view["others"]]]
        return sum(len(sheet.uri) for sheet in strips)

    best = picture_view(record, pictures, 1 << 30)
    assert not best["notes"]
    small = picture_view(record, pictures, 60_000)
    assert 0 < size(small) < 60_000
    assert "To keep this page small" in small["notes"][0]
    none = picture_view(record, pictures, 10)
    assert not none["shown"]
    assert "left out" in none["notes"][0]
    few = dataclasses.replace(LEVELS[-1], most=2)
    with pytest.raises(TooLargeError):
        Press(few, 100).strip(pictures.traversals[0].frames)


def test_sheets(record):
    frames = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
    sheet = joined(frames, 3)
    assert sheet.shape == (4, 9, 3)
    for i in range(5):
        row, column = divmod(i, 3)
        assert np.array_equal(sheet[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], frames[i])
    grey = Press(Fineness(), 10**6).grid(page_pictures.discs(np.zeros(10), 1, 16, 1))
    assert (grey.columns, grey.rows, grey.width) == (4, 3, 16)
    assert pixels(grey.uri).shape == (48, 64)
    small = Press(Fineness(80, 16), 10**6).strip(page_pictures.discs(np.zeros(3), 1, 64, 3)[:, :32])
    assert (small.width, small.height) == (16, 8)
    assert kept_frames(range(7), (3, 2, 1, 0, 1, 2, 3), 2).tolist() == [0, 2, 3, 4, 6]


def test_colours_of_points():
    by_class = Colouring("shape", True, np.asarray([2.0, 0.0, np.nan, 5.0]))
    assert coded(by_class) == "10x2"
    scale = Colouring("z0", False, np.asarray([-1.0, 0.0, 1.0, np.nan]))
    assert coded(scale) == f"{STEPS[0]}{STEPS[8]}{STEPS[-1]}x"
    huge = Colouring("h", False, np.asarray([-1.7, 0.0, 1.7, np.nan]) * 1e308)
    assert coded(huge) == coded(scale)
    assert coded(Colouring("c", False, np.full(3, 7.0))) == STEPS[0] * 3
    assert coded(Colouring("n", False, np.full(2, np.nan))) == "xx"
    many = Colouring("m", True, np.arange(20.0))
    assert not set(coded(many)) & set(CLASSES)


def test_classes_are_called_by_name():
    names = ("long", "<b>round", "x" * 60, *"abcdefghi")
    few = Colouring("kind", True, np.asarray([1.0, np.nan, 2.0]), names)
    assert legend_of(few)["classes"] == [("0", "<b>round"), ("1", "x" * 39 + "\N{HORIZONTAL ELLIPSIS}")]
    many = legend_of(Colouring("kind", True, np.arange(12.0), names))
    assert (many["classes"], many["ends"]) == ([], ["long", "i"])
    assert legend_of(Colouring("n", True, np.arange(2.0)))["classes"] == [("0", "0"), ("1", "1")]


def test_places_keep_the_shape_of_the_cloud():
    points = np.random.default_rng(0).normal(size=(50, 2)) * (3, 1)
    places, height = placed(points)
    assert (places >= 0).all()
    assert (places[:, 0] <= 640).all()
    assert (places[:, 1] <= height).all()
    scale = (places - places.mean(axis=0)) / (points - points.mean(axis=0))
    assert np.allclose(scale[:, 0], scale[0, 0])
    assert np.allclose(scale[:, 1], -scale[0, 0])
    assert np.isfinite(placed(np.zeros((2, 2)))[0]).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("spread", [1e-6, 1e6])
def test_an_axis_along_which_nothing_varies_leaves_the_scale_to_the_other(axis, spread):
    points = np.zeros((3, 2))
    points[:, axis] = (0, spread / 2, spread)
    places, height = placed(points)
    assert np.ptp(places[:, axis]) > 0.9 * (640, height)[axis]
    assert np.allclose(places[:, 1 - axis], (320, height / 2)[1 - axis])


def test_the_axes_of_the_map_say_what_they_are(text):
    units = "PCA of the kept mu, each in units of its posterior's mean standard deviation"
    assert f"{units}: across, 41 % of their variance; up, 22 %." in markup.unescape(text)


def test_whether_the_rules_agree_is_said():
    record = build.analysis(4, 2)
    assert rules.agreement(record) == "All 7 rules name the same dimensions."
    assert rules.agreement(dataclasses.replace(record, rules=record.rules[:1])) == ""
    chosen = record.selection
    other = next(k for k in range(4) if not chosen.informative[k])
    more = dataclasses.replace(
        next(r for r in record.rules if r.rule == "active"),
        informative=tuple(k == other or v for k, v in enumerate(chosen.informative)),
    )
    changed = tuple(more if r.rule == "active" else r for r in record.rules)
    apart = rules.agreement(dataclasses.replace(record, rules=changed))
    assert apart == f"6 of 7 rules name the same dimensions; variance of mu adds {other}."
    wide = build.analysis(40, 2)
    nearly_all = dataclasses.replace(more, score=(0.0,) * 40, informative=(True,) * 40)
    many = rules.agreement(dataclasses.replace(wide, rules=(wide.selection, nearly_all)))
    assert many == "The rules differ: variance of mu adds 38 dimensions, against mean p."
    given = Selection("given", 0.5, "above", (0.0,) * 4, tuple(not v for v in chosen.informative))
    said = rules.agreement(dataclasses.replace(record, selection=given, rules=(given, more)))
    assert said.startswith("The rules differ: variance of mu adds ")
    assert "leaves out" in said
    assert rules.votes(dataclasses.replace(record, rules=changed), other) == "1 of 7"


def test_what_is_stored(record):
    latents, images = record.latents, record.data.n_images
    ratios = storage.ratio_rows(record)
    each = latents.bytes / images
    assert [row[0] for row in ratios] == ["latents", "latents and the decoder", "raw", "PNG", "JPEG, quality 90"]
    assert ratios[2][2:] == [f"{3072 / each:.3g}", f"{3072 / (each + latents.decoder_bytes / images):.3g}"]
    bits = storage.bit_rows(record)
    assert [row[0] for row in bits] == [str(k) for k in latents.dimensions]
    assert bits[0][1:4] == ["6.50", "6.30", f"{6.5 / 6.3:.3f}"]
    bare = dataclasses.replace(latents, entropy_bits=None, decoder_bytes=None, raw_bytes=None, png_bytes=None)
    assert storage.bit_rows(dataclasses.replace(record, latents=bare))[0][2:4] == ["n/a", "n/a"]
    assert len(storage.ratio_rows(dataclasses.replace(record, latents=bare))) == 2


def test_an_equivalent_command(record):
    line = command.equivalent(record)
    assert line.startswith("ngvae-tools select-latents run/encoder.onnx sprites.h5 --rule p --threshold 0.5")
    assert "--decoder run/decoder.onnx" in line
    assert "--labels auto" in line
    odd = dataclasses.replace(
        build.analysis(4, 2),
        model=dataclasses.replace(record.model, path="my run/e.onnx", input_range=(-1.0, 1.0)),
        selection=dataclasses.replace(record.selection, rule="given"),
        latents=dataclasses.replace(record.latents, distortion=None, codec="archive", dimensions=(0, 1, 2, 3)),
    )
    said = command.equivalent(odd)
    assert "'my run/e.onnx'" in said
    for words in (
        "--dimensions ",
        "--lossless",
        "--keep all",
        "--codec archive",
        "--bootstrap 0",
        "--input-range -1.0,1.0",
    ):
        assert words in said
