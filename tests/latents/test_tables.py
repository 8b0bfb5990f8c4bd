import json
import os
import sys

import latent_files
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch.utils.data import DataLoader

from ngvae_tools.errors import MissingDependencyError
from ngvae_tools.latents.reader import LatentFile
from ngvae_tools.latents.tables import label_names

FACTORS = (("hue", "circular"), ("z1", "continuous"), ("latents", "categorical"))


def values_of(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def labels_of(n):
    labels = np.arange(3.0 * n).reshape(n, 3)
    labels[::4, 1] = np.nan
    return labels


@pytest.fixture
def opened(tmp_path):
    def make(n=50, d=3, kind="rows", **options):
        names = options.pop("names", None)
        names = latent_files.names_of(n, kind) if names is None else names
        latent_files.write(tmp_path / "latents.h5", values_of(n, d), names, **options)
        return LatentFile(tmp_path / "latents.h5")

    return make


class TestPandas:
    @pytest.mark.parametrize(("n", "d"), [(50, 3), (5000, 1), (0, 3), (7, 0), (1, 1)])
    def test_values_and_columns(self, opened, n, d):
        file = opened(n, d)
        frame = file.to_pandas()
        assert frame.columns.tolist() == [f"z{k}" for k in range(1, 2 * d, 2)]
        assert frame.index.name == "identifier"
        assert frame.index.tolist() == list(range(0, 3 * n, 3))
        assert frame.shape == (n, d)
        assert (frame.to_numpy() == file.to_numpy()).all()
        assert set(frame.dtypes) <= {np.dtype(np.float32)}

    def test_positions(self, opened):
        frame = opened(20, 6, positions=3).to_pandas()
        assert frame.columns.tolist() == ["z1_p0", "z3_p0", "z1_p1", "z3_p1", "z1_p2", "z3_p2"]

    def test_labels_follow_and_do_not_hide_latents(self, opened):
        labels = labels_of(50)
        frame = opened(labels=labels, factors=FACTORS).to_pandas()
        assert frame.columns.tolist() == ["z1", "z3", "z5", "hue", "z1_label", "latents"]
        np.testing.assert_array_equal(frame[["hue", "z1_label", "latents"]].to_numpy(), labels)

    def test_the_same_path_twice(self, opened):
        file = opened(4, 2, names=np.array([b"a", b"a", b"b", b"b"]), labels=labels_of(4), factors=FACTORS)
        frame = file.to_pandas()
        np.testing.assert_array_equal(frame["hue"].to_numpy(), labels_of(4)[:, 0])
        assert len(frame.loc["a"]) == 2
        assert file.to_xarray().sizes["image"] == 4

    def test_paths_that_are_not_utf8_lead_back(self, opened):
        names = np.array([b"a.png", b"caf\xc3\xa9.png", b"caf\xe9.png"])
        file = opened(3, 2, names=names)
        frame = file.to_pandas()
        assert frame.index.tolist() == ["a.png", "caf\u00e9.png", "caf\udce9.png"]
        for name, row in frame.iterrows():
            assert (file.by_id(name) == row.to_numpy()).all()
        assert [os.fsencode(name) for name in frame.index] == names.tolist()


class TestXarray:
    @pytest.mark.parametrize(("n", "d"), [(50, 3), (5000, 1), (0, 3), (7, 0)])
    def test_values_and_coordinates(self, opened, n, d):
        file = opened(n, d)
        dataset = file.to_xarray()
        assert dataset.latents.dims == ("image", "dimension")
        assert (dataset.latents.to_numpy() == file.to_numpy()).all()
        assert dataset.image.to_numpy().tolist() == file.identifiers.tolist()
        assert dataset.dimension.to_numpy().tolist() == list(range(1, 2 * d, 2))
        assert (dataset.posterior_variance.to_numpy() == 0.01).all()

    def test_selects_by_name_and_dimension(self, opened):
        file = opened(30, 3, "paths")
        found = file.to_xarray().latents.sel(image="17.png", dimension=3).item()
        assert found == file.by_id("17.png")[1]

    def test_positions_are_an_axis(self, opened):
        file = opened(20, 6, positions=3)
        latents = file.to_xarray().latents
        assert latents.dims == ("image", "position", "dimension")
        assert (latents.sel(dimension=3, position=2).to_numpy() == file[:, 5]).all()

    def test_labels_and_attributes(self, opened):
        labels = labels_of(50)
        file = opened(labels=labels, factors=FACTORS)
        dataset = file.to_xarray()
        for name, column in zip(("hue", "z1", "latents_label"), labels.T, strict=True):
            np.testing.assert_array_equal(dataset[name].to_numpy(), column)
        assert dataset.attrs["encoder_sha256"] == "e1" * 32
        assert "decoder_sha256" not in dataset.attrs
        assert json.loads(dataset.attrs["sources"])[0]["path"] == "/data"

    def test_can_be_written_as_netcdf(self, opened, tmp_path):
        dataset = opened(kind="paths", labels=labels_of(50), factors=FACTORS).to_xarray()
        dataset.to_netcdf(tmp_path / "latents.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / "latents.nc", engine="h5netcdf") as back:
            xr.testing.assert_identical(back.load(), dataset)


class TestClassesByName:
    NAMES = ("round", "long", "caf\udce9", r"caf\xe9", "a\0b")
    SHOWN = ("round", "long", r"caf\xe9", r"caf\xe9_class", r"a\x00b")

    @pytest.fixture
    def file(self, opened):
        labels = np.column_stack([np.arange(8.0) % 5, np.arange(8.0)])
        labels[3] = np.nan
        factors = (("kind", "categorical"), ("n", "categorical"))
        return opened(8, 2, labels=labels, factors=factors, classes=(self.NAMES, None))

    def expected(self):
        return [None if k == 3 else self.SHOWN[k % 5] for k in range(8)]

    def test_pandas(self, file):
        frame = file.to_pandas()
        assert frame["kind"].cat.categories.tolist() == list(self.SHOWN)
        assert frame["kind"].astype(object).where(frame["kind"].notna(), None).tolist() == self.expected()
        assert frame["n"].tolist()[4:] == [4, 5, 6, 7]

    def test_xarray(self, file, tmp_path):
        dataset = file.to_xarray()
        assert dataset["kind"].to_numpy().tolist() == self.expected()
        assert dataset["n"].to_numpy().tolist()[4:] == [4, 5, 6, 7]
        dataset.to_netcdf(tmp_path / "latents.nc", engine="h5netcdf")


@pytest.mark.parametrize(("package", "method"), [("xarray", "to_xarray"), ("pandas", "to_pandas")])
def test_a_missing_package_is_named_with_its_remedy(opened, monkeypatch, package, method):
    file = opened()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{package} is not installed.*'ngvae-tools\[tables\]'"):
        getattr(file, method)()


def test_names_of_labels_stay_apart():
    assert label_names(["a", "a", "a_label", "\udce9"], taken=["a"]) == [
        "a_label",
        "a_label_label",
        "a_label_label_label",
        "\\xe9",
    ]


@pytest.mark.parametrize("kind", ["rows", "paths"])
def test_xarray_opens_the_file_itself(opened, kind):
    file = opened(5000, 3, kind, labels=labels_of(5000), factors=FACTORS)
    with xr.open_dataset(file.path, engine="h5netcdf") as dataset:
        assert dataset.codes.dims == ("identifiers", "dimensions")
        assert dataset.labels.dims == ("identifiers", "factors")
        assert (dataset.codes.to_numpy() == file.codes(0, 5000)).all()
        assert (dataset.dimensions.to_numpy() == file.dimensions).all()
        decoded = dataset.offset + dataset.scale * dataset.codes
        assert (decoded.transpose("identifiers", "dimensions").to_numpy().astype(np.float32) == file.to_numpy()).all()
        assert dataset.identifiers.to_numpy().tolist() == file.identifiers.tolist()
        assert dataset.attrs["format"] == "ngvae-latents"


class TestTorch:
    def test_from_numpy(self, opened):
        file = opened(50, 3)
        tensor = torch.from_numpy(file.to_numpy())
        assert (tensor.dtype, tensor.shape) == (torch.float32, (50, 3))
        assert (tensor.numpy() == file[:]).all()

    def test_is_a_data_set_for_workers(self, opened):
        file = opened(9000, 3)
        file[0]
        batches = list(DataLoader(file, batch_size=100, num_workers=2))
        assert len(batches) == 90
        assert (torch.cat(batches).numpy() == file.to_numpy()).all()


@pytest.mark.parametrize("codec", ["deflate", "archive"])
def test_tables_of_either_codec(opened, codec):
    file = opened(5000, 2, codec=codec)
    assert (file.to_pandas().to_numpy() == file.to_xarray().latents.to_numpy()).all()


def test_pandas_keeps_text_as_objects(opened):
    frame = opened(5, 1, "paths").to_pandas()
    assert frame.index.dtype == object
    assert isinstance(frame, pd.DataFrame)
