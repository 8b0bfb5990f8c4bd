"""Images that a report shows of an analysis: what each dimension does, and the data as its latents see them.

They are gathered by `ngvae_tools.workflows.pictures`. Every image is uint8, shape (h, w, c) with c = 1 (grey) or 3
(RGB), made small for a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ngvae_tools.reporting.words import plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Traversal:
    """One dimension moved alone, all others held as they are for one image.

    Attributes:
        dimension: Index k.
        informative: Whether the record's rule calls it so.
        values: Values of z_k, ascending, shape (F,).
        frames: The decoder's images of them, shape (F, h, w, c).
        change: Root mean square change of the image's values in [0, 1], before they were made small, against the
            frame in the middle, shape (F,).
    """

    dimension: int
    informative: bool
    values: tuple[float, ...]
    frames: Bytes
    change: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """Originals beside what the decoder makes of their latents (Fig. 2 of the paper).

    Attributes:
        names: Identifiers of n images.
        originals: Shape (n, h, w, c).
        decoded: From the latent file, dimensions that it does not keep at their mean, shape (n, h, w, c).
        error: Mean squared error of each, of values in [0, 1], before they were made small, shape (n,).
    """

    names: tuple[str, ...]
    originals: Bytes
    decoded: Bytes
    error: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Extremes:
    """The images with the least and the largest values of a dimension, of all images in the latent file.

    Attributes:
        dimension: Index k.
        low_names: Identifiers of the images with the least, the very least first.
        low_values: Their values of mu_k.
        low_images: Shape (n, h, w, c).
        high_names: Identifiers of those with the largest, the very largest last.
        high_values: Their values.
        high_images: Shape (n, h, w, c).
    """

    dimension: int
    low_names: tuple[str, ...]
    low_values: tuple[float, ...]
    low_images: Bytes
    high_names: tuple[str, ...]
    high_values: tuple[float, ...]
    high_images: Bytes


@dataclass(frozen=True, slots=True)
class Colouring:
    """What the points of a map may be coloured by.

    Attributes:
        name: Of the factor, or `z3`.
        categorical: Whether the values are codes of classes.
        values: One a point, shape (m,); NaN where it is not known.
        classes: What the classes are called, by code; empty where they are numbers.
    """

    name: str
    categorical: bool
    values: npt.NDArray[np.float64]
    classes: tuple[str, ...] = ()

    def called(self, value: float) -> str:
        """What a class is called: its name, or its number."""
        return plain(self.classes[int(value)]) if self.classes else f"{value:g}"


@dataclass(frozen=True, slots=True)
class LatentMap:
    """A sample of the images as points in the plane.

    Attributes:
        method: `PCA` or `UMAP`.
        units: What each latent was counted in before.
        points: Shape (m, 2).
        explained: Share of the variance in these units along each axis; None for UMAP.
        names: Identifiers of the images, m of them.
        thumbnails: Small images of them, shape (m, h, w, c); None where the data set is not at hand.
        colourings: What they can be coloured by.
        n_images: Images of the latent file, of which the m are a sample.
    """

    method: str
    units: str
    points: npt.NDArray[np.float64]
    explained: tuple[float, float] | None
    names: tuple[str, ...]
    thumbnails: Bytes | None
    colourings: tuple[Colouring, ...]
    n_images: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """All images of one analysis; what could not be made is None or empty, and `notes` say why.

    Attributes:
        traversals: Informative dimensions in the order of the record's table, then a few others.
        base: Identifier of the image whose other dimensions the traversals hold; empty where it is the mean.
        ranges: From where to where the traversals move a dimension, a sentence.
        reconstructed: Originals beside decoded images.
        extremes: One a kept dimension.
        map: The latents in the plane.
        decoder: Where the decoder file is that was used; None without one.
        data: Where the data set is that was read; None without one.
        notes: Sentences a reader must know: what is left out and how to have it.
    """

    traversals: tuple[Traversal, ...] = ()
    base: str = ""
    ranges: str = ""
    reconstructed: Reconstructed | None = None
    extremes: tuple[Extremes, ...] = ()
    map: LatentMap | None = None
    decoder: str | None = None
    data: str | None = None
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to see."""
        return bool(self.traversals or self.extremes or self.reconstructed or self.map)
