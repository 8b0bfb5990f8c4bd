import json
import sys

import latent_files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngvae_tools.errors import MissingDependencyError, OptionError, OutputError, RecordError
from ngvae_tools.latents import neighbours
from ngvae_tools.latents.neighbours import nearest, weights_of
from ngvae_tools.latents.reader import LatentFile

# The compiled types of faiss lack what Python 3.12 warns of.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:builtin type (Swig|swig)\w+ has no __module__ attribute:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("neighbours")


def cloud(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def written(folder, values, **options):
    path = folder / "latents.h5"
    path.unlink(missing_ok=True)
    latent_files.write(path, values, **options)
    return LatentFile(path)


def by_definition(values, variance, query, count):
    """Rows and distances by the definition, one at a time, ties by row."""
    weights = [1 / np.sqrt(v) if v > 0 else 1.0 for v in variance]
    found = []
    for row, value in enumerate(values):
        found.append((sum(((q - float(z)) * w) ** 2 for q, z, w in zip(query, value, weights, strict=True)), row))
    found.sort()
    return [row for _, row in found[:count]], [square**0.5 for square, _ in found[:count]]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 40),
    d=st.integers(0, 4),
    count=st.integers(1, 50),
    block=st.integers(1, 20),
    levels=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    variance=st.sampled_from([1.0, 0.25, 4.0, 0.0]),
)
def test_equals_the_definition(folder, n, d, count, block, levels, seed, variance):
    rng = np.random.default_rng(seed)
    # Few levels make many ties, whole numbers and powers of two exact sums.
    values = rng.integers(levels, size=(n, d)).astype(np.float32)
    file = written(folder, values, variance=variance, lossless=True)
    queries = rng.integers(levels, size=(3, d)).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "BLOCK_BYTES", 8 * block)
        patch.setattr(neighbours, "_blocks", lambda file: (file[k : k + block] for k in range(0, len(file), block)))
        found = nearest(file, queries, count)
    assert found.rows.shape == found.distances.shape == (3, min(count, n))
    for query, rows, distances in zip(queries, found.rows, found.distances, strict=True):
        expected = by_definition(values, [variance] * d, query, count)
        assert (rows.tolist(), distances.tolist()) == expected


def test_equals_the_definition_for_real_numbers_in_blocks(folder, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 4096)
    variance = [0.001, 0.1, 4.0]
    file = written(folder, cloud(10_000, 3), variance=variance)
    queries = cloud(4, 3, seed=1)
    found = nearest(file, queries, 20)
    for query, rows, distances in zip(queries, found.rows, found.distances, strict=True):
        expected = by_definition(file.to_numpy(), variance, query.astype(float).tolist(), 20)
        assert rows.tolist() == expected[0]
        np.testing.assert_allclose(distances, expected[1], rtol=1e-12)


def test_positions_count_as_columns(folder):
    file = written(folder, cloud(100, 6), positions=3, variance=[0.01, 1.0])
    assert weights_of(file).tolist() == [10, 1] * 3
    query = file[17]
    found = nearest(file, query[None], 5)
    assert found.rows[0].tolist() == by_definition(file.to_numpy(), [0.01, 1] * 3, query.astype(float), 5)[0]


@pytest.mark.parametrize("variance", [0.0, 5e-324, 1e-300, [0.0, 1.0, 1e-310], 1e300])
def test_no_variance_gives_nan(folder, variance):
    file = written(folder, cloud(50, 3), variance=variance, lossless=True)
    found = nearest(file, np.vstack([file[3], np.full(3, 1e200)]), 50)
    assert not np.isnan(found.distances).any()
    assert found.rows[0, 0] == 3
    assert sorted(found.rows[1]) == list(range(50))


def test_constant_columns(folder):
    file = written(folder, np.full((20, 2), 0.7, np.float32), variance=0.0)
    found = nearest(file, file[:1], 3)
    assert (found.rows.tolist(), found.distances.tolist()) == ([[0, 1, 2]], [[0, 0, 0]])


def test_values_may_be_wide(folder):
    file = written(folder, cloud(30, 2))
    wide = LatentFile(file.path, dtype=np.float64)
    assert nearest(wide, wide[:2], 5).rows.tolist() == nearest(file, file[:2], 5).rows.tolist()


@pytest.mark.parametrize(
    ("queries", "count"),
    [(np.zeros(3), 1), (np.zeros((1, 2)), 1), (np.full((1, 3), np.nan), 1), (np.zeros((1, 3)), 0)],
)
def test_refuses_what_does_not_fit(folder, queries, count):
    with pytest.raises(OptionError):
        nearest(written(folder, cloud(5, 3)), queries, count)


def test_no_query(folder):
    found = nearest(written(folder, cloud(5, 3)), np.empty((0, 3)), 2)
    assert found.rows.shape == (0, 2)


