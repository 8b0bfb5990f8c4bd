"""Open whatever holds images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from ngvae_tools.datasets.cars3d import FOLDERS, Cars3DImages, is_cars3d
from ngvae_tools.datasets.folder import FolderImages
from ngvae_tools.datasets.hdf5 import HDF5Images
from ngvae_tools.datasets.npz import NpzImages
from ngvae_tools.datasets.smallnorb import SmallNORBImages, is_smallnorb
from ngvae_tools.errors import DatasetError, OptionError

if TYPE_CHECKING:
    import numpy.typing as npt

    from ngvae_tools.contract import Resize
    from ngvae_tools.datasets.base import ImageDataset, ImageShape, Kind


def open_dataset(
    path: str | os.PathLike[str],
    *,
    dataset_key: str | None = None,
    image_shape: ImageShape | None = None,
    dtype: npt.DTypeLike | None = None,
    resize: Resize | None = None,
) -> ImageDataset:
    """Open a folder of image files, an HDF5 or .npz file, or a published data set as it is published.

    dSprites (.npz or HDF5), 3dshapes (HDF5), MPI3D (.npz or HDF5), SmallNORB (a folder, or one file of images) and
    Cars3D (a folder, or its archive) are known by what they hold.

    Args:
        path: The folder or the file.
        dataset_key: HDF5 and .npz only: the dataset's name; None: images, imgs, x or data.
        image_shape: (H, W, C) that every sample shall have; None: as found.
        dtype: uint8, uint16 or float32, as every sample shall be; None: as found.
        resize: How images of another size are brought to `image_shape`; None: they do not fit.

    Raises:
        DatasetError: There is nothing, nothing that can be used, or it may not be read.
        OptionError: The options contradict each other or the data.
    """
    path = Path(path)
    try:
        kind = _kind_of(path)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be opened",
            expected="a data set that may be read",
            found="nothing there" if isinstance(error, FileNotFoundError) else str(error.strerror),
            remedy="check the path and its permissions",
        ) from error
    if dataset_key is not None and kind not in {"hdf5", "npz", None}:
        raise OptionError(
            f"{path} is a folder" if path.is_dir() else f"{path} has no keys",
            expected="an HDF5 or .npz file with --dataset-key",
            found=f"the key {dataset_key!r} for {'a folder' if kind == 'folder' else kind}",
            remedy="leave --dataset-key out",
        )
    if kind == "folder":
        return FolderImages(path, image_shape=image_shape, dtype=dtype, resize=resize)
    if kind == "hdf5":
        return HDF5Images(path, dataset_key=dataset_key, image_shape=image_shape, dtype=dtype, resize=resize)
    if kind == "npz":
        return NpzImages(path, dataset_key=dataset_key, image_shape=image_shape, dtype=dtype, resize=resize)
    if kind == "smallnorb":
        return SmallNORBImages(path, image_shape=image_shape, dtype=dtype, resize=resize)
    if kind == "cars3d":
        return Cars3DImages(path, image_shape=image_shape, dtype=dtype, resize=resize)
    raise DatasetError(
        f"{path} is not a data set",
        expected="a folder of images (PNG, JPEG, TIFF ...), an HDF5 or .npz file, SmallNORB's or Cars3D's files",
        found=f"a single file ending in {path.suffix!r}" if path.suffix else "a single file that is not HDF5",
        remedy="name the folder that holds the images, or store them in HDF5 as images (N, H, W, C)",
    )


def _kind_of(path: Path) -> Kind | None:
    """What lies at a path; None: a file that is no data set. Raises `OSError`."""
    if path.is_dir():
        with os.scandir(path) as entries:
            names = {name for entry in entries if (name := entry.name).endswith((".mat", ".mat.gz")) or name in FOLDERS}
        if names and is_smallnorb(path):
            return "smallnorb"
        return "cars3d" if names and is_cars3d(path) else "folder"
    with path.open("rb") as file:
        head = file.read(4)
    if h5py.is_hdf5(path):
        return "hdf5"
    if head[:2] == b"PK":
        return "npz"
    if is_smallnorb(path):
        return "smallnorb"
    return "cars3d" if is_cars3d(path) else None
