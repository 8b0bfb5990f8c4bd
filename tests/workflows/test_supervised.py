"""Labels of a data set's images, found and measured."""

import h5py
import numpy as np
import pytest

from ngvae_tools.analysis.disentanglement import Settings
from ngvae_tools.datasets import open_dataset, read_factors
from ngvae_tools.errors import DatasetError
from ngvae_tools.reporting.known import factor_text
from ngvae_tools.workflows.supervised import measure_supervised, open_labels

SMALL = Settings(train=120, test=60, batch=16, trees=2)


def means(path):
    """Means that are the factors themselves, in another order."""
    return read_factors(path).values[:, [4, 3, 2, 1, 0]]


def test_labels_in_the_data_set_itself(sprites):
    with open_dataset(sprites) as dataset:
        labels = open_labels("auto", dataset)
    assert labels.source == str(sprites)
    index = np.array([190, 3, 77, *range(100, 180)])
    result = measure_supervised(labels, index, means(sprites)[index], settings=SMALL)
    assert result.n_images == 83
    assert [factor.name for factor in result.factors] == ["colour", "shape", "x", "y", "depth"]
    assert [np.argmax(row) for row in result.information] == [4, 3, 2, 1, 0]
    assert result.notes[0].startswith("With 83 images the information")


def test_a_sample_in_any_order_gives_the_labels_of_its_images(sprites, tmp_path):
    values = read_factors(sprites).values
    lines = [f"{row},{values[row, 1]:g},{values[row, 2]}" for row in np.random.default_rng(0).permutation(150)]
    (tmp_path / "a.csv").write_text("index,shape,x:continuous\n" + "\n".join([*lines, "900,1,1", "901,1,1"]) + "\n")
    with open_dataset(sprites) as dataset:
        labels = open_labels(tmp_path / "a.csv", dataset)
    index = np.random.default_rng(1).permutation(200)
    result = measure_supervised(labels, index, means(sprites)[index], settings=SMALL)
    assert result.n_images == 150
    assert result.notes[0] == "2 labels in a.csv belong to no image."
    assert result.notes[1] == "50 of the 200 images in the sample have no label and are left out."
    assert np.argmax(result.information[0]) == 3
    # Dimension 3 is the shape and dimension 2 is x: both are known in full, up to the cut into classes.
    assert result.information[0][3] == pytest.approx(np.log(3), abs=0.05)


def test_a_folder_and_its_labels(sprites, sprite_folder, tmp_path):
    values = read_factors(sprites).values
    lines = [f"{row:05d}.png,{values[row, 1]:g},{values[row, 4]}" for row in range(200)]
    (tmp_path / "a.csv").write_text("path,shape,depth\n" + "\n".join(lines) + "\n")
    with open_dataset(sprite_folder) as dataset:
        assert open_labels("auto", dataset) is None
        labels = open_labels(tmp_path / "a.csv", dataset)
    result = measure_supervised(labels, np.arange(200), means(sprites), settings=SMALL)
    assert result.n_images == 200
    assert [np.argmax(row) for row in result.information] == [3, 0]


def test_classes_are_called_by_name(sprites, tmp_path):
    shape = read_factors(sprites).values[:, 1].astype(int)
    words = [f"{k},{('<b>round', '', 'long')[shape[k]]},w{k}" for k in range(200)]
    more = [f"{k},long,w{k}" for k in range(200, 1001)]
    (tmp_path / "a.csv").write_text("\n".join(["index,kind,word", *words, *more]))
    with open_dataset(sprites) as dataset:
        labels = open_labels(tmp_path / "a.csv", dataset)
    assert labels.factors.classes == (("<b>round", "long"), ())
    result = measure_supervised(labels, np.arange(200), means(sprites), settings=SMALL)
    assert [(factor.name, factor.n_values, factor.classes) for factor in result.factors] == [
        ("kind", 2, ("<b>round", "long"))
    ]
    assert factor_text(result.factors[0]) == "kind (categorical, detected, 2 values: <b>round, long)"
    assert "The classes of word are numbered, their names left out: names are kept of up to 1,000" in result.notes[1]


def test_a_csv_file_in_the_folder_is_found(as_pngs, tmp_path):
    folder = as_pngs(tmp_path / "images", np.zeros((3, 4, 4, 1), np.uint8))
    (folder / "labels.csv").write_text("path,x\n00001.png,2\n")
    with open_dataset(folder) as dataset:
        labels = open_labels("auto", dataset)
    assert (labels.source, labels.index.tolist()) == (str(folder / "labels.csv"), [1])


def test_no_labels_at_all(as_h5, tmp_path):
    path = as_h5(tmp_path / "a.h5", np.zeros((3, 4, 4, 1), np.uint8))
    with open_dataset(path) as dataset:
        assert open_labels("auto", dataset) is None
        with pytest.raises(DatasetError, match="holds no labels"):
            open_labels(path, dataset)


def test_labels_that_do_not_fit_are_an_error_if_named_and_a_note_if_found(as_h5, tmp_path):
    path = as_h5(tmp_path / "a.h5", np.zeros((3, 4, 4, 1), np.uint8))
    with h5py.File(path, "a") as file:
        file["labels"] = np.arange(5)
    with open_dataset(path) as dataset:
        with pytest.raises(DatasetError, match="not of these images"):
            open_labels(path, dataset)
        labels = open_labels("auto", dataset)
    result = measure_supervised(labels, np.arange(3), np.zeros((3, 2)))
    assert (result.n_images, result.factors, result.mig) == (0, (), None)
    assert "The labels beside the data are not used: the labels in" in result.notes[0]


def test_labels_by_row_do_not_fit_a_folder(sprites, sprite_folder):
    with open_dataset(sprite_folder) as dataset, pytest.raises(DatasetError, match="labels by row number"):
        open_labels(sprites, dataset)


def test_labels_of_another_file_by_row(sprites, as_h5, tmp_path):
    path = as_h5(tmp_path / "a.h5", np.zeros((200, 4, 4, 1), np.uint8))
    np.savez(tmp_path / "labels.npz", latents_values=np.tile(np.arange(6.0), (200, 1)))
    with open_dataset(path) as dataset:
        assert open_labels(sprites, dataset).factors.values.shape == (200, 5)
        assert open_labels(tmp_path / "labels.npz", dataset).factors.names[3] == "orientation"
        with pytest.raises(DatasetError, match="found No such file"):
            open_labels(tmp_path / "none.csv", dataset)