class TestIndex:
    @pytest.fixture
    def index(self):
        pytest.importorskip("faiss")
        from ngvae_tools.latents import neighbour_index

        return neighbour_index

    @pytest.mark.parametrize(
        ("n", "d", "positions"), [(20_000, 5, 1), (5000, 1, 1), (3000, 6, 2), (30, 2, 1), (1, 1, 1)]
    )
    def test_finds_what_the_exact_search_finds(self, folder, index, n, d, positions):
        variance = np.linspace(0.01, 1, d // positions)
        file = written(folder, cloud(n, d), variance=variance, positions=positions)
        done = index.build_index(file, overwrite=True)
        assert (done.rows, done.bytes) == (n, index.index_path(file).stat().st_size)
        queries = np.vstack([cloud(30, d, seed=1), file[:20]])
        found, exact = index.NeighbourIndex(file).nearest(queries, 10), nearest(file, queries, 10)
        same = [len(np.intersect1d(a, b)) for a, b in zip(found.rows, exact.rows, strict=True)]
        assert np.mean(same) / exact.rows.shape[1] >= 0.995
        equal = (found.rows == exact.rows).all(axis=1)
        assert equal.mean() >= 0.95
        assert (found.distances[equal] == exact.distances[equal]).all()

    def test_more_than_its_cells_hold(self, folder, index, monkeypatch):
        monkeypatch.setattr(index, "CELLS_SEARCHED", 1)
        file = written(folder, cloud(500, 2))
        index.build_index(file, overwrite=True)
        queries = cloud(3, 2, seed=1)
        assert (index.NeighbourIndex(file).nearest(queries, 400).rows == nearest(file, queries, 400).rows).all()

    def test_is_the_same_again(self, folder, index):
        file = written(folder, cloud(3000, 3))
        index.build_index(file, overwrite=True)
        once = index.index_path(file).read_bytes()
        index.build_index(file, overwrite=True)
        assert index.index_path(file).read_bytes() == once
        assert json.loads(once[:1024])["codes_sha256"] == file.header.codes_sha256

    def test_stays_unless_told(self, tmp_path, index):
        file = written(tmp_path, cloud(30, 2))
        index.build_index(file)
        with pytest.raises(OutputError, match="--overwrite"):
            index.build_index(file)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.h5", "latents.h5.index"]

    def test_a_stale_index_is_refused(self, tmp_path, index):
        index.build_index(written(tmp_path, cloud(30, 2)))
        index.NeighbourIndex(LatentFile(tmp_path / "latents.h5"))
        for options in ({"values": cloud(30, 2, seed=1)}, {"values": cloud(30, 2), "variance": 0.04}):
            other = written(tmp_path, **options)
            with pytest.raises(RecordError, match=r"not the index of .* as it is now.*latents index"):
                index.NeighbourIndex(other)

    def test_other_units_of_the_same_codes_are_refused(self, tmp_path, index):
        values = np.zeros((30, 2), np.float32)
        index.build_index(written(tmp_path, values, variance=0.01))
        with pytest.raises(RecordError, match="scales_sha256"):
            index.NeighbourIndex(written(tmp_path, values, variance=0.02))

    def test_a_damaged_index_is_refused(self, tmp_path, index):
        file = written(tmp_path, cloud(300, 2))
        path = index.index_path(file)
        with pytest.raises(RecordError, match="has no index"):
            index.NeighbourIndex(file)
        index.build_index(file)
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[2000] ^= 1
        for data in (b"", b"[]".ljust(1024), whole[:1000], whole[:2000], bytes(flipped), b"\xff" * 2000):
            path.write_bytes(data)
            with pytest.raises(RecordError, match=r"cannot be read.*latents index"):
                index.NeighbourIndex(file)

    @pytest.mark.parametrize(("n", "d"), [(0, 2), (5, 0)])
    def test_nothing_to_index(self, folder, index, n, d):
        with pytest.raises(OptionError, match="cannot be indexed"):
            index.build_index(written(folder, cloud(n, d)), overwrite=True)

    def test_beyond_float32(self, folder, index):
        file = written(folder, cloud(30, 2), variance=1e-100, lossless=True)
        with pytest.raises(OptionError, match="fit float32"):
            index.build_index(file, overwrite=True)
        file = written(folder, cloud(30, 2))
        index.build_index(file, overwrite=True)
        far = np.full((1, 2), 1e200)
        assert (index.NeighbourIndex(file).nearest(far, 3).rows == nearest(file, far, 3).rows).all()

    def test_faiss_is_not_needed_but_named(self, folder, index, monkeypatch):
        file = written(folder, cloud(30, 2))
        monkeypatch.setitem(sys.modules, "faiss", None)
        for call in (index.build_index, index.NeighbourIndex):
            with pytest.raises(MissingDependencyError, match=r"faiss is not installed.*'ngvae-tools\[search\]'"):
                call(file)
        assert nearest(file, file[:1], 1).rows.tolist() == [[0]]
