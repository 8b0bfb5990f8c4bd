"""A folder of everything that can be wrong with a file: read as Pillow reads it, or rejected with a reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from bad_files import (
    by_pillow,
    encoded,
    files_for_pillow,
    photograph,
    plain_jpegs,
    plain_pngs,
    plain_tiffs,
    unusable_files,
)

from ngvae_tools.datasets import FolderImages
from ngvae_tools.errors import DatasetError

SHAPE = (24, 24, 3)
GOOD = encoded(photograph(24, 24), "PNG")


def write_corpus(folder):
    """Write the corpus; every file's content by its relative path, None for what is no file."""
    sound = {"png": plain_pngs(), "jpg": plain_jpegs(), "tif": plain_tiffs()}
    files = {f"plain/{name}.{suffix}": data for suffix, some in sound.items() for name, data in some.items()}
    files |= {f"other/{name}": data for name, data in files_for_pillow().items()}
    files |= {f"broken/{name}": data for name, (data, _) in unusable_files().items()}
    named = {os.fsencode(name): data for name, data in files.items()}
    named |= {b"names/new\nline.png": GOOD, b"names/not utf-8 \xff\xfe.png": GOOD, b"names/\xc3\xbc.PNG": GOOD}
    named[b"folder.png/inner.png"] = GOOD
    for name, data in named.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    links = folder / "links"
    links.mkdir()
    (links / "sound.png").symlink_to(folder / "names" / "new\nline.png")
    (links / "broken.png").symlink_to("nowhere")
    (links / "itself.png").symlink_to("itself.png")
    (links / "up").symlink_to(folder)
    os.mkfifo(links / "pipe.png")
    named |= {b"links/sound.png": GOOD, b"links/broken.png": None, b"links/itself.png": None}
    return named


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return folder, write_corpus(folder)


def accounted(dataset):
    """Read everything; the images by name and the reasons by name, which together are all."""
    names = dataset.identifiers(0, len(dataset)).tolist()
    samples, rejections = dataset.read(0, len(dataset))
    assert len(samples) + len(rejections) == len(dataset)
    assert sorted([*samples.index.tolist(), *(r.index for r in rejections)]) == list(range(len(dataset)))
    read = {names[k]: image for k, image in zip(samples.index, samples.images, strict=True)}
    reasons = {os.fsencode(r.identifier): r.reason for r in rejections}
    assert all(reasons.values())
    assert read.keys() | reasons.keys() == set(names)
    return read, reasons


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("shape", "dtype"), [(SHAPE, "uint8"), ((24, 24, 1), "uint8"), ((24, 24, 4), "uint8"), ((19, 23, 1), "float32")]
)
def test_each_file_is_read_as_by_pillow_or_rejected(corpus, shape, dtype):
    folder, files = corpus
    dataset = FolderImages(folder, image_shape=shape, dtype=dtype)
    assert set(dataset.identifiers(0, len(dataset)).tolist()) == files.keys()
    read, reasons = accounted(dataset)
    assert read
    for name, data in files.items():
        judged = "no file" if data is None else by_pillow(data)
        if isinstance(judged, str) or judged.shape != shape or judged.dtype != dtype:
            assert name in reasons
        else:
            np.testing.assert_array_equal(read[name], judged, err_msg=str(name))
    assert not any(name.startswith(b"broken/") for name in read)


@pytest.mark.filterwarnings("ignore")
def test_resizing_takes_every_size_and_still_no_broken_file(corpus):
    folder, files = corpus
    dataset = FolderImages(folder, image_shape=(16, 16, 3), dtype="uint8", resize="stretch")
    read, _ = accounted(dataset)
    judged = {name: by_pillow(data) for name, data in files.items() if data is not None}
    usable = {n for n, a in judged.items() if not isinstance(a, str) and a.dtype == np.uint8 and a.shape[2] == 3}
    assert read.keys() == usable


def test_a_file_that_changes_between_scan_and_read_is_rejected(tmp_path):
    for name in "abcdef":
        (tmp_path / f"{name}.png").write_bytes(GOOD)
    dataset = FolderImages(tmp_path, image_shape=SHAPE, dtype="uint8")
    for name in "abcd":
        (tmp_path / f"{name}.png").unlink()
    (tmp_path / "b.png").mkdir()
    os.mkfifo(tmp_path / "c.png")
    (tmp_path / "d.png").symlink_to("d.png")
    (tmp_path / "e.png").write_bytes(GOOD[:100])
    read, reasons = accounted(dataset)
    assert list(read) == [b"f.png"]
    assert "not there any more" in reasons[b"a.png"]
    assert reasons[b"b.png"] == "is a folder"
    assert reasons[b"c.png"] == "is not a regular file"
    assert "symbolic links" in reasons[b"d.png"]
    assert "cannot be decoded" in reasons[b"e.png"]


def test_a_file_that_may_not_be_read_is_rejected(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(GOOD)
    dataset, really_open = FolderImages(tmp_path, image_shape=SHAPE, dtype="uint8"), os.open
    (tmp_path / "b.png").chmod(0)
    if os.geteuid() == 0:
        # The superuser may read all: the system's refusal is imitated.

        def refusing(path, *options):
            if os.fsencode(path).endswith(b"b.png"):
                raise PermissionError(13, "Permission denied", path)
            return really_open(path, *options)

        monkeypatch.setattr(os, "open", refusing)
    read, reasons = accounted(dataset)
    assert list(read) == [b"a.png"]
    assert reasons == {b"b.png": "cannot be opened: Permission denied"}


def test_reading_bad_files_leaves_none_open(tmp_path):
    for name, (data, _) in list(unusable_files().items())[:30]:
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a.png").symlink_to("nowhere")
    dataset = FolderImages(tmp_path, image_shape=SHAPE, dtype="uint8")
    before = len(list(Path("/dev/fd").iterdir()))
    dataset.read(0, len(dataset))
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_broken_files_alone_says_so(tmp_path):
    for name, (data, _) in unusable_files().items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=r"no image in .* is readable"):
        FolderImages(tmp_path).read(0, 1)
