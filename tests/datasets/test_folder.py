"""Folders of image files, good and bad."""

import os
import shutil
import threading

import numpy as np
import pytest
from dataset_contract import DatasetContract
from PIL import Image, ImageOps

from ngvae_tools.datasets import FolderImages, open_dataset
from ngvae_tools.datasets.decode import UnusableImageError, decode_file
from ngvae_tools.errors import DatasetError, OptionError

RNG = np.random.default_rng(0)


def noise(*shape, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    images = noise(6, 8, 10, 3)
    for k, image in enumerate(images):
        save(tmp_path / f"sub{k % 2}" / f"{k}.png", image)
    whole = (tmp_path / "sub0" / "0.png").read_bytes()
    (tmp_path / "sub0" / "1 truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "sub1" / "text.png").write_text("not an image")
    (tmp_path / "notes.txt").write_text("ignored")
    return tmp_path, images


class TestFolderContract(DatasetContract):
    @pytest.fixture
    def dataset(self, folder):
        return FolderImages(folder[0])

    @pytest.fixture
    def good(self, folder):
        return [0, 2, 3, 4, 5, 6], folder[1][[0, 2, 4, 1, 3, 5]]

    @pytest.fixture
    def reopened(self, folder):
        return lambda: open_dataset(folder[0])


def test_paths_are_sorted_by_bytes(folder):
    names = FolderImages(folder[0]).identifiers(0, 8).tolist()
    assert names == sorted(names)
    assert names[1] == b"sub0/1 truncated.png"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "is empty"),
        ("text.png", b"hello", "not an image"),
        ("half.png", None, "truncated"),
        ("eps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "not an image"),
    ],
)
def test_bad_files_are_rejected_with_a_reason(tmp_path, name, content, reason):
    save(tmp_path / "good.png", noise(8, 8, 3))
    if content is None:
        content = (tmp_path / "good.png").read_bytes()[:100]
    (tmp_path / name).write_bytes(content)
    samples, (rejection,) = FolderImages(tmp_path).read(0, 2)
    assert len(samples) == 1
    assert rejection.identifier == name
    assert reason in rejection.reason


def test_other_sizes_name_both_and_advise_to_resize(tmp_path):
    save(tmp_path / "a.png", noise(8, 8, 3))
    save(tmp_path / "b.png", noise(8, 9, 3))
    save(tmp_path / "c.png", noise(8, 8))
    reasons = [r.reason for r in FolderImages(tmp_path).read(0, 3)[1]]
    assert "width 9" in reasons[0]
    assert "width 8" in reasons[0]
    assert "--resize" in reasons[0]
    assert "1 channel," in reasons[1]
    assert "--resize" not in reasons[1]
    assert reasons[0].startswith("is of another size than 8 x 8: ")
    assert reasons[1].startswith("has 1 channel where 3 are expected: ")


