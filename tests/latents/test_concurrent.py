"""Many read a file at once, whatever others do with it; each sees one version as a whole."""

import fcntl
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from latent_damage import everything, sample
from latent_files import write

from ngvae_tools.errors import RecordError
from ngvae_tools.files import replacing
from ngvae_tools.latents.reader import LatentFile

TESTS = Path(__file__).parents[1]
N = 5_000


def version(path, value, codec="deflate"):
    """Write a file in which all tells of one number."""
    values = np.full((N, 3), float(value))
    with replacing(path) as part:
        write(part, values, np.full(N, value, np.int64), codec=codec, rule=str(value), threshold=float(value))


def version_of(path):
    """The number that all of a file tells of, by reading it in another order than it was written."""
    with LatentFile(path, dtype=np.float64, cache_bytes=0) as file:
        assert set(np.rint(file[N - 5 :].ravel())) == {file.header.origin.threshold}
        found = np.unique(np.rint(file.to_numpy())).tolist() + np.unique(file.identifiers).tolist()
        file.verify()
        assert set(found) == {float(file.header.origin.rule)}
        assert set(np.rint(file[3])) == {found[0]}
    return int(found[0])


READ = """
import sys
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
from test_concurrent import version_of
seen = []
print("ready", flush=True)
while not Path(sys.argv[4]).exists():
    seen.append(version_of(Path(sys.argv[1])))
print(len(seen), seen == sorted(seen))
"""


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_files_are_renamed_into_place_while_others_read(tmp_path, codec):
    path, stop = tmp_path / "latents.h5", tmp_path / "stop"
    version(path, 1, codec)
    command = [sys.executable, "-c", READ, path, TESTS, TESTS / "latents", stop]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    seen, done = [[], []], threading.Event()

    def read(found):
        while not done.is_set():
            found.append(version_of(path))

    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process,
        ThreadPoolExecutor(2) as threads,
    ):
        try:
            assert process.stdout.readline() == "ready\n"
            reading = [threads.submit(read, found) for found in seen]
            until = time.monotonic() + 1.5
            last = 1
            while time.monotonic() < until:
                last += 1
                version(path, last, codec)
        finally:
            done.set()
            stop.touch()
        for each in reading:
            each.result()
        count, ascending = process.stdout.read().split()
    assert process.returncode == 0
    assert ascending == "True"
    assert last > 5
    assert int(count) > 1
    for found in seen:
        assert found == sorted(found)
        assert found[-1] > 1


def test_an_open_file_stays_what_it_was(tmp_path):
    path = tmp_path / "latents.h5"
    version(path, 1)
    file = LatentFile(path)
    version(path, 2)
    path.unlink()
    assert set(np.rint(file.to_numpy()).ravel()) == {1}
    file.verify()


def test_threads_share_a_file(tmp_path):
    for kind in ("wide", "archive"):
        path = sample(kind, tmp_path / kind, n=9_000)
        expected = LatentFile(path).to_numpy()
        # Room for less than all, so that they push out each other's chunks.
        file = LatentFile(path, cache_bytes=30_000)

        def read(seed, file=file, expected=expected):
            rng = np.random.default_rng(seed)
            for _ in range(25):
                rows = rng.integers(0, 9_000, 50)
                assert (file[rows] == expected[rows]).all()
                assert (file[int(rows[0])] == expected[rows[0]]).all()
            return file.identifiers.sum()

        with ThreadPoolExecutor(4) as threads:
            assert len(set(threads.map(read, range(8)))) == 1


def read_in_a_child(place, path=None):
    """All of a file, in another process; `place` is the file itself, or None: open it there."""
    file = place or LatentFile(path)
    file.verify()
    return file.to_numpy().tobytes()


def test_a_forked_child_reads_what_its_parent_opened(tmp_path):
    path = sample("wide", tmp_path / "latents.h5", n=9_000)
    file = LatentFile(path)
    expected = file.to_numpy().tobytes()
    file._cache.clear()
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        # Newer versions of Python warn of forks beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            found = [read_in_a_child(file) == expected, read_in_a_child(None, path) == expected]
            os.write(write_end, b"1" if all(found) else b"0")
        finally:
            os._exit(0)
    os.close(write_end)
    # Both at once: they share the position of the descriptor, which nobody uses.
    for _ in range(20):
        file._cache.clear()
        assert file.to_numpy().tobytes() == expected
    assert os.read(read_end, 1) == b"1"
    os.close(read_end)
    assert os.waitpid(child, 0)[1] == 0


def test_a_pickled_file_in_a_spawned_worker(tmp_path):
    path = sample("archive", tmp_path / "latents.h5", n=300)
    file = LatentFile(path, dtype=np.float64)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(to_numpy_of, file).result() == file.to_numpy().tobytes()


def to_numpy_of(file):
    return file.to_numpy().tobytes()


def test_a_pickled_file_that_was_replaced_is_refused(tmp_path):
    path = tmp_path / "latents.h5"
    version(path, 1)
    file = LatentFile(path)
    sent = pickle.dumps(file)
    assert pickle.loads(sent).header.origin.rule == "1"
    write(path, np.random.default_rng(0).normal(size=(N, 3)))
    with pytest.raises(RecordError, match="another latent file than the one that was sent"):
        pickle.loads(sent)


LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.flock(file, fcntl.LOCK_EX)
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_locks(tmp_path):
    path = sample("deflate", tmp_path / "latents.h5")
    command = [sys.executable, "-c", LOCK, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with path.open("r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        everything(path)
        process.stdin.close()


def test_reading_locks_nothing(tmp_path):
    path = sample("deflate", tmp_path / "latents.h5")
    file = LatentFile(path)
    with path.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with h5py.File(path, "r+") as other:
        assert set(other) >= {"codes"}
    # Also while h5py has it open to write: what was opened before goes on.
    with h5py.File(path, "r+"):
        file.verify()
    everything(path)


def test_files_that_are_open_to_read_elsewhere(tmp_path):
    path = sample("deflate", tmp_path / "latents.h5")
    with h5py.File(path), LatentFile(path), h5py.File(path):
        everything(path)


def test_a_folder_that_cannot_be_written(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = sample("archive", folder / "latents.h5")
    expected = everything(path)
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert everything(path) == expected
        assert [each.name for each in folder.iterdir()] == ["latents.h5"]
    finally:
        folder.chmod(0o755)
