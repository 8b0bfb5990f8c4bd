"""A damaged file is refused or read as it was written; a writer that is killed or stopped leaves what there was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from latent_damage import KINDS, everything, is_chunk, plainly, read_or_refuse, sample
from latent_files import write
from small_disk import LIMIT_FILES, run_python, small_disk

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.files import FileBytes, replacing
from ngvae_tools.latents.reader import LatentFile

TESTS = Path(__file__).parents[1]
FLIPS = 2_000


class Flipped:
    """A file of which one bit is flipped at a time."""

    def __init__(self, path):
        self.path, self.size = path, path.stat().st_size
        self.expected = everything(path)
        self.plain = None if LatentFile(path).header.codec == "archive" else plainly(path)
        self.refused = 0

    def check(self, places, *, plain=True):
        """Flip each bit, read all, and put it back."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            for place in places:
                byte, bit = divmod(int(place), 8)
                before = os.pread(descriptor, 1, byte)
                os.pwrite(descriptor, bytes([before[0] ^ 1 << bit]), byte)
                found = read_or_refuse(self.path)
                assert found in (None, self.expected), (byte, bit)
                self.refused += found is None
                if plain and self.plain is not None:
                    self._check_plainly(byte, bit)
                os.pwrite(descriptor, before, byte)
        finally:
            os.close(descriptor)

    def _check_plainly(self, byte, bit):
        try:
            found = plainly(self.path)
        # What h5py raises is its own affair.
        except Exception:  # noqa: BLE001
            return
        assert found == self.plain, (byte, bit)


def read_bytes_of(path):
    """For each byte of a file, whether anything that reads all of it looks at it."""
    looked_at = np.zeros(path.stat().st_size, bool)
    read = FileBytes.read

    def noting(self, offset, length):
        looked_at[offset : offset + length] = True
        return read(self, offset, length)

    with mock.patch.object(FileBytes, "read", noting):
        everything(path)
    return looked_at


@pytest.mark.parametrize("kind", KINDS)
def test_some_flipped_bits(tmp_path, kind):
    flipped = Flipped(sample(kind, tmp_path / kind))
    flipped.check(np.random.default_rng(1).integers(0, 8 * flipped.size, 100))
    assert flipped.refused > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_byte_of_what_is_packed(tmp_path, kind):
    flipped = Flipped(sample(kind, tmp_path / kind, n=40))
    packed = np.flatnonzero(is_chunk(flipped.path))
    flipped.check(8 * packed + np.arange(len(packed)) % 8, plain=False)
    assert flipped.refused > 0.9 * len(packed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_flipped_bits(tmp_path, kind):
    flipped = Flipped(sample(kind, tmp_path / kind))
    flipped.check(np.random.default_rng(2).integers(0, 8 * flipped.size, FLIPS))
    assert flipped.refused > FLIPS / 3


def describing(path):
    """All bytes that are read, but for packed data; what nothing reads cannot change anything."""
    found = np.flatnonzero(~is_chunk(path) & read_bytes_of(path))
    assert 2_000 < len(found) < path.stat().st_size
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wide", "archive"])
def test_every_bit_of_what_describes_the_data(tmp_path, kind):
    flipped = Flipped(sample(kind, tmp_path / kind, n=60))
    places = describing(flipped.path)
    flipped.check((8 * places[:, None] + np.arange(8)).ravel(), plain=False)
    # HDF5 reads a little more than there is.
    assert flipped.refused > 6 * len(places)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "archive"])
def test_every_byte_of_what_describes_the_data_also_with_h5py_alone(tmp_path, kind):
    flipped = Flipped(sample(kind, tmp_path / kind, n=60))
    places = describing(flipped.path)
    flipped.check(8 * places + np.arange(len(places)) % 8)
    assert flipped.refused > 0.75 * len(places)


