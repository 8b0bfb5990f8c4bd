"""Open whatever holds images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from ngvae_tools.datasets.folder import FolderImages
from ngvae_tools.datasets.hdf5 import HDF5Images
from ngvae_tools.errors import DatasetError, OptionError

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

    from ngvae_tools.contract import Resize
    from ngvae_tools.datasets.base import ImageDataset, ImageShape


def open_dataset(
    path: str | os.PathLike[str],
    *,
    dataset_key: str | None = None,
    image_shape: ImageShape | None = None,
    dtype: npt.DTypeLike | None = None,
    resize: Resize | None = None,
) -> ImageDataset:
    """Open a folder of image files or an HDF5 file.

    Args:
        path: The folder or the file.
        dataset_key: HDF5 only: the dataset's name; None: images, imgs, x or data.
        image_shape: (H, W, C) that every sample shall have; None: as found.
        dtype: uint8, uint16 or float32, as every sample shall be; None: as found.
        resize: How images of another size are brought to `image_shape`; None: they do not fit.

    Raises:
        DatasetError: There is nothing, nothing that can be used, or it may not be read.
        OptionError: The options contradict each other or the data.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
        if not is_folder:
            with path.open("rb"):
                is_hdf5 = h5py.is_hdf5(path)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be opened",
            expected="a folder of images or an HDF5 file that may be read",
            found="nothing there" if isinstance(error, FileNotFoundError) else str(error.strerror),
            remedy="check the path and its permissions",
        ) from error
    if is_folder:
        if dataset_key is not None:
            raise OptionError(
                f"{path} is a folder",
                expected="an HDF5 file with --dataset-key",
                found=f"the key {dataset_key!r} for a folder",
                remedy="leave --dataset-key out",
            )
        return FolderImages(path, image_shape=image_shape, dtype=dtype, resize=resize)
    if not is_hdf5:
        raise DatasetError(
            f"{path} is not a data set",
            expected="a folder of images (PNG, JPEG, TIFF ...) or an HDF5 file",
            found=f"a single file ending in {path.suffix!r}" if path.suffix else "a single file that is not HDF5",
            remedy="name the folder that holds the images, or store them in HDF5 as images (N, H, W, C)",
        )
    return HDF5Images(path, dataset_key=dataset_key, image_shape=image_shape, dtype=dtype, resize=resize)
