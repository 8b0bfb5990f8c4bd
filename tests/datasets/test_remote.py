"""Data behind a URL: fsspec's memory file system, a local HTTP server, and storages that fail."""

import http.server
import io
import pickle
import re
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_contract import DatasetContract
from PIL import Image

from ngvae_tools.datasets import FolderImages, open_dataset, storage
from ngvae_tools.datasets.places import location_of, name_of, place_of
from ngvae_tools.datasets.sources import batched, source_of
from ngvae_tools.errors import DatasetError, MissingDependencyError

fsspec = pytest.importorskip("fsspec")

RNG = np.random.default_rng(6)


def noise(n=6):
    return RNG.integers(0, 255, (n, 6, 8, 3)).astype(np.uint8)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))


@pytest.fixture
def folder(tmp_path):
    """Images as every kind that can be remote; the folder of PNGs has two bad ones."""
    images = noise()
    for k, image in enumerate(images):
        path = tmp_path / "images" / f"sub{k % 2}" / f"{k} [*]é.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (tmp_path / "images" / "sub0" / "bad.png").write_bytes(b"")
    (tmp_path / "images" / "sub1" / "1 cut.png").write_bytes(png(images[0])[:70])
    (tmp_path / "images" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "images" / "notes.txt").write_text("x")
    np.save(tmp_path / "a.npy", images)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=images, chunks=(2, 6, 8, 3), compression="gzip")
        file["labels"] = np.arange(6)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for k, image in enumerate(images):
            info = tarfile.TarInfo(f"{k}.png")
            info.size = len(png(image))
            tar.addfile(info, io.BytesIO(png(image)))
    return tmp_path, images


def upload(root):
    url = f"memory://{uuid.uuid4().hex}"
    fs = fsspec.filesystem("memory")
    for path in root.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{url}/{path.relative_to(root).as_posix()}", path.read_bytes())
    return url


@pytest.fixture
def url(folder):
    url = upload(folder[0])
    yield url
    fsspec.filesystem("memory").rm(url, recursive=True)


class TestRemoteFolderContract(DatasetContract):
    @pytest.fixture
    def dataset(self, url):
        with open_dataset(f"{url}/images") as dataset:
            assert dataset.kind == "folder"
            yield dataset

    @pytest.fixture
    def good(self, folder):
        return [0, 1, 2, 4, 6, 7], folder[1][[0, 2, 4, 1, 3, 5]]

    @pytest.fixture
    def reopened(self, url):
        return lambda: open_dataset(f"{url}/images/")


class RemoteFileContract(DatasetContract):
    spotless = True
    name = ""

    @pytest.fixture
    def dataset(self, url):
        with open_dataset(f"{url}/{self.name}") as dataset:
            yield dataset

    @pytest.fixture
    def good(self, folder):
        return list(range(6)), folder[1]

    @pytest.fixture
    def reopened(self, folder):
        # The copy here has the same fingerprint.
        return lambda: open_dataset(folder[0] / self.name)


class TestRemoteNpyContract(RemoteFileContract):
    name = "a.npy"


class TestRemoteHDF5Contract(RemoteFileContract):
    name = "a.h5"


class TestRemoteTarContract(RemoteFileContract):
    name = "a.tar"


class TestRemoteParquetContract(RemoteFileContract):
    name = "a.parquet"

    @pytest.fixture
    def folder(self, folder):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"image": list(map(png, folder[1]))}), folder[0] / "a.parquet", row_group_size=4)
        return folder


