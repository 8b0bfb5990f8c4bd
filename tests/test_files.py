"""Files are replaced whole or not at all, and refusals are sentences."""

import errno
import hashlib
import io
import os
import threading
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_disk import LIMIT_FILES, run_python, small_disk

from ngvae_tools.errors import OptionError, OutputError
from ngvae_tools.files import (
    DeferringFile,
    deferring_errors,
    first_beside,
    output_errors,
    refuse_existing,
    refuse_replacing,
    replacing,
    sha256_of,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_into_new_folders_and_leaves_no_part(tmp_path):
    path = tmp_path / "new" / "folders" / "a.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert names(path.parent) == ["a.txt"]


def test_the_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as part:
        assert part == tmp_path / "a.txt.part"
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "error", [RuntimeError("mine"), KeyboardInterrupt(), OutputError("x", expected="", found="", remedy="")]
)
def test_an_exception_inside_passes_and_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted():
        with replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        interrupted()
    assert caught.value is error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_old_or_the_new(tmp_path):
    path = tmp_path / "a.txt"
    texts = {letter * 300_000 for letter in "ab"}
    write_text(path, min(texts))
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for text in sorted(texts) * 10:
            write_text(path, text)
    finally:
        done.set()
        reader.join()
    assert seen <= texts
    assert seen


def test_a_part_that_a_killed_process_left_is_taken_over(tmp_path):
    (tmp_path / "a.txt.part").write_text("left")
    write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("place", ["file/a.txt", "file/new/a.txt", "folder", "x" * 300, "/", ".", "/proc/a/a.txt", ""])
def test_places_that_cannot_be_written(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write to .*; check the place, or name another"):
        write_text(type(tmp_path)(place), "new")
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


def test_a_file_that_was_not_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No such file"), replacing(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        write_text(disk / "a.txt", "old")
        with pytest.raises(OutputError, match="No space left on device"):
            write_text(disk / "a.txt", "x" * 200_000)
        assert (disk / "a.txt").read_text() == "old"
        assert names(disk) == ["a.txt"]
        write_text(disk / "a.txt", "new")


def test_output_errors_names_the_place_and_the_reason(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write to OUT: .* found odd; check") as caught, output_errors("OUT"):
        raise OSError("odd")
    assert isinstance(caught.value.__cause__, OSError)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OutputError, match="found a file where a folder should be"), output_errors(place):
            place.mkdir(exist_ok=True)


def test_refuse_existing(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    refuse_existing(tmp_path / "b.txt", overwrite=False)
    refuse_existing(tmp_path / "a.txt", overwrite=True)
    with pytest.raises(OutputError, match=r"already exists.*--overwrite"):
        refuse_existing(tmp_path / "a.txt", overwrite=False)
    with pytest.raises(OutputError, match="found a folder; name another place"):
        refuse_existing(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match="File name too long"):
        refuse_existing(tmp_path / ("x" * 300), overwrite=False)


def test_refuse_replacing(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for output in (data, tmp_path / "link", tmp_path):
        with pytest.raises(OptionError, match="would replace what it is made of"):
            refuse_replacing(output, "elsewhere", data)
    refuse_replacing(data / "below", data)
    refuse_replacing(tmp_path / ("x" * 300), data, "a\0b", "s3://bucket/data")


def test_first_beside(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").touch()
    (tmp_path / "c.txt").touch()
    assert first_beside(tmp_path, {"a/b.txt", "c.txt", "missing.txt"}) is None
    assert first_beside(tmp_path, {"a/b.txt"}) == "c.txt"
    assert first_beside(tmp_path, {"c.txt", "a"}) == "a"
    assert first_beside(tmp_path, {"c.txt", "a/d.txt"}) == "a/b.txt"


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


class FullDisk(io.FileIO):
    """A file of which one write may be short, and which refuses more once `room` bytes were written."""

    room = 0

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = super().write(data[: self.room])
        self.room -= written
        return written


def deferring_on_full_disk(path, room):
    file = DeferringFile(path)
    file._disk.close()
    file._disk = FullDisk(path, "w+b")
    file._disk.room = room
    return file


WRITES = st.tuples(st.just("write"), st.integers(0, 60), st.binary(max_size=20))
READS = st.tuples(st.just("read"), st.integers(0, 80), st.integers(0, 40))


@given(st.lists(WRITES | READS, max_size=25), st.integers(0, 200))
def test_a_deferring_file_reads_like_memory_whatever_the_disk_refuses(tmp_path_factory, actions, room):
    path, memory = tmp_path_factory.getbasetemp() / "deferring", io.BytesIO()
    with deferring_on_full_disk(path, room) as file:
        written = 0
        for kind, place, what in actions:
            assert file.seek(place) == memory.seek(place) == file.tell()
            if kind == "write":
                written += len(what)
                assert file.write(what) == memory.write(what)
            else:
                assert file.read(what) == memory.read(what)
            assert file.tell() == memory.tell()
            assert file.seek(0, os.SEEK_END) == memory.seek(0, os.SEEK_END)
        if written > room:
            with pytest.raises(OSError, match="No space left"):
                file.check()
        else:
            file.check()
            assert path.read_bytes() == memory.getvalue()


def test_deferred_errors_are_raised_at_the_end(tmp_path):
    files = []

    def write():
        with deferring_errors(tmp_path / "a") as file:
            files.append(file)
            file.write(b"12345")
            file.seek(0)
            assert file.read() == b"12345"

    deferring = mock.patch("ngvae_tools.files.DeferringFile", lambda path: deferring_on_full_disk(path, 3))
    with deferring, pytest.raises(OSError, match="No space left"):
        write()
    assert files[0].closed
    assert (tmp_path / "a").read_bytes() == b"123"


def test_truncation_refused_is_deferred(tmp_path):
    code = LIMIT_FILES + (
        "import pathlib, sys\n"
        "from ngvae_tools.files import DeferringFile\n"
        "file = DeferringFile(pathlib.Path(sys.argv[1]))\n"
        "file.truncate(1000)\n"
        "file.check()\n"
        "file.truncate(100_000)\n"
        "try: file.check()\n"
        "except OSError as error: print(error.strerror)\n"
        "file.close()\n"
    )
    assert run_python(code, tmp_path / "a") == "File too large\n"
