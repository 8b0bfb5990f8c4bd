"""Open whatever holds images."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ngvae_tools.datasets.detection import Remote, kind_of, remote_kind
from ngvae_tools.datasets.places import Place, location_of, lost_slash, place_of
from ngvae_tools.errors import DatasetError, OptionError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ngvae_tools.contract import Resize
    from ngvae_tools.datasets.base import ImageDataset, ImageShape, Kind

_WITH_KEYS: frozenset[Kind | None] = frozenset({"hdf5", "npz", "zarr", "parquet", "arrow", None})
_BACKENDS: dict[Kind, tuple[str, str]] = {
    "folder": ("folder", "FolderImages"),
    "tar": ("tar", "TarImages"),
    "hdf5": ("hdf5", "HDF5Images"),
    "npz": ("npz", "NpzImages"),
    "npy": ("npy", "NpyImages"),
    "zarr": ("zarr_store", "ZarrImages"),
    "parquet": ("parquet", "ParquetImages"),
    "arrow": ("arrow", "ArrowImages"),
    "smallnorb": ("smallnorb", "SmallNORBImages"),
    "cars3d": ("cars3d", "Cars3DImages"),
}
_ACCEPTED = (
    "a folder of images (PNG, JPEG, TIFF ...), an HDF5, .npz or .npy file, a Zarr store, tar, Parquet or Arrow files, "
    "SmallNORB's or Cars3D's files"
)


def open_dataset(
    path: str | os.PathLike[str],
    *,
    dataset_key: str | None = None,
    image_shape: ImageShape | None = None,
    dtype: npt.DTypeLike | None = None,
    resize: Resize | None = None,
) -> ImageDataset:
    """Open a folder of image files, a file or store of images, or a published data set as it is published.

    Files and stores: HDF5, .npz and .npy; Zarr; tar files as WebDataset keeps them; Parquet and Arrow files as
    Hugging Face's datasets keep them, or a folder of such files that holds no image file. dSprites (.npz or HDF5),
    3dshapes (HDF5), MPI3D (.npz or HDF5), SmallNORB (a folder, or one file of images) and Cars3D (a folder, or its
    archive) are known by what they hold.

    A URL that fsspec understands (`s3://`, `gs://`, `https://` ...), as text, may lead to a folder of images, an
    HDF5 or .npy file, a Zarr store, or tar, Parquet or Arrow files; that of a folder on the web ends in "/".

    Args:
        path: The folder or the file, or its URL.
        dataset_key: The name of an HDF5 file's dataset or of a .npz file's or Zarr group's array (None: images, imgs,
            x or data), or of the column of a Parquet or Arrow file (None: image, img ...).
        image_shape: (H, W, C) that every sample shall have; None: as found.
        dtype: uint8, uint16 or float32, as every sample shall be; None: as found.
        resize: How images of another size are brought to `image_shape`; None: they do not fit.

    Raises:
        DatasetError: There is nothing, nothing that can be used, or it may not be read.
        MissingDependencyError: A package that reads such data is not installed.
        OptionError: The options contradict each other or the data.
    """
    place = place_of(path)
    remote = remote_kind(place) if isinstance(place, str) else None
    kind = remote.kind if remote is not None else _kind_at(Path(place))
    if dataset_key is not None and kind not in _WITH_KEYS:
        raise _without_keys(place, kind, dataset_key)
    if remote is not None and kind == "folder":
        from ngvae_tools.datasets.remote_folder import RemoteFolderImages

        return RemoteFolderImages(
            remote.storage.url, image_shape=image_shape, dtype=dtype, resize=resize, found=remote.files
        )
    if kind is None:
        raise _no_data_set(place, remote)
    return _opener(place, kind, dataset_key)(image_shape=image_shape, dtype=dtype, resize=resize)


def _opener(place: Place, kind: Kind, key: str | None) -> Callable[..., ImageDataset]:
    """What opens data of a kind; libraries that only some data need load here."""
    module, name = _BACKENDS[kind]
    backend = getattr(importlib.import_module(f"ngvae_tools.datasets.{module}"), name)
    return partial(backend, place, dataset_key=key) if kind in _WITH_KEYS else partial(backend, place)


def _kind_at(path: Path) -> Kind | None:
    try:
        return kind_of(path)
    except OSError as error:
        remedy = "check the path and its permissions"
        if lost_slash(path):
            remedy = "give a URL as text: a Path loses one of its slashes"
        raise DatasetError(
            f"{path} cannot be opened",
            expected="a data set that may be read",
            found="nothing there" if isinstance(error, FileNotFoundError) else str(error.strerror),
            remedy=remedy,
        ) from error


def _without_keys(place: Place, kind: Kind | None, key: str) -> OptionError:
    is_folder = kind == "folder" or (isinstance(place, Path) and place.is_dir())
    name = place if isinstance(place, Path) else location_of(place)
    return OptionError(
        f"{name} is a folder" if is_folder else f"{name} has no keys",
        expected="an HDF5, .npz, Parquet or Arrow file or a Zarr store with --dataset-key",
        found=f"the key {key!r} for {'a folder' if kind == 'folder' else kind}",
        remedy="leave --dataset-key out",
    )


def _no_data_set(place: Place, remote: Remote | None) -> DatasetError:
    remedy = "name the folder that holds the images, or store them in HDF5 as images (N, H, W, C)"
    if isinstance(place, Path):
        ending = f"a single file ending in {place.suffix!r}" if place.suffix else "a single file"
        found = f"{ending} whose bytes are none of these" if place.stat().st_size else "an empty file"
    else:
        found = "a file of another kind"
        remedy = "copy the file here first, or end the address of a folder of images with a slash"
    return DatasetError(
        f"{place if remote is None else remote.storage.location} is not a data set",
        expected=_ACCEPTED,
        found=found,
        remedy=remedy,
    )
