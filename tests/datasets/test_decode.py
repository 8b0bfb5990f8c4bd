"""Fast decoders against Pillow: the same pixels, or Pillow's verdict."""

import io
import os
import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from bad_files import (
    broken,
    broken_with_right_sums,
    by_fast,
    by_pillow,
    by_tifffile,
    encoded,
    files_for_pillow,
    outcome,
    photograph,
    plain_jpegs,
    plain_pngs,
    plain_tiffs,
    same,
    unusable_files,
)
from PIL import Image, ImageOps

from ngvae_tools.datasets import decode, jpeg, png
from ngvae_tools.datasets.decode import UnusableImageError, decode_bytes, decode_file

PLAIN = {"png": plain_pngs(), "jpeg": plain_jpegs(), "tiff": plain_tiffs()}
FOR_PILLOW = files_for_pillow()
UNUSABLE = unusable_files()


def straight_from_pillow(data):
    """Pillow's reading in as few words as possible."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in {"CMYK", "YCbCr"} or (upright.mode == "P" and "transparency" not in image.info):
            upright = upright.convert("RGB")
        elif upright.mode in {"1", "P"}:
            upright = upright.convert("L" if upright.mode == "1" else "RGBA")
        return np.atleast_3d(np.asarray(upright))


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_take_the_fast_decoder_and_equal_pillow(kind):
    for name, data in PLAIN[kind].items():
        fast = by_fast(data)
        assert isinstance(fast, np.ndarray), name
        assert same(fast, by_pillow(data)), name
        np.testing.assert_array_equal(fast, straight_from_pillow(data), err_msg=name)


@pytest.mark.parametrize("name", FOR_PILLOW)
def test_files_that_are_not_plain_are_read_as_pillow_reads_them(name):
    data = FOR_PILLOW[name]
    if name != "turned 1.tif":
        assert by_fast(data) is None
    image = decode_bytes(data)
    np.testing.assert_array_equal(image, straight_from_pillow(data))
    assert image.dtype == by_pillow(data).dtype


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_the_eight_orientations_turn_the_image(suffix):
    turns = [lambda a: a, np.fliplr, lambda a: a[::-1, ::-1], np.flipud]
    turns += [lambda a: a.transpose(1, 0, 2), lambda a: np.rot90(a, 3)]
    turns += [lambda a: a.transpose(1, 0, 2)[::-1, ::-1], np.rot90]
    files = [FOR_PILLOW.get(f"turned {k}.{suffix}") for k in range(1, 9)]
    upright = decode_bytes(files[0]) if files[0] else decode_bytes(encoded(photograph(24, 24), "JPEG"))
    for turn, data in zip(turns, files, strict=True):
        if data is not None:
            np.testing.assert_array_equal(decode_bytes(data), turn(upright))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_files_have_a_reason(name):
    data, part = UNUSABLE[name]
    reason = outcome(decode_bytes, data)
    assert isinstance(reason, str)
    assert reason
    assert part in reason


def disagreements(kind, count, seed, breaking=broken):
    """Broken copies of plain files on which a fast decoder and Pillow differ, and how many it took."""
    rng = np.random.default_rng(seed)
    files, found, taken = list(PLAIN[kind].values()), [], 0
    for number in range(count):
        data = breaking(files[number % len(files)], rng)
        fast = by_fast(data)
        if fast is not None:
            taken += 1
            if not same(fast, by_pillow(data)):
                found.append(data)
    return found, taken


CASES = [("png", broken), ("png", broken_with_right_sums), ("jpeg", broken), ("tiff", broken)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "breaking"), CASES)
def test_broken_files_are_judged_as_by_pillow(kind, breaking):
    found, taken = disagreements(kind, 3000, seed=1, breaking=breaking)
    assert not found
    # Damage where it changes nothing, or changes both alike: else this would prove nothing.
    assert taken > 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize(("kind", "breaking"), CASES)
def test_many_broken_files_are_judged_as_by_pillow(kind, breaking, seed):
    assert not disagreements(kind, 25_000, seed, breaking)[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", PLAIN)
def test_files_cut_anywhere_are_judged_as_by_pillow(kind):
    for name, data in list(PLAIN[kind].items())[:4]:
        for end in range(0, len(data), 7):
            fast = by_fast(data[:end])
            assert fast is None or same(fast, by_pillow(data[:end])), (name, end)


@pytest.mark.parametrize(
    ("data", "shape", "dtype"),
    [
        (encoded(photograph(9, 11), "PNG"), (9, 11, 3), np.uint8),
        (encoded(photograph(9, 11)[:, :, 0], "PNG"), (9, 11, 1), np.uint8),
        (encoded(photograph(9, 11)[:, :, 0].astype(np.uint16), "PNG"), (9, 11, 1), np.uint16),
        (encoded(photograph(9, 11), "JPEG"), (9, 11, 3), np.uint8),
        (encoded(photograph(9, 11)[:, :, 0], "JPEG"), (9, 11, 1), np.uint8),
        (encoded(photograph(9, 11), "TIFF"), (9, 11, 3), np.uint8),
        (encoded(photograph(9, 11)[:, :, 0].astype(np.float32), "TIFF"), (9, 11, 1), np.float32),
    ],
)
def test_what_fits_is_decoded_in_place(data, shape, dtype):
    out = np.full((3, *shape), 77, dtype)
    row = out[1]
    assert decode_bytes(data, row) is row
    np.testing.assert_array_equal(row, by_pillow(data))
    assert (out[[0, 2]] == 77).all()
    for other in (
        np.zeros((9, 12, shape[2]), dtype),
        np.zeros(shape, np.int8),
        np.zeros((9, 22, shape[2]), dtype)[:, ::2],
    ):
        image = decode_bytes(data, other)
        assert image is not other
        assert not other.any()
        np.testing.assert_array_equal(image, row)


def test_an_image_that_shrinks_on_the_way_is_left_to_pillow(monkeypatch):
    data = encoded(photograph(9, 11), "JPEG")
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: np.zeros((8, 11, 3), np.uint8))
    assert by_fast(data) is None


RARE = photograph(21, 34).astype(np.float32) / 3


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (RARE, {}),
        (RARE, {"compression": "zlib", "rowsperstrip": 5}),
        (RARE, {"compression": "lzw", "predictor": True}),
        (RARE, {"compression": "zstd"}),
        (RARE, {"compression": "lzma", "byteorder": ">"}),
        (RARE, {"tile": (16, 16), "compression": "zlib"}),
        (RARE, {"bigtiff": True}),
        (RARE.astype(np.float16), {}),
        (RARE[:, :, 0].astype(np.float16), {}),
        (RARE[:, :, 0].astype(np.float64), {"rowsperstrip": 4}),
        (
            (RARE * 700).astype(np.uint16).repeat(2, axis=2)[:, :, :5],
            {"photometric": "minisblack", "planarconfig": "contig"},
        ),
        (RARE.astype(np.uint8).repeat(3, axis=2)[:, :, :7], {"photometric": "minisblack", "planarconfig": "contig"}),
        (RARE.astype(np.int32), {}),
    ],
)
def test_tiff_layouts_beyond_pillow_keep_their_channels(array, options):
    data = by_tifffile(array, **options)
    assert isinstance(by_pillow(data), str)
    image = decode_bytes(data)
    expected = {"f": np.float32, "i": np.uint16, "u": array.dtype}[array.dtype.kind]
    assert image.dtype == expected
    assert image.dtype.isnative
    np.testing.assert_array_equal(image, np.atleast_3d(array).astype(expected))


def test_tiff_with_channels_apart_is_put_together():
    planes = np.moveaxis(RARE, 2, 0)
    data = by_tifffile(planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode_bytes(data), RARE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rare_tiff_is_turned_as_pillow_turns_a_plain_one(orientation):
    tag = [(274, "H", 1, orientation, True)]
    plain = decode_bytes(by_tifffile(RARE.astype(np.uint8), extratags=tag))
    rare = decode_bytes(by_tifffile(RARE.astype(np.uint8).astype(np.float32), extratags=tag))
    np.testing.assert_array_equal(rare, plain)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
def test_rare_tiff_cut_anywhere_is_refused_or_whole(compression):
    data = by_tifffile(RARE, compression=compression, rowsperstrip=5)
    whole = decode_bytes(data)
    for end in [*range(0, len(data), 97), len(data) - 1]:
        found = outcome(decode_bytes, data[:end])
        assert isinstance(found, str) or same(found, whole), end


@pytest.mark.parametrize("rows", [1, 20])
def test_tiff_with_fewer_rows_than_it_says_is_refused(rows):
    for array in (RARE, RARE.astype(np.uint8), RARE[:, :, 0].astype(np.uint8)):
        data = by_tifffile(array[:rows], compression="zlib")
        for tag in (257, 278):
            for kind, form in ((3, "H"), (4, "I")):
                entry = struct.pack("<HHI", tag, kind, 1)
                data = data.replace(entry + struct.pack("<" + form, rows), entry + struct.pack("<" + form, 21))
        assert isinstance(outcome(decode_bytes, data), str)


@pytest.mark.filterwarnings("ignore")
def test_whatever_is_broken_ends_as_an_image_or_a_reason():
    options = [{}, {"compression": "zlib", "rowsperstrip": 5}, {"compression": "lzma"}, {"tile": (16, 16)}]
    files = [*FOR_PILLOW.values(), *(by_tifffile(RARE, **some) for some in options)]
    rng = np.random.default_rng(11)
    for number in range(1500):
        found = outcome(decode_bytes, broken(files[number % len(files)], rng))
        assert found if isinstance(found, str) else found.ndim == 3


@pytest.mark.parametrize("array", [RARE, RARE.astype(np.uint8)])
def test_a_strip_that_holds_far_more_than_the_image_is_not_unpacked_whole(array):
    data, more = by_tifffile(array, compression="zlib"), imagecodecs.zlib_encode(array.tobytes() + bytes(1 << 26))
    tag = struct.pack("<HHI", 273, 4, 1)
    at = data.index(tag) + 8
    data = data[:at] + struct.pack("<I", len(data)) + data[at + 4 :] + more
    at = data.index(struct.pack("<HH", 279, 4)) + 8
    data = data[:at] + struct.pack("<I", len(more)) + data[at + 4 :]
    tracemalloc.start()
    found = outcome(decode_bytes, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, str) or same(found, array)
    assert peak < 1 << 24


def test_rare_tiff_bombs_are_refused_before_they_are_unpacked(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert outcome(decode_bytes, by_tifffile(RARE)) == "has 714 pixels, more than the safe 100"


def test_rare_tiff_of_many_channels_is_bounded_too(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than any safe image" in outcome(decode_bytes, by_tifffile(RARE))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("array", [RARE, RARE.astype(np.uint8)])
def test_tiff_whose_pages_form_a_circle_ends(array):
    data = by_tifffile(array)
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    link = start + 2 + 12 * entries
    found = outcome(decode_bytes, data[:link] + struct.pack("<I", start) + data[link + 4 :])
    assert isinstance(found, str) or same(found, array)


def test_too_little_memory_is_a_reason(monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(png, "fitting_buffer", exhausted)
    assert outcome(decode_bytes, PLAIN["png"]["RGB"]) == "needs more memory than there is"


def test_another_libjpeg_in_pillow_means_that_pillow_decodes(monkeypatch):
    monkeypatch.setattr(jpeg, "_same_library", lambda: False)
    assert by_fast(PLAIN["jpeg"]["grey"]) is None


def test_a_file_beyond_all_bounds_is_refused_unread(tmp_path, monkeypatch):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(decode.MAX_FILE_BYTES + 1)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UnusableImageError, match="is larger"):
        decode_file(tmp_path / "a.png")


def test_short_reads_are_put_together_and_growth_is_bounded(tmp_path, monkeypatch):
    data, read = encoded(photograph(9, 11), "PNG"), os.read
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 10)))
    assert same(decode_file(os.fsencode(tmp_path / "a.png")), by_pillow(data))
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", len(data))
    monkeypatch.setattr(os, "read", lambda file, size: b"x" * min(size, 10))
    with pytest.raises(UnusableImageError, match="grows"):
        decode_file(tmp_path / "a.png")
