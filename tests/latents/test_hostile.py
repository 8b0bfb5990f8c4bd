"""Files that somebody made to do harm are refused at once, with little memory, and touch nothing else."""

import json
import os
import resource
import time
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hdf5_bytes import blocks_of, repair
from latent_damage import everything, sample
from latent_files import write

from ngvae_tools.errors import RecordError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.structure import read_structure

N, SECONDS, MEMORY = 60, 5, 384 * 2**20


@contextmanager
def little_memory():
    """A process that may take only some more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def open_files():
    """Descriptors of files; other threads of the test's process may open pipes meanwhile."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found += os.readlink(descriptor).startswith("/")  # noqa: PTH115 - a pipe is no path
    return found


def refusal_of(path):
    """The text of the error of a file that is refused as it should be."""
    files, started = open_files(), time.monotonic()
    with little_memory(), pytest.raises(RecordError) as caught:
        everything(path)
    assert time.monotonic() - started < SECONDS
    assert "llocate" not in str(caught.value)
    del caught
    # Nothing is left open.
    assert open_files() <= files
    assert not h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_DATASET | h5py.h5f.OBJ_ATTR)
    return True


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound file of each kind, as bytes."""
    folder = tmp_path_factory.mktemp("sound")
    return {kind: sample(kind, folder / kind, n=N).read_bytes() for kind in ("deflate", "wide", "archive")}


@pytest.fixture
def changed(tmp_path, sound):
    """Makes a sound file, and lets a function change it with h5py."""

    def make(change, kind="deflate"):
        path = tmp_path / f"{kind}.h5"
        path.write_bytes(sound[kind])
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            change(file)
        return path

    return make


def test_a_sound_file_that_h5py_opened_to_write_is_read(changed):
    for kind in ("deflate", "wide", "archive"):
        everything(changed(lambda _: None, kind))


@pytest.mark.parametrize("codec", ["deflate", "archive"])
@pytest.mark.parametrize("shape", [(1, 1025), (2, 2049), (4097, 2), (3, 0), (0, 3), (0, 0)])
def test_sound_files_with_long_indices_and_empty_ones_are_read(tmp_path, codec, shape):
    write(tmp_path / "latents.h5", np.random.default_rng(0).normal(size=shape), codec=codec)
    everything(tmp_path / "latents.h5")
    assert LatentFile(tmp_path).to_numpy().shape == shape


def put(name, data=None, **options):
    """Another data set in place of one."""

    def change(file):
        old = file[name]
        given = {"chunks": old.chunks, "compression": 1, "shuffle": old.dtype.itemsize > 1} | options
        if given["chunks"] is None:
            given = options
        value = old[()] if data is None else data
        del file[name]
        file.create_dataset(name, data=value, **{key: value for key, value in given.items() if value is not None})

    return change


def like(name, value, place=0):
    """The same data set with one value changed."""

    def change(file):
        data = file[name][()]
        data[place] = value
        put(name, data)(file)

    return change


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target

    return change


def group(name):
    def change(file):
        del file[name]
        file.create_group(name)

    return change


def external(file):
    del file["scale"]
    path = Path(file.filename).with_name("other")
    path.write_bytes(np.ones(3).tobytes())
    file.create_dataset("scale", (3,), "<f8", external=[(str(path), 0, 24)])


def virtual(file):
    path = Path(file.filename).with_name("other.h5")
    with h5py.File(path, "w") as other:
        other["scale"] = np.ones(3)
    layout = h5py.VirtualLayout((3,), "<f8")
    layout[:] = h5py.VirtualSource(path, "scale", (3,))
    del file["scale"]
    file.create_virtual_dataset("scale", layout)


def created(name, shape, dtype, chunks, *, filters=((1, ()),), written=()):
    """A data set by the low-level interface, with filters that may not exist and chunks that may not fit."""

    def change(file):
        del file[name]
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(chunks)
        for number, values in filters:
            creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
        kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
        made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), creation)
        for place, data in written:
            made.write_direct_chunk(place, data)

    return change


SHUFFLED = ((2, (8,)), (1, (1,)))
PACKED = zlib.compress(bytes(24))
BOMB = zlib.compress(bytes(2**28), 9)

DATA_SETS = {
    "missing": lambda file: file.__delitem__("scale"),
    "no codes": lambda file: file.__delitem__("codes"),
    "group": group("scale"),
    "named type": link("scale", np.dtype("<f8")),
    "soft link": link("scale", h5py.SoftLink("/offset")),
    "soft link to itself": link("scale", h5py.SoftLink("/scale")),
    "external link": link("scale", h5py.ExternalLink("other.h5", "/scale")),
    "external link to a device": link("scale", h5py.ExternalLink("/dev/zero", "/scale")),
    "external storage": external,
    "virtual": virtual,
    "lzf": put("scale", compression="lzf"),
    "fletcher32": put("scale", fletcher32=True),
    "scale and offset": put("codes", compression=None, scaleoffset=0),
    "no filter": put("scale", compression=None, shuffle=None),
    "no shuffle": put("scale", shuffle=None),
    "shuffle of bytes": put("codes", shuffle=True),
    "n-bit": created("scale", (3,), "<f8", (3,), filters=((5, ()),)),
    "szip": created("codes", (N, 3), "u1", (N, 1), filters=((4, (4, 32)),)),
    "unknown filter": created("scale", (3,), "<f8", (3,), filters=((32_001, (1, 2)),)),
    "shuffle of other elements": created(
        "scale", (3,), "<f8", (3,), filters=((2, (4,)), (1, (1,))), written=[((0,), PACKED)]
    ),
    "contiguous": put("scale", chunks=None, compression=None, shuffle=None),
    "small chunks": put("codes", chunks=(7, 1)),
    "chunks of rows": put("codes", chunks=(N, 3)),
    "chunks that are too large": put("scale", chunks=(3,), maxshape=(3,), data=np.ones(2)),
    "growing": put("codes", maxshape=(None, 3)),
    "growing both ways": put("codes", maxshape=(None, None)),
    "never written": created("scale", (3,), "<f8", (3,), filters=SHUFFLED),
    "garbage": created("scale", (3,), "<f8", (3,), filters=SHUFFLED, written=[((0,), b"x" * 24)]),
    "too much": created("scale", (3,), "<f8", (3,), filters=SHUFFLED, written=[((0,), BOMB)]),
    "too little": created("scale", (3,), "<f8", (3,), filters=SHUFFLED, written=[((0,), zlib.compress(bytes(16)))]),
    "endless codes": created("codes", (2**60, 3), "u1", (4096, 1)),
    "many codes": created("codes", (2**33, 3), "u1", (4096, 1), written=[((0, 0), PACKED)]),
    "many columns": created("codes", (N, 2**24), "u1", (N, 1), written=[((0, 0), PACKED)]),
    "endless dimensions": created("dimensions", (2**60,), "<i8", (4096,), filters=SHUFFLED),
    "many dimensions": created("dimensions", (2**36,), "<i8", (4096,), filters=SHUFFLED, written=[((0,), PACKED)]),
    "endless identifiers": created("identifiers", (2**60,), "<i8", (4096,), filters=SHUFFLED),
    "chunks of gigabytes": created("codes", (2**31, 3), "u1", (2**31, 1), written=[((0, 0), PACKED)]),
    "wide identifiers": created("identifiers", (4096,), "S1000000", (4096,), filters=((2, (1_000_000,)), (1, (1,)))),
    "wide identifiers, written": created(
        "identifiers", (4000,), "S1000000", (4000,), filters=((2, (1_000_000,)), (1, (1,))), written=[((0,), PACKED)]
    ),
    "wider identifiers": created("identifiers", (N,), f"S{2**21}", (N,), filters=((2, (2**21,)), (1, (1,)))),
    "scalar": put("scale", np.float64(1.0), chunks=None, compression=None, shuffle=None),
    "null": put("scale", h5py.Empty("<f8"), chunks=None, compression=None, shuffle=None),
    "one axis of codes": put("codes", np.zeros(N, np.uint8), chunks=(N,)),
    "two axes of scale": put("scale", np.ones((3, 1)), chunks=(3, 1)),
    "two metadata": put("metadata", np.array([b"{}"] * 2), chunks=(2,)),
    "empty scale": created("scale", (0,), "<f8", (1,)),
    "text": put("scale", np.array([b"1"] * 3)),
    "text of variable length": put("identifiers", np.array(["a"] * N, object), dtype=h5py.string_dtype()),
    "lists": put("scale", np.array([np.ones(1)] * 3 + [None], object)[:3], dtype=h5py.vlen_dtype("f8")),
    "compound": put("scale", np.zeros(3, [("a", "<f8")])),
    "references": put("scale", np.array([h5py.Reference()] * 3, object), dtype=h5py.ref_dtype),
    "complex": put("scale", np.ones(3, complex)),
    "big-endian": put("scale", np.ones(3, ">f8")),
    "half": put("scale", np.ones(3, np.float16)),
    "single": put("scale", np.ones(3, np.float32)),
    "whole numbers": put("scale", np.ones(3, int)),
    "truth values": put("codes", np.ones((N, 3), bool)),
    "signed codes": put("codes", np.ones((N, 3), np.int8)),
    "double codes": put("codes", np.ones((N, 3))),
    "other codes": put("codes", np.ones((N, 3), np.uint16)),
    "opaque": put("scale", np.zeros(3, "V8")),
    "arrays": created("scale", (3,), np.dtype(("<f8", (2,))), (3,)),
    "float identifiers": put("identifiers", np.ones(N)),
    "small identifiers": put("identifiers", np.ones(N, np.int32)),
    "unsigned identifiers": put("identifiers", np.ones(N, np.uint64)),
    "fewer identifiers": put("identifiers", np.ones(N - 1, int), chunks=(N - 1,)),
    "fewer scales": put("scale", np.ones(2), chunks=(2,)),
    "fewer codes": put("codes", np.ones((N, 2), np.uint8)),
    "fewer means": put("fill", np.ones(3), chunks=(3,)),
    "zero scale": like("scale", 0.0),
    "scale NaN": like("scale", np.nan),
    "negative scale": like("scale", -1.0),
    "infinite scale": like("scale", np.inf),
    "tiny scale": like("scale", 5e-324),
    "huge scale": like("scale", 1e308),
    "offset NaN": like("offset", np.nan),
    "infinite offset": like("offset", np.inf),
    "huge offset": like("offset", 1e300),
    "offset that is no step": like("offset", 0.1),
    "dimension twice": like("dimensions", 3),
    "dimension beyond": like("dimensions", 7),
    "negative dimension": like("dimensions", -1),
    "huge dimension": like("dimensions", 2**63 - 1),
    "codes that are not those": like("codes", 7, (5, 1)),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_data_sets(changed, name):
    assert refusal_of(changed(DATA_SETS[name]))


def attribute(name, value, **options):
    def change(file):
        del file.attrs[name]
        file.attrs.create(name, value, **options)

    return change


def many_attributes(file):
    for k in range(50):
        file.attrs[f"a{k}"] = k


FIXED = h5py.string_dtype("utf-8", 8)
ATTRIBUTES = {
    "missing": lambda file: file.attrs.__delitem__("family"),
    "variable length": attribute("family", "gaussian"),
    "array": attribute("family", np.array([b"gaussian"])),
    "long array": attribute("threshold", np.zeros(5000)),
    "huge": attribute("family", np.bytes_(b"x" * 2**17)),
    "gigantic": attribute("family", np.bytes_(b"x" * 2**22)),
    "number for text": attribute("family", 5),
    "null": attribute("family", h5py.Empty("S8")),
    "compound": attribute("threshold", np.zeros((), [("a", "f8")])),
    "reference": attribute("threshold", h5py.Reference(), dtype=h5py.ref_dtype),
    "text for a number": attribute("threshold", np.bytes_(b"1")),
    "threshold NaN": attribute("threshold", np.nan),
    "infinite threshold": attribute("threshold", np.inf),
    "complex": attribute("threshold", 1j),
    "truth value": attribute("threshold", np.bool_(True)),
    "named type": lambda file: (
        file.__setitem__("kind", np.dtype("<f8")),
        file.attrs.__delitem__("threshold"),
        file.attrs.create("threshold", 1.0, dtype=file["kind"]),
    ),
    "many": many_attributes,
    "wrong hash": attribute("codes_sha256", np.bytes_(b"00" * 32)),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(changed, name):
    assert refusal_of(changed(ATTRIBUTES[name]))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("version", 2, "version 2, which a newer ngvae-tools wrote; install the newest ngvae-tools"),
        ("version", 1.5, "version 1.5, which a newer ngvae-tools wrote; install the newest"),
        ("version", 2**62, "a newer ngvae-tools wrote; install"),
        ("version", 0, "version 0, of before the format was settled; write it again with select-latents"),
        ("version", -1, "of before the format was settled; write it again"),
        ("version", np.nan, "version that is no number; write it again"),
        ("version", np.bytes_(b"1"), "version of another type or size; write it again"),
        ("format", np.bytes_(b"ngvae-models"), "found format 'ngvae-models'; write it again"),
    ],
)
def test_other_versions_and_formats(changed, name, value, words):
    path = changed(attribute(name, value))
    with pytest.raises(RecordError, match=words):
        LatentFile(path)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_other_hdf5_files(tmp_path, libver):
    with h5py.File(tmp_path / "latents.h5", "w", libver=libver) as file:
        file["images"] = np.zeros((5, 4, 4, 3), np.uint8)
        file.attrs["format"] = "ngvae-latents"
    with pytest.raises(
        RecordError, match=r"expected an HDF5 file of format 'ngvae-latents', version 1.*; (name|write) "
    ):
        LatentFile(tmp_path)


def test_a_file_that_is_open_to_write(tmp_path):
    path = sample("deflate", tmp_path / "latents.h5", n=N)
    with h5py.File(path, "r+"), pytest.raises(RecordError, match=r"another program writes to.*wait until it ends"):
        LatentFile(path)
    everything(path)


TEXTS = {
    "no JSON": "x",
    "no text": "",
    "number": "1",
    "list": "[]",
    "nothing": "null",
    "empty": "{}",
    "deep": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep lists": "[" * 500_000,
    "long": '"' + "x" * 1_000_000 + '"',
    "too long": "[" + "1," * 1_000_000 + "1]",
    "long number": "1" * 100_000,
    "no UTF-8": b'{"\xff"}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_metadata(changed, name):
    text = TEXTS[name]
    text = text if isinstance(text, bytes) else text.encode()
    assert refusal_of(changed(put("metadata", np.array([text or b"\0"], np.bytes_))))


VALUES = (
    *("null", "true", "[]", "{}", '""', '"x"', "-1", "1.5", "1e400", "NaN", "-Infinity", "1" * 400, '["a"]', '"1"'),
    *("[null]", "[[1]]", "[true, true, true]", '["1", "1", "1"]', "[1e999, 1, 1]", "[-1, 1, 1]", "[0.5, 0, 0]"),
    *('{"path": 1}', '[{"path": 1}]', "[[[[[[[[]]]]]]]]", "5", "0", "[300, 1, 1]", f"[{10**300}, 1, 1]"),
)
SOURCE = {"path": "a", "kind": "b", "fingerprint": "c", "n_rows": 1, "identifiers": ""}
HARMLESS = {
    ("decoder_sha256", "null"),
    ("decoder_sha256", '""'),
    ("decoder_sha256", '"x"'),
    ("decoder_sha256", '"1"'),
    ("distortion", "null"),
    ("distortion", "1.5"),
    ("distortion", "5"),
    ("entropy_bits", "null"),
    ("sources", "[]"),
    ("versions", "{}"),
    *((name, text) for name in ("hyperparameters", "preprocessing") for text in ("{}", '{"path": 1}')),
    *((name, "[0.5, 0, 0]") for name in ("max_error", "mean_squared_error", "entropy_bits")),
    *((name, "[300, 1, 1]") for name in ("max_error", "mean_squared_error", "entropy_bits")),
    *((name, f"[{10**300}, 1, 1]") for name in ("max_error", "mean_squared_error", "entropy_bits")),
}


def with_field(file, name, text):
    body = json.loads(file["metadata"][0])
    assert name in body
    body[name] = "HERE"
    put("metadata", np.array([json.dumps(body).replace('"HERE"', text).encode()], np.bytes_))(file)


@pytest.mark.parametrize(
    "name",
    [
        *("chunk_rows", "code_type", "codec", "decoder_sha256", "distortion", "entropy_bits", "hyperparameters"),
        *("latent_dim", "max_error", "mean_squared_error", "positions", "preprocessing", "shift", "sources"),
        *("steps_from", "versions"),
    ],
)
def test_every_field_of_the_metadata(changed, name):
    for text in VALUES:
        path = changed(lambda file, text=text: with_field(file, name, text))
        if (name, text) in HARMLESS:
            everything(path)
            continue
        assert refusal_of(path), text


@pytest.mark.parametrize("name", SOURCE)
@pytest.mark.parametrize("value", [None, [], {}, 1.5, True, -1])
def test_fields_of_sources(changed, name, value):
    if (name, value) == ("identifiers", -1):
        return
    path = changed(lambda file: with_field(file, "sources", json.dumps([SOURCE | {name: value}])))
    assert refusal_of(path)


def kinds(text):
    def change(file):
        del file["factors"].attrs["kinds"]
        file["factors"].attrs.create("kinds", np.bytes_(text))

    return change


LABELS = {
    "unknown kind": kinds(b"categorical,odd"),
    "one kind": kinds(b"categorical"),
    "three kinds": kinds(b"categorical,circular,circular"),
    "no kind": kinds(b","),
    "no kinds": lambda file: file["factors"].attrs.__delitem__("kinds"),
    "no factors": lambda file: file.__delitem__("factors"),
    "fewer factors": put("factors", np.array([b"a"]), chunks=(1,)),
    "fewer labels": put("labels", np.ones((N - 1, 2)), chunks=(N - 1, 1)),
    "more labels": put("labels", np.ones((N, 3))),
    "one axis": put("labels", np.ones(N), chunks=(N,)),
    "whole labels": put("labels", np.ones((N, 2), int)),
    "numbers for names": put("factors", np.ones(2)),
    "a link": link("labels", h5py.SoftLink("/codes")),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(changed, name):
    assert refusal_of(changed(LABELS[name], "wide"))


ARCHIVES = {
    "no checksums": lambda file: file.__delitem__("packed_crc32"),
    "no ends": lambda file: file.__delitem__("packed_ends"),
    "no blocks": lambda file: file.__delitem__("packed"),
    "codes": lambda file: (file.__delitem__("packed"), file.move("packed_ends", "codes")),
    "an end beyond": like("packed_ends", 2**40, 2),
    "an overlap": like("packed_ends", 2**40, 1),
    "an empty block": lambda file: like("packed_ends", file["packed_ends"][0], 1)(file),
    "a negative end": like("packed_ends", -1),
    "less than all": lambda file: like("packed_ends", file["packed_ends"][2] - 1, 2)(file),
    "another checksum": like("packed_crc32", 5),
    "fewer ends": put("packed_ends", np.ones(2, int), chunks=(2,)),
    "fewer checksums": put("packed_crc32", np.ones(2, "<u4"), chunks=(2,)),
    "float ends": put("packed_ends", np.ones(3)),
    "wide checksums": put("packed_crc32", np.ones(3, int)),
    "another block": lambda file: file["packed"].__setitem__(50, file["packed"][50] ^ 1),
    "blocks of two axes": put("packed", np.zeros((5, 5), np.uint8)),
    "blocks in chunks": put("packed", np.zeros(5, np.uint8), chunks=(5,)),
    "blocks of numbers": put("packed", np.zeros(5)),
    "fewer rows in a block": lambda file: with_field(file, "chunk_rows", "1"),
    "more rows in a block": lambda file: with_field(file, "chunk_rows", "65536"),
    "another codec": lambda file: with_field(file, "codec", '"deflate"'),
    "other codes": lambda file: with_field(file, "code_type", '"float32"'),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(changed, name):
    path = changed(ARCHIVES[name], "archive")
    if name == "more rows in a block":
        # The last block has what rows there are.
        everything(path)
        return
    assert refusal_of(path)


def endless(file):
    del file["packed"]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    h5py.h5d.create(file.id, b"packed", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((2**50,)), creation)


def test_endless_blocks(changed):
    assert refusal_of(changed(endless, "archive"))


def test_chunks_in_one_place(changed):
    """They would make much of little; the index of chunks is changed below HDF5."""
    path = changed(lambda _: None)
    codes = read_structure(path).arrays["codes"]
    data = bytearray(path.read_bytes())
    first, second = (int(codes.offsets[0, column]).to_bytes(8, "little") for column in (0, 1))
    block = next(
        block for block in blocks_of(data) if block.signature == b"FADB" and second in data[block.start : block.stop]
    )
    place = data.index(second, block.start)
    data[place : place + 8] = first
    repair(data, block)
    path.write_bytes(data)
    with pytest.raises(RecordError, match="codes with chunks that overlap"):
        LatentFile(path)


def directory(path):
    path.mkdir()


def full_directory(path):
    (path / "latents.h5").mkdir(parents=True)


PLACES = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "directory": directory,
    "directory of one": full_directory,
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "text": lambda path: path.write_text("hello\n" * 1000),
    "zeros": lambda path: path.write_bytes(bytes(10_000)),
    "large": lambda path: (path.touch(), os.truncate(path, 2**40)),
    "signature": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"),
    "signatures": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" * 1000),
    "process memory": lambda path: path.symlink_to("/proc/self/mem"),
}


@pytest.mark.parametrize("name", PLACES)
def test_places(tmp_path, name):
    PLACES[name](tmp_path / "place")
    assert refusal_of(tmp_path / "place")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x/" * 3000])
def test_names(tmp_path, name):
    assert refusal_of(tmp_path / name)


@pytest.mark.parametrize(
    "classes",
    [
        "{}",
        "[]",
        "[null]",
        "[null,null,null]",
        '["ab",null]',
        "[[1,2],null]",
        '[[["a"]],null]',
        '[["a","a"],null]',
        '[null,["a"]]',
        r'[["\ud800"],null]',
        f"[{json.dumps([str(k) for k in range(1001)])},null]",
        f'[["{"a" * 65_537}"],null]',
        "1",
    ],
)
def test_names_of_classes(changed, classes):
    assert refusal_of(changed(lambda file: with_field(file, "classes", classes), "wide"))
