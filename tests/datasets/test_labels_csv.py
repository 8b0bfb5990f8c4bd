"""Labels in CSV files: matching, kinds, and everything that may be wrong with a file."""

import os

import numpy as np
import pytest
from PIL import Image

from ngvae_tools.datasets import open_dataset, read_csv_labels
from ngvae_tools.errors import DatasetError


@pytest.fixture
def folder(tmp_path):
    """Six images: a/0.png to a/2.png, b/0.png to b/2.png."""
    root = tmp_path / "images"
    for place in ("a", "b"):
        (root / place).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (4, 4), number).save(root / place / f"{number}.png")
    return root


@pytest.fixture
def read(tmp_path):
    def of(text, dataset):
        path = tmp_path / "labels.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_csv_labels(path, open_dataset(dataset))

    return of


def test_images_are_matched_in_any_order_and_what_is_left_over_counted(folder, read):
    labels = read("path,shape,size\nb/1.png,disc,1.5\nnone.png,x,1\n./a/2.png,box,2\na/0.png,disc,-1\n", folder)
    np.testing.assert_array_equal(labels.index, [0, 2, 4])
    np.testing.assert_array_equal(labels.factors.values, [[1, -1], [0, 2], [1, 1.5]])
    assert labels.factors.names == ("shape", "size")
    assert labels.factors.kinds == ("categorical", "continuous")
    assert labels.factors.declared == (False, False)
    assert labels.n_unmatched == 1


@pytest.mark.parametrize("key", ["path", "file", "Filename", " ID "])
def test_names_of_the_first_column(folder, read, key):
    assert read(f"{key},a\na/0.png,1\n", folder).index.tolist() == [0]


def test_declared_kinds(folder, read):
    labels = read("path,hue:circular,n: Continuous ,name with: colon:categorical\na/0.png,0.5,1,2\n", folder)
    assert labels.factors.names == ("hue", "n", "name with: colon")
    assert labels.factors.kinds == ("circular", "continuous", "categorical")
    assert labels.factors.declared == (True, True, True)


def test_bom_crlf_quotes_blank_lines_and_spaces(folder, read):
    text = b'\xef\xbb\xbf"path","the ""shape"", quoted",x\r\n\r\n"a/0.png","disc, round", 1 \r\na/1.png, box ,2e0\r\n'
    labels = read(text, folder)
    assert labels.factors.names == ('the "shape", quoted', "x")
    np.testing.assert_array_equal(labels.factors.values, [[1, 1], [0, 2]])


def test_empty_and_nan_are_missing(folder, read):
    labels = read("path,x,word\na/0.png,,\na/1.png,NaN,nan\na/2.png,2,b\nb/0.png,3,a\n", folder)
    np.testing.assert_array_equal(labels.factors.values[:, 0], [np.nan, np.nan, 2, 3])
    np.testing.assert_array_equal(labels.factors.values[:, 1], [np.nan, np.nan, 1, 0])
    assert labels.factors.classes == (None, ("a", "b"))
    # Whole numbers beside missing ones.
    assert labels.factors.kinds == ("categorical", "categorical")


def test_one_word_makes_a_column_text(folder, read):
    labels = read("path,x\na/0.png,10\na/1.png,9\na/2.png,1_0\n", folder)
    np.testing.assert_array_equal(labels.factors.values[:, 0], [0, 2, 1])
    assert labels.factors.kinds == ("categorical",)


def test_paths_that_are_no_text(folder, read):
    name = b"a/\xff \xc3\xa9,.png"
    os.rename(folder / "a" / "0.png", os.fsencode(folder) + b"/" + name)  # noqa: PTH104 (bytes)
    labels = read(b'path,x\n"' + name + b'",7\n', folder)
    assert open_dataset(folder).identifiers(*labels.index, labels.index[0] + 1).tolist() == [name]


def test_rows_of_an_hdf5_file(sprites, read):
    labels = read("index,x\n3,0.5\n0,1.5\n200,9\n", sprites)
    np.testing.assert_array_equal(labels.index, [0, 3])
    np.testing.assert_array_equal(labels.factors.values, [[1.5], [0.5]])
    assert labels.n_unmatched == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first column of .* found 'nothing'"),
        ("shape,path\n1,a/0.png\n", "a column named path .* found 'shape'"),
        ("path;shape\na/0.png;1\n", "a column named path"),
        ("index,x\n0,1\n", "a column named path"),
        ("path\na/0.png\n", "1 to 100 columns"),
        ("path," + ",".join(f"f{k}" for k in range(101)), "1 to 100 columns"),
        ("path,x,x:circular\n", "different names"),
        ("path,x,\n", "different names"),
        ("path,x:round\n", "found 'x:round'"),
        ("path,x\na/0.png,1\na/0.png,2\n", "line 3 of .* repeats an image"),
        ("path,x\na/0.png,1\n./a/0.png,2\n", "line 3 of .* repeats an image"),
        ("path,x\na/0.png,1,2\n", "line 2 of .* expected 2 values, found 3"),
        ("path,x\na/0.png\n", "expected 2 values, found 1"),
        ("path,x:continuous\na/0.png,big\n", "column 2 in line 2 of .* is declared continuous"),
        ("path,x:circular\na/0.png,inf\n", "is declared circular: expected a finite number"),
        ("path,x\n", "no label for an image .* found no line below the header"),
        ("path,x\nC:\\a\\0.png,1\n", "expected names such as 'a/0.png', found 'C:"),
        ('path,x\n"a/0.png,1\n', "is not CSV"),
        ('path,x\n"a"/0.png,1\n', "is not CSV"),
        ("path,x\n" + "a" * 200_000 + ",1\n", "is not CSV"),
        ("path,x\na/0.png,1\n".encode("utf-16"), "first column"),
    ],
)
def test_files_that_cannot_be_used(folder, read, text, words):
    with pytest.raises(DatasetError, match=words) as caught:
        read(text, folder)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,x\n0,1\n", "a column named index, found 'path'"),
        ("index,x\n1.5,1\n", "line 2 of .* names no row"),
        ("index,x\n-1,1\n", "names no row"),
        ("index,x\n1,1\n01,1\n", "line 3 of .* repeats an image"),
        ("index,x\n" + "9" * 30 + ",1\n", "names no row"),
        ("index,x\n500,1\n", "no label for an image .* expected names such as row 0, found row 500"),
    ],
)
def test_rows_that_cannot_be_used(sprites, read, text, words):
    with pytest.raises(DatasetError, match=words):
        read(text, sprites)


def test_files_that_cannot_be_read(folder, tmp_path):
    for path in (tmp_path / "none.csv", folder):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_csv_labels(path, open_dataset(folder))


def test_more_images_than_a_block(tmp_path, monkeypatch, folder, read):
    monkeypatch.setattr("ngvae_tools.datasets.labels_csv._BLOCK", 4)
    text = "path,x\n" + "".join(f"{place}/{n}.png,{n}\n" for place in "ba" for n in range(3))
    labels = read(text, folder)
    assert labels.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert labels.factors.values[:, 0].tolist() == [0, 1, 2, 0, 1, 2]
