"""The renderer of the sets 3dshapes-like and 3dshapes-shifted: an object in a coloured room.

After 3dshapes (Burgess and Kim 2018), drawn in the plane and anti-aliased: a floor, two walls that meet in a corner,
and an object of some shape and size that stands on the floor. The orientation of the view moves the room's corner
and the lit side of the object. Colours lie on a circle in RGB, so that two dimensions hold a hue exactly.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Float = npt.NDArray[np.float32]

CHANNELS = 3

MAX_ANGLE = 30.0
"""Degrees; the orientation lies between this and its negative."""

_BATCH = 32
_HORIZON = 0.1  # half-widths below the middle
_GROUND = 0.85  # where the object stands
_CORNER = 0.8  # how far the corner of the walls moves from the middle
_DARK_WALL = 0.35
_DARK_SIDE = 0.25
# Half-width and height over the scale: box, cylinder, ball, pill.
_FORMS = ((1.15, 1.4), (0.6, 2.3), (1.0, 2.0), (0.45, 2.9))
_BOX, _BALL = 0, 2


def render(factors: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.uint8]:
    """Factors (N, 6) or (N, 7) give images (N, size, size, 3).

    Floor, wall and object hue in turns, scale in half-widths, shape (0 box, 1 cylinder, 2 ball, 3 pill), orientation
    in degrees, and the object's place x in half-widths, 0 where it is left out.
    """
    images = np.empty((len(factors), size, size, 3), np.uint8)
    shift = factors[:, 6] if factors.shape[1] > 6 else np.zeros(len(factors))
    view = np.column_stack([factors[:, 3], factors[:, 5] / MAX_ANGLE, shift]).astype(np.float32)
    floor, wall, thing = (255 * _colours(factors[:, k]) for k in range(3))
    for shape in range(len(_FORMS)):
        chosen = np.flatnonzero(factors[:, 4] == shape)
        for start in range(0, len(chosen), _BATCH):
            rows = chosen[start : start + _BATCH]
            covered, lit = _object(shape, view[rows], size)
            ground, bright = _room(view[rows], size)
            batch = np.empty((len(rows), size, size, 3), np.uint8)
            for channel in range(3):
                wall_row = bright * wall[rows, channel, None]
                floor_row = np.broadcast_to(floor[rows, channel, None], wall_row.shape)
                scene = wall_row[:, None, :] + ground[:, None] * (floor_row - wall_row)[:, None, :]
                scene += covered * ((lit * thing[rows, channel, None])[:, None, :] - scene)
                scene += np.float32(0.5)
                batch[..., channel] = scene
            images[rows] = batch
    return images


def _colours(hue: npt.NDArray[np.float64]) -> _Float:
    """RGB (N, 3) in [0, 1] of hues: a circle about grey, of the same lightness all around."""
    turns = hue[:, None] - np.arange(3) / 3
    return (0.5 + 0.5 * np.cos(2 * np.pi * turns)).astype(np.float32)


def _room(view: _Float, size: int) -> tuple[_Float, _Float]:
    """Share of every row that is floor (size,), and the walls' brightness along a row (B, size)."""
    half = np.float32(size / 2)
    edges = np.arange(size, dtype=np.float32)
    ground = np.clip(edges + 1 - half * np.float32(1 + _HORIZON), 0, 1)
    corner = (half * (1 + np.float32(_CORNER) * view[:, 1]))[:, None]
    right = np.clip(edges + 1 - corner, 0, 1)
    return ground, 1 - np.float32(1 - _DARK_WALL) * right


def _object(shape: int, view: _Float, size: int) -> tuple[_Float, _Float]:
    """Share of every pixel that the object covers (B, size, size), and its brightness along a row (B, size)."""
    half = np.float32(size / 2)
    centres = np.arange(size, dtype=np.float32) + np.float32(0.5)
    wide, tall = (np.float32(part) * half * view[:, :1] for part in _FORMS[shape])
    dx = centres - half * (1 + view[:, 2:3])
    up = half * np.float32(1 + _GROUND) - centres  # height over the ground
    covered: _Float
    if shape in {_BALL, len(_FORMS) - 1}:
        # Distance to the segment between the centres of the two caps, which are one for a ball.
        beyond = up - np.clip(up, wide, tall - wide)
        covered = (beyond * beyond)[:, :, None] + (dx * dx)[:, None, :]
        np.sqrt(covered, out=covered)
        np.subtract((wide + np.float32(0.5))[:, :, None], covered, out=covered)
        np.clip(covered, 0, 1, out=covered)
    else:
        across = np.clip(wide + np.float32(0.5) - np.abs(dx), 0, 1)
        covered = (np.clip(up + np.float32(0.5), 0, 1) * np.clip(tall - up + np.float32(0.5), 0, 1))[:, :, None]
        covered = covered * across[:, None, :]
    # A box turns its edge through the view; round things are lit by a gradient that turns with it.
    softness = np.float32(1) if shape == _BOX else wide
    turned = dx - np.float32(0.7) * wide * view[:, 1:2]
    dark = np.clip(turned / softness + np.float32(0.5), 0, 1)
    return covered, 1 - np.float32(1 - _DARK_SIDE) * dark
