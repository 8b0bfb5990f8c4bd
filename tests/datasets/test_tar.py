"""Tar files of images, good, damaged and hostile."""

import gzip
import io
import os
import tarfile

import numpy as np
import pytest
from dataset_contract import DatasetContract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ngvae_tools.datasets import FolderImages, TarImages, open_dataset, read_csv_labels
from ngvae_tools.datasets.sources import LocalFile
from ngvae_tools.datasets.tar_headers import walk
from ngvae_tools.errors import DatasetError, OptionError
from ngvae_tools.workflows.supervised import open_labels

RNG = np.random.default_rng(3)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def noise(n=1):
    return RNG.integers(0, 255, (n, 6, 8, 3)).astype(np.uint8)


def member(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def write(path, *members, form=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    images = noise(5)
    whole = png(images[0])
    write(
        tmp_path / "a" / "000.tar",
        member("0001.png", png(images[1])),
        member("0001.json", b"{}"),
        member("0000.png", whole),
        member("0002.png", whole[:60]),
    )
    write(tmp_path / "a" / "001.tar", member("x/2.png", png(images[2])), member("x/empty.png"))
    write(tmp_path / "a" / "b.tar", member("3.png", png(images[3])), form=tarfile.USTAR_FORMAT)
    (tmp_path / "a" / "readme.txt").write_text("shards")
    return tmp_path / "a", images


class TestTarContract(DatasetContract):
    @pytest.fixture
    def dataset(self, shards):
        with open_dataset(shards[0]) as dataset:
            assert isinstance(dataset, TarImages)
            assert dataset.kind == "tar"
            yield dataset

    @pytest.fixture
    def good(self, shards):
        return [0, 1, 3, 5], shards[1][[0, 1, 2, 3]]

    @pytest.fixture
    def reopened(self, shards):
        return lambda: open_dataset(shards[0])


def test_identifiers_are_shard_and_member(shards):
    with open_dataset(shards[0]) as dataset:
        names = dataset.identifiers(0, 6).tolist()
        assert names == [
            *(b"000.tar/0000.png", b"000.tar/0001.png", b"000.tar/0002.png"),
            *(b"001.tar/x/2.png", b"001.tar/x/empty.png", b"b.tar/3.png"),
        ]
        assert [r.identifier for r in dataset.read(0, 6)[1]] == ["000.tar/0002.png", "001.tar/x/empty.png"]
    with open_dataset(shards[0] / "b.tar") as dataset:
        assert dataset.identifiers(0, 1).tolist() == [b"b.tar/3.png"]


def test_it_reads_what_a_folder_reads(shards, tmp_path):
    for name in ("000.tar", "001.tar", "b.tar"):
        with tarfile.open(shards[0] / name) as tar:
            tar.extractall(tmp_path / "folder" / name, filter="data")
    for options in ({}, {"image_shape": (5, 5, 3), "resize": "crop"}):
        with open_dataset(shards[0], **options) as one, FolderImages(tmp_path / "folder", **options) as two:
            assert one.identifiers(0, 6).tolist() == two.identifiers(0, 6).tolist()
            (found, bad), (expected, also_bad) = one.read(0, 6), two.read(0, 6)
            np.testing.assert_array_equal(found.images, expected.images)
            assert bad == also_bad


def test_a_folder_with_images_is_a_folder(shards):
    (shards[0] / "sub").mkdir()
    Image.fromarray(shards[1][0]).save(shards[0] / "sub" / "a.png")
    assert isinstance(open_dataset(shards[0]), FolderImages)


def test_fingerprint_follows_members(shards):
    before = open_dataset(shards[0]).fingerprint()
    write(shards[0] / "b.tar", member("3.png", png(shards[1][3])), form=tarfile.GNU_FORMAT)
    assert open_dataset(shards[0]).fingerprint() == before
    write(shards[0] / "b.tar", member("3.png", png(shards[1][4])))
    assert open_dataset(shards[0]).fingerprint() != before


def test_labels_are_keyed_by_shard_and_member(shards):
    (shards[0] / "labels.csv").write_text("path,shape\n000.tar/0000.png,1\nb.tar/3.png,2\n")
    with open_dataset(shards[0]) as dataset:
        assert read_csv_labels(shards[0] / "labels.csv", dataset).index.tolist() == [0, 5]
        assert open_labels("auto", dataset).index.tolist() == [0, 5]
    with open_dataset(shards[0] / "b.tar") as dataset:
        assert open_labels("auto", dataset) is None


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    names=st.lists(
        st.text("ab/é \n", min_size=1, max_size=150).filter(lambda t: all(t.split("/"))),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    sizes=st.lists(st.integers(0, 1500), min_size=5, max_size=5),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_headers_are_read_as_tarfile_reads_them(tmp_path, form, names, sizes):
    if form == tarfile.USTAR_FORMAT:
        names = list(dict.fromkeys(name[:30] for name in names if not name[:30].endswith("/"))) or ["a"]
    entries = [member(name, bytes([65 + k]) * size) for k, (name, size) in enumerate(zip(names, sizes, strict=False))]
    path = write(tmp_path / "t.tar", *entries, form=form)
    with tarfile.open(path) as tar:
        expected = [(os.fsencode(m.name), m.offset_data, m.size, None) for m in tar]
    assert [(m.name, m.offset, m.size, m.problem) for m in walk(LocalFile(path))] == expected


def test_links_and_tricks_are_rejected(tmp_path):
    good = png(noise()[0])
    path = write(
        tmp_path / "t.tar",
        member("./good.png", good),
        member("link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.png", type=tarfile.LNKTYPE, linkname="good.png"),
        member("../out.png", good),
        member("/root.png", good),
        member("twice.png", good),
        member("twice.png", good),
        member("folder.png", type=tarfile.DIRTYPE),
        member("pipe.png", type=tarfile.FIFOTYPE),
        member("._good.png", b"resource fork"),
        member(".hidden/a.png", good),
        member("odd.png", good, type=b"Q"),
        member("last.png", good),
    )
    with open_dataset(path) as dataset:
        samples, rejections = dataset.read(0, len(dataset))
        names = [name.removeprefix(b"t.tar/") for name in dataset.identifiers(0, len(dataset)).tolist()]
    assert [names[k] for k in samples.index] == [b"good.png", b"last.png", b"twice.png"]
    assert {r.identifier.removeprefix("t.tar/"): r.reason for r in rejections} == {
        "../out.png": "has a path that leads outside its tar file",
        "/root.png": "has a path that leads outside its tar file",
        "hard.png": "is a link within the tar file, not an image",
        "link.png": "is a link within the tar file, not an image",
        "odd.png": "is a member of the unknown type b'Q'",
        "twice.png": "is followed by a member of the same name",
    }


@pytest.mark.parametrize("fields", [{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"GNU.sparse.map": "0,1"}])
def test_sparse_members_are_rejected(tmp_path, fields):
    good = png(noise()[0])
    path = write(tmp_path / "t.tar", member("a.png", good, pax_headers=fields), member("b.png", good))
    with open_dataset(path) as dataset:
        assert dataset.read(0, 2)[1][0].reason == "is stored as a sparse file"
        assert dataset.read(0, 2)[0].index.tolist() == [1]


def test_old_sparse_members_with_more_headers_are_skipped(tmp_path):
    good = png(noise()[0])
    info, _ = member("a.png", type=b"S")
    info.size = len(good)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = bytes(504) + b"\1" + bytes(7) + bytes(512)
    rest = write(tmp_path / "rest.tar", member("b.png", good)).read_bytes()
    (tmp_path / "t.tar").write_bytes(bytes(header) + more + good + bytes(-len(good) % 512) + rest)
    with open_dataset(tmp_path / "t.tar") as dataset:
        samples, (rejection,) = dataset.read(0, 2)
    assert (rejection.identifier, rejection.reason) == ("t.tar/a.png", "is stored as a sparse file")
    assert samples.index.tolist() == [1]


@pytest.mark.parametrize("size", [2**33 + 5, 2**70])
def test_a_member_beyond_the_end_is_rejected(tmp_path, size):
    good = png(noise()[0])
    info, _ = member("b.png")
    info.size = size
    path = write(tmp_path / "t.tar", member("a.png", good))
    content = path.read_bytes()[: 512 + -(-len(good) // 512) * 512]
    path.write_bytes(content + info.tobuf(tarfile.GNU_FORMAT) + good)
    with open_dataset(path) as dataset:
        samples, (rejection,) = dataset.read(0, 2)
        assert len(dataset.fingerprint()) == 64
    assert samples.index.tolist() == [0]
    assert "is cut short" in rejection.reason


def test_a_download_that_was_cut_rejects_the_last(shards):
    path = shards[0] / "000.tar"
    path.write_bytes(path.read_bytes()[:2700])
    with open_dataset(path) as dataset:
        assert any("cut short" in r.reason for r in dataset.read(0, len(dataset))[1])


def test_a_shard_that_goes_is_rejected(shards):
    with open_dataset(shards[0]) as dataset:
        dataset.read(0, 1)
        (shards[0] / "001.tar").unlink()
        assert [r.identifier for r in dataset.read(2, 6)[1]][1:] == ["001.tar/x/2.png", "001.tar/x/empty.png"]


@pytest.mark.parametrize("damage", ["checksum", "negative", "long", "pax", "cut"])
def test_damaged_headers_say_where(tmp_path, damage):
    good = png(noise()[0])
    path = write(tmp_path / "t.tar", member("a.png", good))
    first = 512 + -(-len(good) // 512) * 512
    content = path.read_bytes()[:first]
    info, _ = member("b.png")
    if damage == "negative":
        info.size = -5
    header = info.tobuf(tarfile.GNU_FORMAT)
    if damage == "checksum":
        header = b"x" + header[1:]
    elif damage == "long":
        info.type, info.size = b"L", 2**40
        header = info.tobuf(tarfile.GNU_FORMAT)
    elif damage == "pax":
        info.type, info.size = b"x", 20
        header = info.tobuf(tarfile.GNU_FORMAT) + b"99 path=b.png".ljust(512, b"\0")
    elif damage == "cut":
        header = header[:300]
    path.write_bytes(content + header)
    with pytest.raises(DatasetError, match=f"at byte {first:,}"):
        open_dataset(path)


@given(st.integers(0, 4095), st.integers(0, 255))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_read_rejected_or_refused(tmp_path, place, value):
    path = tmp_path / "t.tar"
    if not path.exists():
        write(path, member("é" * 70 + ".png", png(noise()[0])), member("b.png", png(noise()[0])))
        (tmp_path / "whole").write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "whole").read_bytes())
    content[place] = value
    path.write_bytes(content)
    try:
        with TarImages(path, image_shape=(6, 8, 3), dtype=np.uint8) as dataset:
            samples, rejections = dataset.read(0, len(dataset))
            assert len(samples) + len(rejections) == len(dataset)
    except DatasetError:
        pass


def test_packed_tars_are_refused_with_a_remedy(tmp_path):
    plain = write(tmp_path / "t.tar", member("a.png", png(noise()[0]))).read_bytes()
    for name in ("b.tar.gz", "b.tgz", "b.tar"):
        (tmp_path / name).write_bytes(gzip.compress(plain))
        with pytest.raises(DatasetError, match="unpack it"):
            open_dataset(tmp_path / name)


def test_tars_without_images(tmp_path):
    path = write(tmp_path / "t.tar", member("a.txt", b"x"))
    with pytest.raises(DatasetError, match="1 other members in 1 tar files"):
        open_dataset(path)
    (tmp_path / "empty.tar").write_bytes(bytes(10240))
    with pytest.raises(DatasetError, match="holds no image"):
        open_dataset(tmp_path / "empty.tar")
    with pytest.raises(OptionError, match="leave --dataset-key out"):
        open_dataset(path, dataset_key="png")
