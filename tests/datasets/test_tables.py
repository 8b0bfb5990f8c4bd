"""Images in columns of Parquet and Arrow files, good, damaged and hostile."""

import io
import json
import multiprocessing
import pickle
import threading

import numpy as np
import pytest
from dataset_contract import DatasetContract
from PIL import Image

from ngvae_tools.datasets import open_dataset
from ngvae_tools.datasets import tables as tables_module
from ngvae_tools.datasets.arrow import ArrowImages
from ngvae_tools.datasets.columns import class_names, factors_of
from ngvae_tools.datasets.parquet import ParquetImages
from ngvae_tools.errors import DatasetError
from ngvae_tools.workflows.supervised import open_labels

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RNG = np.random.default_rng(4)
N = 11
GOOD = [0, 1, 2, 5, 6, 7, 8, 9]


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def noise(n):
    return RNG.integers(0, 255, (n, 6, 8, 3)).astype(np.uint8)


def hugging_face(features):
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def rows(images):
    """As Hugging Face keeps them; 3 is null, 4 a path, 10 cut."""
    found = [{"bytes": png(image), "path": f"{k}.png"} for k, image in enumerate(images)]
    found[3] = None
    found[4] = {"bytes": None, "path": "/etc/passwd"}
    found[10]["bytes"] = found[10]["bytes"][:70]
    return found


def table_of(images):
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "label": pa.array([k % 3 - (k == 5) * 9 for k in range(len(images))]),
        "image": pa.array(rows(images), struct),
    }
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}
    return pa.table(columns).replace_schema_metadata(hugging_face(features))


