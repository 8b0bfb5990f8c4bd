"""Images from folders, files and object storage, their true factors, and the paper's synthetic sprites."""

from ngvae_tools.contract import Resize
from ngvae_tools.datasets.base import ImageDataset, ImageShape, Rejection, Samples
from ngvae_tools.datasets.cars3d import Cars3DImages
from ngvae_tools.datasets.factor_sets import FACTOR_SETS, FactorSet, SetName
from ngvae_tools.datasets.factors import read_factors
from ngvae_tools.datasets.folder import FolderImages
from ngvae_tools.datasets.generated import SpritesSummary, write_sprites
from ngvae_tools.datasets.hdf5 import HDF5Images
from ngvae_tools.datasets.labels_csv import CSVLabels, read_csv_labels
from ngvae_tools.datasets.npy import NpyImages
from ngvae_tools.datasets.npz import NpzImages
from ngvae_tools.datasets.opening import open_dataset
from ngvae_tools.datasets.rows import RowImages
from ngvae_tools.datasets.smallnorb import SmallNORBImages
from ngvae_tools.datasets.sprite_factors import FACTOR_NAMES, FactorMode, sample_factors
from ngvae_tools.datasets.sprites import render
from ngvae_tools.datasets.tar import TarImages
from ngvae_tools.factors import Factors

__all__ = [
    "FACTOR_NAMES",
    "FACTOR_SETS",
    "CSVLabels",
    "Cars3DImages",
    "FactorMode",
    "FactorSet",
    "Factors",
    "FolderImages",
    "HDF5Images",
    "ImageDataset",
    "ImageShape",
    "NpyImages",
    "NpzImages",
    "Rejection",
    "Resize",
    "RowImages",
    "Samples",
    "SetName",
    "SmallNORBImages",
    "SpritesSummary",
    "TarImages",
    "open_dataset",
    "read_csv_labels",
    "read_factors",
    "render",
    "sample_factors",
    "write_sprites",
]
