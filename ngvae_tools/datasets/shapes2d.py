"""The renderer of the set dsprites-like: one white shape on black, of some shape, scale, orientation and place.

After dSprites (Matthey et al. 2017), but anti-aliased, and with shapes that look alike at no other orientation:
dSprites' own squares repeat after 90 degrees and its ellipses after 180, so that their orientation is no circle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Float = npt.NDArray[np.float32]

RADIUS = 0.66
"""Farthest point of a shape at scale 1 from its centre, in half-widths of the image."""

CHANNELS = 1

_BATCH = 32  # as many coverages of 64 x 64 in float32 stay inside a 1 MiB cache

# Lengths of the shapes, and how far the centroid and then the farthest point from it lie. First an arrowhead.
_TIP, _NOTCH, _WING, _TAIL = 1.0, -0.35, 0.6, -0.8
_ARROW_CENTROID = (_TIP + _NOTCH + _TAIL) / 3
_ARROW_FARTHEST = _TIP - _ARROW_CENTROID
# Half of a ring, whose centroid lies 4/(3 pi) (1 - r^3)/(1 - r^2) above the ring's centre.
_RING_INNER = 0.45
_RING_CENTROID = 4 / (3 * np.pi) * (1 - _RING_INNER**3) / (1 - _RING_INNER**2)
_RING_FARTHEST = float(np.hypot(1, _RING_CENTROID))
# Two bars of one thickness that share a corner; the centroid is measured from there.
_BAR, _LONG, _SHORT = 0.5, 1.6, 1.15
_AREA = _BAR * (_LONG + _SHORT - _BAR)
_BARS_X = _BAR * (_LONG * _BAR + _SHORT**2 - _BAR**2) / 2 / _AREA
_BARS_Y = _BAR * (_LONG**2 + (_SHORT - _BAR) * _BAR) / 2 / _AREA
_BARS_FARTHEST = float(max(np.hypot(_BARS_X, _LONG - _BARS_Y), np.hypot(_SHORT - _BARS_X, _BARS_Y)))


def render(factors: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.uint8]:
    """Factors (N, 5) shape, scale, orientation in radians, x, y give images (N, size, size, 1).

    Orientation turns clockwise as seen; x and y are the centroid in half-widths, y downwards.
    """
    images = np.empty((len(factors), size, size, 1), np.uint8)
    for shape, inside in enumerate((_arrowhead, _arch, _bars)):
        chosen = np.flatnonzero(factors[:, 0] == shape)
        for start in range(0, len(chosen), _BATCH):
            rows = chosen[start : start + _BATCH]
            across, along, unit = _turned(factors[rows, 1:].astype(np.float32), size)
            covered = inside(across, along, unit)
            covered += np.float32(0.5)
            np.clip(covered, 0, 1, out=covered)
            covered *= np.float32(255)
            covered += np.float32(0.5)
            images[rows, :, :, 0] = covered
    return images


def _turned(place: _Float, size: int) -> tuple[_Float, _Float, _Float]:
    """Pixel centres in the frames of shapes, in pixels: across and along (B, size, size), and the unit (B, 1, 1)."""
    half = np.float32(size / 2)
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    cosine, sine = np.cos(place[:, 1])[:, None], np.sin(place[:, 1])[:, None]
    dx = centres - (half * (1 + place[:, 2]))[:, None]
    dy = centres - (half * (1 + place[:, 3]))[:, None]
    across: _Float = (sine * dy)[:, :, None] + (cosine * dx)[:, None, :]
    along: _Float = (-cosine * dy)[:, :, None] + (sine * dx)[:, None, :]
    return across, along, (half * np.float32(RADIUS) * place[:, 0])[:, None, None]


def _arrowhead(across: _Float, along: _Float, unit: _Float) -> _Float:
    """Distance of pixels to the edge in pixels, positive inside; so do the other shapes."""
    unit = unit / np.float32(_ARROW_FARTHEST)
    np.abs(across, out=across)
    along += unit * np.float32(_ARROW_CENTROID)
    front, back = ((end - _TAIL) / _WING for end in (_TIP, _NOTCH))
    inside: _Float = unit * np.float32(_TIP) - along
    inside -= np.float32(front) * across
    inside /= np.float32(np.hypot(1, front))
    along -= unit * np.float32(_NOTCH)
    along += np.float32(back) * across
    along /= np.float32(np.hypot(1, back))
    np.minimum(inside, along, out=inside)
    return inside


def _arch(across: _Float, along: _Float, unit: _Float) -> _Float:
    unit = unit / np.float32(_RING_FARTHEST)
    along += unit * np.float32(_RING_CENTROID)
    radius = np.hypot(across, along, out=across)
    inside: _Float = np.minimum(unit - radius, radius - unit * np.float32(_RING_INNER))
    np.minimum(inside, along, out=inside)
    return inside


def _bars(across: _Float, along: _Float, unit: _Float) -> _Float:
    unit = unit / np.float32(_BARS_FARTHEST)
    across += unit * np.float32(_BARS_X)
    along += unit * np.float32(_BARS_Y)
    long: _Float = np.minimum(unit * np.float32(_BAR) - across, unit * np.float32(_LONG) - along)
    short = np.minimum(unit * np.float32(_SHORT) - across, unit * np.float32(_BAR) - along)
    np.maximum(long, short, out=long)
    np.minimum(long, across, out=long)
    np.minimum(long, along, out=long)
    return long