def save_parquet(folder, table):
    folder.mkdir()
    pq.write_table(table.slice(0, 4), folder / "train-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(table.slice(4), folder / "train-00001-of-00002.parquet", row_group_size=5)
    return folder


def save_arrow(folder, table, form=pa.ipc.new_stream):
    """As `save_to_disk` does, its files in an order that their names do not tell."""
    folder.mkdir()
    names = ["data-b.arrow", "data-a.arrow"]
    for name, part in zip(names, (table.slice(0, 4), table.slice(4)), strict=True):
        with form(folder / name, table.schema) as writer:
            writer.write_table(part, max_chunksize=3)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


class TableContract(DatasetContract):
    @pytest.fixture
    def images(self):
        return noise(N)

    @pytest.fixture
    def dataset(self, path):
        with open_dataset(path) as dataset:
            assert dataset.key == "image"
            yield dataset

    @pytest.fixture
    def good(self, images):
        return GOOD, images[GOOD]

    @pytest.fixture
    def reopened(self, path):
        return lambda: open_dataset(path)


class TestParquetContract(TableContract):
    @pytest.fixture
    def path(self, tmp_path, images):
        return save_parquet(tmp_path / "d", table_of(images))


class TestBatchesOfOneRowContract(TableContract):
    @pytest.fixture
    def path(self, tmp_path, images, monkeypatch):
        monkeypatch.setattr(tables_module, "BATCH_BYTES", 1)
        monkeypatch.setattr("ngvae_tools.datasets.parquet.BATCH_BYTES", 1)
        monkeypatch.setattr(tables_module, "_KEPT", 1)
        pq.write_table(table_of(images), tmp_path / "d.parquet")
        return tmp_path / "d.parquet"


class TestArrowContract(TableContract):
    @pytest.fixture
    def path(self, tmp_path, images):
        return save_arrow(tmp_path / "d", table_of(images))


class TestArrowFileContract(TableContract):
    @pytest.fixture
    def path(self, tmp_path, images):
        with pa.ipc.new_file(tmp_path / "d.arrow", table_of(images).schema) as writer:
            writer.write_table(table_of(images), max_chunksize=4)
        return tmp_path / "d.arrow"


@pytest.fixture(params=["parquet", "arrow"])
def saved(request, tmp_path):
    images = noise(N)
    save = save_parquet if request.param == "parquet" else save_arrow
    return save(tmp_path / "d", table_of(images)), images


def test_reasons_and_identifiers(saved):
    with open_dataset(saved[0]) as dataset:
        assert isinstance(dataset, ParquetImages | ArrowImages)
        assert dataset.identifiers(2, 5).tolist() == [2, 3, 4]
        reasons = [r.reason for r in dataset.read(0, N)[1]]
    assert reasons[:2] == ["is null", "holds no bytes, only the path '/etc/passwd'"]
    assert "cannot be decoded" in reasons[2]


def test_class_labels_are_factors(saved):
    with open_dataset(saved[0]) as dataset:
        factors = dataset.factors()
        assert (factors.names, factors.kinds) == (("label",), ("categorical",))
        expected = np.array([k % 3 for k in range(N)], float)
        expected[5] = np.nan
        np.testing.assert_array_equal(factors.values[:, 0], expected)
        assert factors.classes == (("a", "b", "c"),)
        assert open_labels("auto", dataset).index.tolist() == list(range(N))


def _in_a_child(packed, answers):
    with pickle.loads(packed) as dataset:
        answers.put((dataset.read(0, len(dataset))[0].images, dataset.fingerprint()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_another_process_reads_the_same(saved, method):
    if method == "spawn" and saved[0].name == "arrow":
        pytest.skip("once is enough")
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    with open_dataset(saved[0]) as dataset:
        dataset.read(0, 3)
        child = context.Process(target=_in_a_child, args=(pickle.dumps(dataset), answers))
        child.start()
        images, fingerprint = answers.get(timeout=60)
        child.join()
        np.testing.assert_array_equal(images, dataset.read(0, N)[0].images)
        assert fingerprint == dataset.fingerprint()


def test_the_packing_does_not_change_the_fingerprint(tmp_path):
    table = table_of(noise(N))
    one = save_parquet(tmp_path / "one", table)
    pq.write_table(table, tmp_path / "two.parquet", compression="zstd")
    with open_dataset(one) as a, open_dataset(tmp_path / "two.parquet") as b:
        assert a.fingerprint() == b.fingerprint()


@pytest.mark.parametrize("column", ["img", "jpg", "face"])
def test_columns_are_found_by_name_or_alone(tmp_path, column):
    images = noise(3)
    columns = {column: [png(image) for image in images], "n": [1, 2, 3], "label": ["b", None, "a"]}
    if column != "face":
        columns["other"] = [b"x"] * 3
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with open_dataset(tmp_path / "a.parquet") as dataset:
        assert dataset.key == column
        np.testing.assert_array_equal(dataset.read(0, 3)[0].images, images)
        np.testing.assert_array_equal(dataset.factors().values[:, 0], [1, np.nan, 0])
    with pytest.raises(DatasetError, match=r"no column named 'n'.*binary.*--dataset-key"):
        open_dataset(tmp_path / "a.parquet", dataset_key="n")


def test_several_columns_are_listed(tmp_path):
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="a binary, b binary"):
        open_dataset(tmp_path / "a.parquet")
    with open_dataset(tmp_path / "a.parquet", dataset_key="b") as dataset:
        assert dataset.key == "b"
        assert dataset.factors() is None


def test_splits_are_named(tmp_path):
    (tmp_path / "d").mkdir()
    save_arrow(tmp_path / "d" / "train", table_of(noise(N)))
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DatasetError, match=r"several: train; name one, such as .*train"):
        open_dataset(tmp_path / "d")


@pytest.mark.parametrize("state", ['{"_data_files": [{"filename": "../x.arrow"}]}', "{}", "[", '{"_data_files": [3]}'])
def test_a_state_that_leads_elsewhere_is_refused(tmp_path, state):
    folder = save_arrow(tmp_path / "d", table_of(noise(N)))
    (folder / "state.json").write_text(state)
    with pytest.raises(DatasetError, match=r"state\.json"):
        open_dataset(folder)


def test_a_damaged_row_group_is_rejected_and_the_others_are_read(tmp_path):
    images = noise(9)
    table = pa.table({"image": [png(image) for image in images]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=3, compression="zstd", use_dictionary=False)
    about = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = about.data_page_offset
    content[start : start + about.total_compressed_size] = b"\xff" * about.total_compressed_size
    path.write_bytes(content)
    with open_dataset(path) as dataset:
        for _ in range(2):
            samples, rejections = dataset.read(0, 9)
            assert samples.index.tolist() == [0, 1, 2, 6, 7, 8]
            assert [r.index for r in rejections] == [3, 4, 5]
            assert "cannot be read" in rejections[0].reason
        assert len(dataset.read(4, 5)[1]) == 1


def test_a_file_that_is_cut(saved):
    files = sorted(saved[0].glob("*.*"))
    path = next(file for file in files if file.suffix in {".parquet", ".arrow"})
    path.write_bytes(path.read_bytes()[:-600])
    words = "undamaged Parquet" if path.suffix == ".parquet" else "the end of the file"
    with pytest.raises(DatasetError, match=words):
        open_dataset(saved[0])


def test_a_file_that_is_cut_later_rejects_what_is_gone(tmp_path):
    folder = save_arrow(tmp_path / "d", table_of(noise(N)))
    with open_dataset(folder) as dataset:
        path = folder / "data-a.arrow"
        path.write_bytes(path.read_bytes()[:-1500])
        samples, rejections = dataset.read(0, N)
        assert "ends after" in rejections[-1].reason
        assert len(samples) > 0
        assert np.isnan(dataset.factors().values[-1, 0])


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_of_arrow_files_are_read_rejected_or_refused(tmp_path, seed):
    table = table_of(noise(N))
    folder = save_arrow(tmp_path / "d", table)
    whole = (folder / "data-a.arrow").read_bytes()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            content[place] = rng.integers(256)
        (folder / "data-a.arrow").write_bytes(content)
        try:
            with ArrowImages(folder, image_shape=(6, 8, 3), dtype="uint8") as dataset:
                samples, rejections = dataset.read(0, min(len(dataset), 50))
                assert len(samples) + len(rejections) == min(len(dataset), 50)
        except DatasetError:
            pass


def test_offsets_that_lead_outside_are_rejected(tmp_path):
    batch = pa.record_batch({"image": [b"abcde"]})
    with pa.ipc.new_stream(tmp_path / "a.arrow", batch.schema) as writer:
        writer.write_batch(batch)
    content = (tmp_path / "a.arrow").read_bytes()
    true, false = (np.array([0, size], np.int32).tobytes() for size in (5, 2**31 - 1))
    place = content.rindex(true)
    (tmp_path / "a.arrow").write_bytes(content[:place] + false + content[place + 8 :])
    with open_dataset(tmp_path / "a.arrow", image_shape=(6, 8, 3), dtype="uint8") as dataset:
        assert "cannot be read" in dataset.read(0, 1)[1][0].reason


@pytest.mark.parametrize(
    "content",
    [b"PAR1", b"PAR1" + bytes(50) + b"PAR1", b"ARROW1\0\0", b"ARROW1\0\0\xff\xff\xff\xff\x08\0\0\0" + b"\xff" * 8],
)
def test_files_that_only_begin_like_one(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset(tmp_path / "a")


def test_an_empty_table_holds_no_image(tmp_path):
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="holds no image"):
        open_dataset(tmp_path / "a.parquet")


def test_nothing_stays_open(saved):
    before = threading.active_count()
    with open_dataset(saved[0]) as dataset:
        dataset.read(4, 6)
    assert not dataset._cursors
    assert threading.active_count() == before


@pytest.mark.slow
def test_memory_is_bounded_in_a_large_row_group(tmp_path):
    size = 2**20
    block = RNG.integers(0, 255, 2 * size).astype(np.uint8).tobytes()
    with pq.ParquetWriter(
        tmp_path / "a.parquet", pa.schema({"image": pa.binary()}), use_dictionary=False, write_batch_size=8
    ) as writer:
        writer.write_table(pa.table({"image": [block[k : k + size] for k in range(512)]}), row_group_size=512)
    with open_dataset(tmp_path / "a.parquet", image_shape=(6, 8, 3), dtype="uint8") as dataset:
        before = pa.total_allocated_bytes()
        for row in range(0, 512, 16):
            assert len(dataset.read(row, row + 16)[1]) == 16
            assert pa.total_allocated_bytes() - before < 320 * 2**20


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b", "c", "d"], ("a", "b", "c", "d")),
        (["a", "b"], None),
        (["a", "b", "b"], None),
        ([1, 2, 3], None),
        (None, None),
        (["a", "b", "\ud800"], ()),
    ],
)
def test_names_of_class_labels_that_fit_or_do_not(names, expected):
    schema = pa.schema([("label", pa.int64())], hugging_face({"label": {"_type": "ClassLabel", "names": names}}))
    assert factors_of({"label": [0, 2, None, -1]}, class_names(schema)).classes == (expected,)


def test_files_that_call_a_class_otherwise_leave_it_without_a_name(tmp_path):
    table = table_of(noise(N))
    (tmp_path / "d").mkdir()
    for file, names in (("a", ["a", "b", "c"]), ("b", ["b", "a", "c"])):
        about = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        pq.write_table(table.replace_schema_metadata(hugging_face(about)), tmp_path / "d" / f"{file}.parquet")
    with open_dataset(tmp_path / "d") as dataset:
        assert dataset.factors().classes == (None,)