def test_the_image_that_all_must_be_like_is_known(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    save(tmp_path / "b.png", noise(8, 8, dtype=np.uint16))
    save(tmp_path / "c.png", noise(8, 8))
    dataset = FolderImages(tmp_path)
    assert dataset.shape_from == "b.png"
    assert dataset.read(2, 3)[1][0].reason.startswith("is of type uint8 where uint16 is expected: ")
    assert FolderImages(tmp_path, image_shape=(8, 8, 1)).shape_from == "b.png"
    assert FolderImages(tmp_path, image_shape=(8, 8, 1), dtype=np.uint8).shape_from is None


def test_another_type_than_the_encoder_takes_names_the_way_to_one_that_does(tmp_path):
    save(tmp_path / "a.png", noise(8, 8, dtype=np.uint16))
    save(tmp_path / "b.png", noise(8, 8))
    (rejection,) = FolderImages(tmp_path, image_shape=(8, 8, 1), dtype=np.uint8).read(0, 2)[1]
    assert "sample_type='uint16'" in rejection.reason
    (rejection,) = FolderImages(tmp_path).read(0, 2)[1]
    assert "sample_type" not in rejection.reason


def test_non_finite_images_are_rejected(tmp_path):
    save(tmp_path / "a.tiff", np.ones((4, 4), np.float32))
    save(tmp_path / "b.tiff", np.array([[1, np.nan], [2, 3]], np.float32))
    dataset = FolderImages(tmp_path)
    assert dataset.dtype == np.float32
    assert dataset.read(1, 2)[1][0].reason == "holds non-finite values"


@pytest.mark.parametrize("suffix", ["tiff", "gif", "png", "webp"])
def test_a_stack_of_pages_is_no_image(tmp_path, suffix):
    pages = [Image.fromarray(noise(8, 8, 3)) for _ in range(3)]
    save(tmp_path / "a.png", noise(8, 8, 3))
    pages[0].save(tmp_path / f"b.{suffix}", save_all=True, append_images=pages[1:])
    (rejection,) = FolderImages(tmp_path).read(0, 2)[1]
    assert rejection.reason == "holds several frames or pages: 3; save each as a file of its own, or all as HDF5"


def test_a_photograph_with_a_preview_is_an_image(tmp_path):
    photograph, preview = Image.fromarray(noise(32, 32, 3)), Image.fromarray(noise(8, 8, 3))
    photograph.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    assert decode_file(tmp_path / "a.jpg").shape == (32, 32, 3)


def test_too_many_pixels_are_rejected(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnusableImageError, match="decompression bomb"):
        decode_file(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixels_between_the_limits_are_rejected_without_a_warning_filter(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(12, 12))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UnusableImageError, match="144 pixels"):
        decode_file(tmp_path / "a.png")


RGB = Image.fromarray(noise(6, 5, 3))


@pytest.mark.parametrize(
    ("image", "suffix", "mode"),
    [
        (RGB.convert("L"), "png", "L"),
        (RGB.convert("1"), "png", "L"),
        (RGB.convert("LA"), "png", "LA"),
        (RGB.convert("RGBA"), "png", "RGBA"),
        (RGB.convert("P"), "png", "RGB"),
        (RGB.convert("CMYK"), "tiff", "RGB"),
        (RGB.convert("YCbCr"), "jpg", "RGB"),
        (Image.fromarray(noise(6, 5, dtype=np.uint16)), "png", "I;16"),
        (Image.fromarray(noise(6, 5).astype(np.float32)), "tiff", "F"),
    ],
)
def test_modes_agree_with_pillow(tmp_path, image, suffix, mode):
    path = tmp_path / f"a.{suffix}"
    image.save(path)
    expected = np.asarray(Image.open(path).convert(mode))
    decoded = decode_file(path)
    assert decoded.dtype == expected.dtype
    np.testing.assert_array_equal(decoded, expected.reshape(6, 5, -1))


def test_a_palette_with_transparency_has_four_channels(tmp_path):
    RGB.convert("P").save(tmp_path / "a.png", transparency=0)
    assert decode_file(tmp_path / "a.png").shape == (6, 5, 4)


def test_lab_becomes_rgb(tmp_path):
    Image.new("LAB", (2, 2), (255, 128, 128)).save(tmp_path / "a.tiff")
    assert decode_file(tmp_path / "a.tiff").min() > 250


@pytest.mark.parametrize(("value", "fits"), [(65535, True), (65536, False), (-1, False)])
def test_32_bit_integers_must_fit_16(tmp_path, value, fits):
    save(tmp_path / "a.tiff", np.full((2, 2), value, np.int32))
    if fits:
        assert (decode_file(tmp_path / "a.tiff") == value).all()
    else:
        with pytest.raises(UnusableImageError, match="16 bits"):
            decode_file(tmp_path / "a.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    RGB.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode_file(tmp_path / "a.png"), expected)


def test_odd_names_survive(tmp_path):
    names = [b"new\nline.png", b"not utf-8 \xff.PNG", "\u00fc.png".encode(), b"folder.png/inner.png"]
    for name in names:
        save(tmp_path / os.fsdecode(name), noise(4, 4))
    dataset = FolderImages(tmp_path)
    assert dataset.identifiers(0, 4).tolist() == sorted(names)
    assert len(dataset.read(0, 4)[0]) == 4
    (tmp_path / os.fsdecode(names[1])).write_bytes(b"")
    (rejection,) = dataset.read(0, 4)[1]
    assert os.fsencode(rejection.identifier) == names[1]


def test_links_are_followed_once(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    save(root / "real" / "a.png", noise(4, 4))
    save(elsewhere / "b.png", noise(4, 4))
    (root / "cycle").symlink_to(root)
    (root / "also real").symlink_to(root / "real")
    (root / "out").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "file.png").symlink_to(elsewhere / "b.png")
    assert FolderImages(root).identifiers(0, 3).tolist() == [b"file.png", b"out/b.png", b"real/a.png"]


def test_broken_links_are_rejected_and_pipes_ignored(tmp_path):
    save(tmp_path / "a.png", noise(4, 4))
    (tmp_path / "b.png").symlink_to("nowhere")
    (tmp_path / "c.png").symlink_to("c.png")
    os.mkfifo(tmp_path / "d.png")
    rejections = FolderImages(tmp_path).read(0, 3)[1]
    assert [r.identifier for r in rejections] == ["b.png", "c.png"]
    assert "broken link" in rejections[0].reason


def test_hidden_and_other_files_do_not_count(tmp_path):
    for name in (".hidden.png", ".cache/a.png"):
        save(tmp_path / name, noise(4, 4))
    for name in ("a.txt", "b.txt", "c.h5", "README"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DatasetError, match=r"4 other files \(2 x .txt") as caught:
        FolderImages(tmp_path)
    assert ".png" in caught.value.expected


def test_no_readable_image_names_the_first_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_bytes(b"x")
    dataset = FolderImages(tmp_path)
    with pytest.raises(DatasetError, match=r"'a.png' is empty"):
        dataset.read(0, 1)
    given = FolderImages(tmp_path, image_shape=(4, 4, 1), dtype="uint8")
    assert len(given.read(0, 2)[1]) == 2


def test_the_first_readable_image_sets_the_shape(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    save(tmp_path / "b.png", noise(4, 6, 3))
    assert FolderImages(tmp_path).image_shape == (4, 6, 3)


def test_resizing_brings_images_to_one_size(tmp_path):
    save(tmp_path / "a.png", np.full((4, 6, 3), 7, np.uint8))
    save(tmp_path / "b.png", np.full((9, 5, 3), 7, np.uint8))
    for how in ("stretch", "crop"):
        samples, _ = FolderImages(tmp_path, image_shape=(8, 8, 3), resize=how).read(0, 2)
        assert samples.images.shape == (2, 8, 8, 3)
        assert (samples.images == 7).all()


@pytest.mark.parametrize(
    "options",
    [
        {"resize": "crop"},
        {"resize": "zoom", "image_shape": (8, 8, 3)},
        {"image_shape": (8, 0, 3)},
        {"dtype": "int64"},
        {"dataset_key": "x"},
    ],
)
def test_unusable_requests_are_option_errors(folder, options):
    with pytest.raises(OptionError):
        open_dataset(folder[0], **options)


def test_fingerprint_follows_the_data_not_the_place(folder, tmp_path_factory):
    root, before = folder[0], FolderImages(folder[0]).fingerprint()
    moved = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(root, moved)
    os.utime(moved / "sub0" / "0.png", (0, 0))
    assert FolderImages(moved).fingerprint() == before
    (moved / "sub0" / "0.png").rename(moved / "sub0" / "00.png")
    assert FolderImages(moved).fingerprint() != before
    content = bytearray((root / "sub0" / "2.png").read_bytes())
    content[-20] ^= 1
    (root / "sub0" / "2.png").write_bytes(content)
    assert FolderImages(root).fingerprint() != before


def test_fingerprint_of_a_missing_file_does_not_raise(folder):
    dataset = FolderImages(folder[0])
    before = dataset.fingerprint()
    (folder[0] / "sub0" / "0.png").unlink()
    assert dataset.fingerprint() != before


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match="Permission denied"):
        FolderImages(folder[0])


def test_what_is_no_data_set_says_what_is_accepted(tmp_path):
    with pytest.raises(DatasetError, match="nothing there"):
        open_dataset(tmp_path / "nowhere")
    save(tmp_path / "a.png", noise(4, 4))
    with pytest.raises(DatasetError, match=r"folder of images .* HDF5"):
        open_dataset(tmp_path / "a.png")
    for content, found in (
        (b"", "found an empty file"),
        (b"text", "a single file ending in '.h5' whose bytes are none"),
    ):
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(DatasetError, match=found):
            open_dataset(tmp_path / "a.h5")


def test_reading_leaves_no_thread_behind(folder):
    before = threading.active_count()
    with open_dataset(folder[0]) as dataset:
        dataset.read(0, len(dataset))
    assert threading.active_count() == before