class TestRemoteArrowContract(RemoteFileContract):
    name = "a.arrow"

    @pytest.fixture
    def folder(self, folder):
        pa = pytest.importorskip("pyarrow")
        table = pa.table({"image": list(map(png, folder[1]))})
        with pa.ipc.new_stream(folder[0] / "a.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
        return folder


class TestRemoteZarrContract(RemoteFileContract):
    name = "a.zarr"

    @pytest.fixture
    def folder(self, folder):
        pytest.importorskip("zarr").create_array(str(folder[0] / "a.zarr"), data=folder[1], chunks=(4, 6, 8, 3))
        return folder


def test_a_remote_folder_is_as_its_local_copy(folder, url):
    for options in ({}, {"image_shape": (5, 5, 3), "resize": "crop"}):
        with open_dataset(folder[0] / "images", **options) as here, open_dataset(f"{url}/images", **options) as there:
            assert isinstance(here, FolderImages)
            assert there.identifiers(0, 8).tolist() == here.identifiers(0, 8).tolist()
            assert there.fingerprint() == here.fingerprint()
            (found, bad), (expected, also_bad) = there.read(0, 8), here.read(0, 8)
            np.testing.assert_array_equal(found.images, expected.images)
            assert bad == also_bad


def test_factors_of_a_remote_file(url):
    with open_dataset(f"{url}/a.h5") as dataset:
        assert dataset.factors().values[:, 0].tolist() == list(range(6))


def test_folders_of_shards(folder, tmp_path):
    (tmp_path / "shards").mkdir()
    for name in ("0.tar", "1.tar"):
        (tmp_path / "shards" / name).write_bytes((tmp_path / "a.tar").read_bytes())
    with open_dataset(f"{upload(tmp_path / 'shards')}/") as dataset:
        assert (dataset.kind, len(dataset)) == ("tar", 12)
        np.testing.assert_array_equal(dataset.read(3, 9)[0].images, folder[1][[3, 4, 5, 0, 1, 2]])


def test_an_object_that_goes_is_rejected(url):
    with open_dataset(f"{url}/images") as dataset:
        dataset.read(0, 1)
        fsspec.filesystem("memory").rm_file(f"{url}/images/sub0/0 [*]é.png")
        (rejection, *_) = dataset.read(0, 8)[1]
        assert (rejection.index, rejection.reason) == (0, "is not there any more")


def test_places():
    assert place_of("s3://bucket/a b") == "s3://bucket/a b"
    assert place_of("simplecache::s3://b/x.npy") == "simplecache::s3://b/x.npy"
    assert place_of("file:///a/b") == Path("/a/b")
    assert place_of("a/b") == place_of(Path("a/b")) == Path("a/b")
    assert location_of("https://me:secret@host/a.npy?token=x") == "https://host/a.npy"
    assert [name_of(u) for u in ("s3://bucket/a/b.tar", "s3://bucket", "https://h/x/?q")] == ["b", "bucket", "x"]
    assert location_of(Path("a")) == str(Path("a").resolve())


def test_a_file_url_is_a_path(folder):
    with open_dataset(f"file://{folder[0]}/images") as dataset:
        assert isinstance(dataset, FolderImages)


def test_nothing_there(url, tmp_path):
    for place in (f"{url}/nowhere", f"{url}/nowhere/", "memory://nowhere-at-all"):
        with pytest.raises(DatasetError, match="nothing there"):
            open_dataset(place)
    with pytest.raises(DatasetError, match="give a URL as text"):
        open_dataset(Path("s3://bucket/folder"))
    with pytest.raises(DatasetError, match="copy the file here first"):
        open_dataset(f"{url}/images/notes.txt")


def test_protocols_that_are_not_known_or_not_installed():
    with pytest.raises(DatasetError, match="a protocol that fsspec knows"):
        open_dataset("nonsense://a/b")
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="pip install s3fs"):
            open_dataset("s3://bucket/folder")
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="pip install aiohttp"):
            open_dataset("https://localhost/a.npy")


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"ngvae-tools\[cloud\]"):
        open_dataset("s3://bucket/folder")


class Moody(fsspec.get_filesystem_class("memory")):
    """The memory file system, whose requests fail as often as told."""

    protocol = "moody"
    failures: int = 0
    error: Exception = OSError()
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("moody://", "memory://"))

    def _fail(self):
        if type(self).failures > 0:
            type(self).failures -= 1
            raise type(self).error

    def cat_file(self, path, start=None, end=None, **options):
        self._fail()
        return super().cat_file(path, start=start, end=end, **options)

    def info(self, path, **options):
        self._fail()
        return super().info(path, **options)


@pytest.fixture
def moody(url):
    fsspec.register_implementation("moody", Moody, clobber=True)
    Moody.failures = 0
    yield url.replace("memory://", "moody://")
    Moody.failures = 0


def test_a_storage_that_fails_within_a_file_ends_the_reading(moody):
    images = RNG.integers(0, 255, (64, 128, 128, 3)).astype(np.uint8)
    with h5py.File(buffer := io.BytesIO(), "w") as file:
        file.create_dataset("images", data=images, chunks=(4, 128, 128, 3))
    fsspec.filesystem("memory").pipe_file(f"{moody.replace('moody', 'memory')}/large.h5", buffer.getvalue())
    with open_dataset(f"{moody}/large.h5") as dataset:
        assert len(dataset.read(0, 4)[0]) == 4
        Moody.error, Moody.failures = ConnectionResetError("reset by peer"), 10**6
        with pytest.raises(DatasetError, match="reset by peer"):
            dataset.read(60, 64)
        Moody.failures = 0
        np.testing.assert_array_equal(dataset.read(60, 64)[0].images, images[60:])


LEFT_OPEN = """
import sys, fsspec
from ngvae_tools.datasets import open_dataset
with open(sys.argv[1], "rb") as file:
    fsspec.filesystem("memory").pipe_file("memory://a/a.h5", file.read())
dataset = open_dataset("memory://a/a.h5")
dataset.read(0, 5)
dataset.itself = dataset
"""


def test_a_remote_file_that_is_left_open_does_not_crash_the_end(folder):
    subprocess.run([sys.executable, "-c", LEFT_OPEN, folder[0] / "a.h5"], check=True)