def test_long_metadata_have_a_checksum(tmp_path):
    """HDF5 keeps attributes of more than 64 KiB where none guards them."""
    path = tmp_path / "latents.h5"
    rng = np.random.default_rng(0)
    write(path, rng.normal(size=(5, 2)), preprocessing={"text": rng.bytes(600_000).hex()})
    assert len(LatentFile(path).header.metadata()) > 2**20
    metadata = LatentFile(path)._structure.arrays["metadata"]
    place, size = int(metadata.offsets[0, 0]), int(metadata.sizes[0, 0])
    flipped = Flipped.__new__(Flipped)
    flipped.path, flipped.expected, flipped.plain, flipped.refused = path, None, None, 0
    flipped.check(8 * np.linspace(place, place + size - 1, 20).astype(int))
    assert flipped.refused == 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file(tmp_path, kind):
    data = sample(kind, tmp_path / kind).read_bytes()
    for size in range(0, len(data), 64):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(RecordError, match="restore it from a copy"):
            everything(tmp_path / "cut")


WRITE = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
import numpy as np
from latent_files import write
from ngvae_tools.files import replacing
values = np.random.default_rng(int(sys.argv[3])).normal(size=(20_000, 4))
print("ready", flush=True)
with replacing(Path(sys.argv[1])) as part:
    write(part, values, codec=sys.argv[4])
"""


def killed_while_writing(path, codec, seed, seconds=None):
    """Kill a process so long after it begins to write, or let it end; whether it had ended, and how long it took."""
    command = [sys.executable, "-c", WRITE, str(path), str(TESTS), str(seed), codec]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    assert process.returncode in {0, -signal.SIGKILL}
    return process.returncode == 0, time.monotonic() - started


def check_kills(folder, codec, kills):
    """Kill writers at random moments; what is there is always what one of them wrote to its end."""
    path, rng = folder / "latents.h5", np.random.default_rng(3)
    ended, seconds = killed_while_writing(path, codec, 0)
    assert ended
    whole, killed = everything(path), 0
    for seed in range(1, kills + 1):
        if rng.random() < 0.3:
            path.unlink(missing_ok=True)
        before = path.stat().st_ino if path.exists() else None
        ended, _ = killed_while_writing(path, codec, seed, rng.random() * 1.05 * seconds)
        killed += not ended
        if not path.exists():
            assert not ended
            assert before is None
        else:
            found = everything(path)
            assert found[0][1:] == whole[0][1:]
            # Another file is that of this seed, as a whole.
            assert (found == whole) == (path.stat().st_ino == before) or before is None
            whole = found
        assert {each.name for each in folder.iterdir()} <= {"latents.h5", "latents.h5.part"}
    assert killed > kills / 3
    assert killed_while_writing(path, codec, 0)[0]
    assert [each.name for each in folder.iterdir()] == ["latents.h5"]


def test_a_killed_writer(tmp_path):
    check_kills(tmp_path, "deflate", 2)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_many_killed_writers(tmp_path, codec):
    check_kills(tmp_path, codec, 20)


FILL = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
import numpy as np
from latent_damage import everything
from latent_files import write
from ngvae_tools.errors import OutputError
from ngvae_tools.files import replacing
path = Path(sys.argv[1])
values = np.random.default_rng(0).normal(size=(100_000, 4))
before = path.read_bytes()
for _ in range(3):
    try:
        with replacing(path) as part:
            write(part, values, codec=sys.argv[3])
    except OutputError as error:
        print(error.found)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]
# The process is whole: it still writes and reads.
path.unlink()
write(path, values[:100], codec=sys.argv[3])
everything(path)
"""


@pytest.mark.parametrize("codec", ["deflate", "archive"])
@pytest.mark.parametrize("size", ["40k", "100k", "250k"])
def test_a_full_disk(tmp_path, codec, size):
    with small_disk(tmp_path / "disk", size) as disk:
        sample("deflate", disk / "latents.h5")
        assert run_python(FILL, disk / "latents.h5", TESTS, codec) == "No space left on device\n" * 3


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_a_limit_of_the_size_of_files(tmp_path, codec):
    path = sample("deflate", tmp_path / "latents.h5")
    assert run_python(LIMIT_FILES + FILL, path, TESTS, codec) == "File too large\n" * 3


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_a_folder_that_cannot_be_written(tmp_path, codec):
    (tmp_path / "file").write_text("old")

    def attempt(path):
        with replacing(path) as part:
            write(part, np.zeros((3, 2)), codec=codec)

    with pytest.raises(OutputError, match="check the place"):
        attempt(tmp_path / "file" / "latents.h5")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
