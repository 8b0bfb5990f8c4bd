"""The latents in the plane as an SVG of points and small images, which the page's script brings to life."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting.svg import COLOURS
from ngvae_tools.reporting.words import number, plain, plural, shortened

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ngvae_tools.reporting.page_images import Press, Sheet
    from ngvae_tools.reporting.pictures import Colouring, LatentMap

WIDTH, LOWEST, HIGHEST = 640, 300, 560  # of the drawing, and what its height may be
_MARGIN = 22
_CELL, _IMAGE = 62, 32  # one image at most a cell

STEPS = "abcdefghijklmnop"
"""Codes of a scale's colours, from the least value to the largest."""

CLASSES = "01234567"
"""Codes of the colours of classes; a factor of more has a scale."""

UNKNOWN = "x"

_NAME = 40
"""Characters of a class's name in a legend at most."""

_SCALE = ((47, 111, 208), (154, 85, 181), (217, 100, 28))  # each stands out on white and on near black


def map_view(found: LatentMap, press: Press) -> dict[str, Any]:
    """Drawing, legends and data of the map.

    Raises:
        TooLargeError: The budget of the page is spent.
    """
    sheet = None if found.thumbnails is None or not len(found.thumbnails) else press.grid(found.thumbnails)
    places, height = placed(found.points)
    codes = [coded(colouring) for colouring in found.colourings]
    order = [int(i) for i in places[:, 0].argsort(kind="stable")]
    data = embedded({"names": [plain(name) for name in found.names], "codes": codes, "order": order})
    from markupsafe import Markup

    images = [] if sheet is None else _images(places, sheet)
    press.spend(len(data) + 60 * len(order) + 120 * len(images))
    return {
        "method": plain(found.method),
        "axes": _axes(found),
        "sample": _sample(found),
        "width": WIDTH,
        "height": height,
        "sheet": sheet,
        "points": [
            (round(float(x), 1), round(float(y), 1), codes[0][i] if codes else STEPS[0])
            for i, (x, y) in enumerate(places)
        ],
        "images": images,
        "image_size": _IMAGE,
        "legends": [legend_of(colouring) for colouring in found.colourings],
        "colourings": [plain(colouring.name) for colouring in found.colourings],
        "json": Markup(data),  # noqa: S704 (no markup can be in it)
    }


def embedded(data: Any) -> str:
    """JSON that no HTML parser takes for markup, whatever the strings in it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def colours() -> list[tuple[str, str]]:
    """The colour of each code."""
    last = len(STEPS) - 1
    scale = [(code, _between(i / last)) for i, code in enumerate(STEPS)]
    return [*scale, *((code, COLOURS[i]) for i, code in enumerate(CLASSES))]


def gradient() -> str:
    """The scale as a CSS image."""
    return f"linear-gradient(90deg, {', '.join(_between(i / 4) for i in range(5))})"


def coded(colouring: Colouring) -> str:
    """A character a point that stands for its colour."""
    import numpy as np

    values = np.asarray(colouring.values, np.float64)
    known = np.isfinite(values)
    found = np.unique(values[known])
    result = np.full(len(values), UNKNOWN)
    if _by_class(colouring):
        result[known] = np.asarray(list(CLASSES))[np.searchsorted(found, values[known])]
    elif len(found):
        low, high = found[0] / 2, found[-1] / 2  # the difference of huge numbers may be no number
        share = (values[known] / 2 - low) / ((high - low) or 1.0)
        result[known] = np.asarray(list(STEPS))[(share * len(STEPS)).astype(int).clip(0, len(STEPS) - 1)]
    return "".join(result.tolist())


def placed(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], int]:
    """Points in the drawing's own units, both axes on one scale, and the height of the drawing."""
    import numpy as np

    low, high = points.min(axis=0), points.max(axis=0)
    wide, tall = (float(v) for v in high - low)
    height = HIGHEST if wide == 0 else round(min(max(WIDTH * tall / wide, LOWEST), HIGHEST))
    # An axis along which nothing varies leaves the scale to the other.
    room = ((WIDTH, wide), (height, tall))
    unit = min(((side - 2 * _MARGIN) / spread for side, spread in room if spread > 0), default=1.0)
    centre = np.asarray([WIDTH / 2, height / 2])
    return centre + (points - (low + high) / 2) * unit * (1, -1), height


def _images(places: npt.NDArray[np.float64], sheet: Sheet) -> list[tuple[float, float, str]]:
    """Images that are shown at their point without being asked for, with their place in the sheet as a view box."""
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for i, (x, y) in enumerate(places):
        cell = (int(x // _CELL), int(y // _CELL))
        off = math.hypot(x - (cell[0] + 0.5) * _CELL, y - (cell[1] + 0.5) * _CELL)
        best[cell] = min(best.get(cell, (math.inf, -1)), (off, i))
    return [
        (
            round(float(places[i, 0]) - _IMAGE / 2, 1),
            round(float(places[i, 1]) - _IMAGE / 2, 1),
            f"{i % sheet.columns * sheet.width} {i // sheet.columns * sheet.height} {sheet.width} {sheet.height}",
        )
        for _, i in sorted(best.values())
        if i < sheet.count
    ]


def _by_class(colouring: Colouring) -> bool:
    import numpy as np

    values = np.asarray(colouring.values, np.float64)
    return colouring.categorical and len(np.unique(values[np.isfinite(values)])) <= len(CLASSES)


def legend_of(colouring: Colouring) -> dict[str, Any]:
    """What says which colour is what: classes with their names, or the ends of the scale."""
    import numpy as np

    values = np.asarray(colouring.values, np.float64)
    found = np.unique(values[np.isfinite(values)])
    by_class = _by_class(colouring)

    def called(value: float) -> str:
        if by_class or colouring.classes:
            return shortened(colouring.called(value), _NAME)
        return number(float(value), 2)

    return {
        "name": plain(colouring.name),
        "classes": [(CLASSES[i], called(value)) for i, value in enumerate(found)] if by_class else [],
        "ends": [] if by_class or not len(found) else [called(found[0]), called(found[-1])],
        "unknown": bool(len(found) == 0 or not np.isfinite(values).all()),
    }


def _axes(found: LatentMap) -> str:
    method = f"{plain(found.method)} of the kept mu, each in units of {found.units}"
    if found.explained is None:
        return f"{method}: near points have similar latents; the axes have no meaning of their own."
    across, up = (f"{100 * share:.0f} %" for share in found.explained)
    return f"{method}: across, {across} of their variance; up, {up}."


def _sample(found: LatentMap) -> str:
    m = len(found.points)
    if m >= found.n_images:
        return f"All {plural(found.n_images, 'image', 'images')}."
    return f"A sample of {m:,} of {plural(found.n_images, 'image', 'images')}."


def _between(share: float) -> str:
    place = share * (len(_SCALE) - 1)
    i = min(int(place), len(_SCALE) - 2)
    part = place - i
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(_SCALE[i], _SCALE[i + 1], strict=True))