@pytest.mark.parametrize("name", ["images", "a.npy", "a.h5", "a.tar"])
def test_requests_that_fail_are_made_again_and_then_end_the_reading(moody, folder, name):
    with open_dataset(f"{moody}/{name}") as dataset:
        Moody.error = ConnectionResetError("reset by peer")
        Moody.failures = 2
        assert len(dataset.read(0, 3)[0]) == 3
        dataset.close()
        Moody.failures = 10**6
        with pytest.raises(DatasetError, match="reset by peer; check the address and the network"):
            dataset.read(3, 6)
        Moody.failures = 0
        assert len(dataset.read(3, 6)[0]) + len(dataset.read(3, 6)[1]) == 3


def test_missing_credentials_and_unreachable_hosts_are_one_sentence(moody):
    class NoCredentialsError(Exception):
        pass

    for error, words in (
        (NoCredentialsError("Unable to locate credentials"), "AWS_ACCESS_KEY_ID"),
        (PermissionError("Forbidden"), "AWS_ACCESS_KEY_ID"),
        (OSError("Name or service\nnot known"), "Name or service not known; check the address and the network"),
    ):
        Moody.error, Moody.failures = error, 10**6
        with pytest.raises(DatasetError, match=words) as caught:
            open_dataset(f"{moody}/images")
        assert "\n" not in str(caught.value)


def test_small_parts_are_asked_for_together():
    assert [list(part) for part in batched([1, 2, 3, 4], [40 * 2**20] * 4)] == [[1], [2], [3], [4]]
    assert [len(part) for part in batched(range(130), [1] * 130)] == [64, 64, 2]
    assert not list(batched([], []))


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and ranges of its files where it is told to."""

    honest = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file() or not self.honest:
            super().do_GET()
            return
        part = path.read_bytes()[int(asked[1]) : int(asked[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


class Web(fsspec.AbstractFileSystem):
    """What fsspec's own HTTP file system does, without aiohttp."""

    protocol = "web"

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("web://").rstrip("/")

    def _get(self, path, **headers):
        url = "http://" + urllib.parse.quote(self._strip_protocol(path), safe="/:")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                return answer.read(), answer
        except urllib.error.HTTPError as error:
            raise (FileNotFoundError(path) if error.code == 404 else OSError(f"status {error.code}")) from error

    def info(self, path, **options):
        _, answer = self._get(path)
        is_folder = answer.url.endswith("/")
        return {
            "name": path,
            "type": "directory" if is_folder else "file",
            "size": int(answer.headers["Content-Length"]),
        }

    def ls(self, path, detail=True, **options):
        body = self._get(path + "/")[0]
        names = [urllib.parse.unquote(name) for name in re.findall(r'href="([^"]+)"', body.decode())]
        found = [
            {"name": f"{path}/{name.rstrip('/')}", "type": "directory" if name.endswith("/") else "file", "size": None}
            for name in names
        ]
        return found if detail else [each["name"] for each in found]

    def cat_file(self, path, start=None, end=None, **options):
        headers = {} if start is None else {"Range": f"bytes={start}-{end - 1}"}
        return self._get(path, **headers)[0]


@pytest.fixture
def web(folder):
    fsspec.register_implementation("web", Web, clobber=True)
    handler = type("Handler", (Ranges,), {})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: handler(*args, directory=str(folder[0]))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"web://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_data_on_a_web_server(folder, web):
    with open_dataset(f"{web[0]}/images/") as there, open_dataset(folder[0] / "images") as here:
        np.testing.assert_array_equal(there.read(0, 8)[0].images, here.read(0, 8)[0].images)
        assert there.fingerprint() == here.fingerprint()
    for name in ("a.npy", "a.h5", "a.tar"):
        with open_dataset(f"{web[0]}/{name}") as dataset:
            np.testing.assert_array_equal(dataset.read(1, 5)[0].images, folder[1][1:5])
            assert len(pickle.loads(pickle.dumps(dataset)).read(0, 2)[0]) == 2


def test_a_server_that_answers_with_the_whole_file_is_refused(web):
    web[1].honest = False
    with pytest.raises(DatasetError, match="range of bytes"):
        open_dataset(f"{web[0]}/a.npy").read(0, 2)


def test_a_file_object_over_ranges_reads_as_a_file(folder, url):
    rng = np.random.default_rng(0)
    content = (folder[0] / "a.h5").read_bytes()
    with source_of(f"{url}/a.h5").open(100) as file:
        for _ in range(200):
            start, length = int(rng.integers(0, len(content) + 50)), int(rng.integers(0, 900))
            file.seek(start)
            assert file.read(length) == content[start : start + length]
        assert file.seek(-3, io.SEEK_END) == len(content) - 3
        assert file.read() == content[-3:]
