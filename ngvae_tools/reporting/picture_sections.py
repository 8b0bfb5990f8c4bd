"""What the page shows of the images of an analysis: a card a dimension, pairs of images, and how they were shrunk."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ngvae_tools.reporting import facts
from ngvae_tools.reporting.costs import doubt_of
from ngvae_tools.reporting.map_section import map_view
from ngvae_tools.reporting.page_images import LEVELS, Fineness, Press, TooLargeError, kept_frames, middle
from ngvae_tools.reporting.words import decimals, number, plain, plural, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ngvae_tools.record import AnalysisRecord
    from ngvae_tools.reporting.pictures import Extremes, Pictures, Reconstructed, Traversal

_AROUND, _CARD, _PAIR = 4000, 1800, 320
# Bytes of the page around all images, those of a dimension, and a pair, at most, names apart.

_TRIED = 3  # dimensions that tell how large all will be
_SURPLUS = 1.5  # times the budget, so that a first few that are larger than most are no reason to give up


def picture_view(record: AnalysisRecord, pictures: Pictures, budget: int) -> dict[str, Any]:
    """Everything the template needs of the pictures, in the best quality that takes at most `budget` bytes.

    Without room even for the smallest, there are no images, and a note says so.
    """
    for fineness in LEVELS:
        try:
            return _view(record, pictures, Press(fineness, budget))
        except TooLargeError:
            continue
    none = dataclasses.replace(pictures, traversals=(), extremes=(), reconstructed=None, map=None)
    view = _view(record, none, Press(Fineness(), 1 << 40))
    view["notes"].append("The images are left out: they would make this page too large.")
    return view


def _view(record: AnalysisRecord, pictures: Pictures, press: Press) -> dict[str, Any]:
    informative = [t for t in pictures.traversals if t.informative]
    others = [t for t in pictures.traversals if not t.informative]
    press.spend(_AROUND)
    # The dimensions first: they are what the page is about, and what shows first that the budget is too small.
    cards, left_out = _cards(record, informative, pictures.extremes, press)
    view: dict[str, Any] = {
        "cards": cards,
        "others": [_card(record, t.dimension, t, None, press) for t in others],
        "change": _change_sentence(informative, others),
        "doubt": _doubt(record, pictures),
        "base": _base(pictures),
        "pairs": _pairs(pictures.reconstructed, press),
        "errors": _errors(pictures.reconstructed),
        "map": None if pictures.map is None or not press.fineness.mapped else map_view(pictures.map, press),
        "notes": [plain(note) for note in pictures.notes],
        "sources": _sources(pictures),
    }
    view["shown"] = bool(view["cards"] or view["others"] or view["pairs"] or view["map"])
    smaller = _smaller(press.fineness, left_out)
    if smaller and pictures:
        view["notes"].append(smaller)
    return view


def _cards(
    record: AnalysisRecord, traversals: Sequence[Traversal], extremes: Sequence[Extremes], press: Press
) -> tuple[list[dict[str, Any]], int]:
    """A card for each informative dimension of which there are images, and how many had to be left out."""
    moved = {t.dimension: t for t in traversals}
    ends = {e.dimension: e for e in extremes if record.dimensions[e.dimension].informative}
    order = [row.index for row in facts.ordered(record) if row.index in moved or row.index in ends]
    shown = order[: press.fineness.most]
    cards, budget = [], press.left
    for done, k in enumerate(shown, 1):
        cards.append(_card(record, k, moved.get(k), ends.get(k), press))
        # The first of them tell whether the rest can fit, which saves making most of what is too large.
        if done == _TRIED and (budget - press.left) * len(shown) > _SURPLUS * done * budget:
            raise TooLargeError
    return cards, len(order) - len(shown)


def _card(
    record: AnalysisRecord, k: int, traversal: Traversal | None, ends: Extremes | None, press: Press
) -> dict[str, Any]:
    press.spend(_CARD)
    return {
        "index": k,
        "facts": _brief(record, k),
        "traversal": None if traversal is None else _film(traversal, press),
        "ends": [] if ends is None else _ends(ends, press),
    }


def _brief(record: AnalysisRecord, k: int) -> list[str]:
    """What the numbers say of a dimension: its information, and the factor it knows most about."""
    information = record.dimensions[k].information
    texts = [] if information is None else [f"{decimals(information)} nats"]
    known = record.supervised
    if known is not None and known.information:
        best = max(range(len(known.factors)), key=lambda f: known.information[f][k])
        if record.dimensions[k].informative and known.information[best][k] > 0:
            texts.append(f"most about {plain(known.factors[best].name)} ({number(known.information[best][k], 2)} nats)")
    return texts


def _film(traversal: Traversal, press: Press) -> dict[str, Any]:
    kept = kept_frames(traversal.values, traversal.change, press.fineness.stride)
    values = [_z(traversal.values[i]) for i in kept]
    changes = [traversal.change[i] for i in kept]
    return {
        "sheet": press.strip(traversal.frames[kept]),
        "values": values,
        "changes": [number(change) for change in changes],
        "start": middle(changes),
        "low": values[0],
        "high": values[-1],
        "change": number(max(traversal.change)),
    }


def _z(value: float) -> str:
    """A value of z: two decimals say where on the slider it is, also near 0."""
    return f"{round(value, 2) + 0.0:.2f}" if abs(value) < 1e4 else number(value, 2)


def _ends(ends: Extremes, press: Press) -> list[dict[str, Any]]:
    sides = (
        ("least", ends.low_names, ends.low_values, ends.low_images),
        ("largest", ends.high_names, ends.high_values, ends.high_images),
    )
    return [
        {
            "side": side,
            "sheet": press.strip(images),
            "span": span((min(values), max(values)), 2),
            "alt": _listed(names, values, press),
        }
        for side, names, values, images in sides
        if len(images)
    ]


def _listed(names: Sequence[str], values: Sequence[float], press: Press) -> str:
    text = ", ".join(f"{plain(name)} ({number(value, 2)})" for name, value in zip(names, values, strict=True))
    press.spend(len(text.encode()))
    return text


def _pairs(found: Reconstructed | None, press: Press) -> list[dict[str, Any]]:
    """An original and its decoded image, for each."""
    if found is None:
        return []
    result = []
    for i, name in enumerate(found.names):
        press.spend(_PAIR + 2 * len(plain(name).encode()))
        original, decoded = (press.strip(images[i : i + 1]) for images in (found.originals, found.decoded))
        result.append({"name": plain(name), "error": number(found.error[i]), "original": original, "decoded": decoded})
    return result


def _errors(found: Reconstructed | None) -> str:
    return "" if found is None or not found.error else span((min(found.error), max(found.error)))


def _base(pictures: Pictures) -> str:
    if not pictures.traversals:
        return ""
    held = f"the latents of image {plain(pictures.base)}" if pictures.base else "their mean"
    start = "A slider starts in the middle of its range, not at the value that the dimension has there."
    return f"One dimension moves, all others are held at {held}. {plain(pictures.ranges)} {start}"


def _doubt(record: AnalysisRecord, pictures: Pictures) -> str:
    """A sentence where decoded images are shown of a decoder that was measured to be no better than none."""
    decoded = pictures.traversals or pictures.reconstructed
    return doubt_of(record.truncation) if decoded and record.truncation is not None else ""


def _change_sentence(informative: Sequence[Traversal], others: Sequence[Traversal]) -> str:
    """How much less an uninformative dimension changes, in numbers."""
    if not others:
        return ""
    most = number(max(max(t.change) for t in others))
    noun = "dimension" if len(others) == 1 else "dimensions"
    text = f"Moving the uninformative {noun} shown changes the image by at most {most}"
    if not informative:
        return f"{text}."
    peaks = [max(t.change) for t in informative]
    return f"{text}; moving an informative one by {span((min(peaks), max(peaks)))} at its ends."


def _sources(pictures: Pictures) -> str:
    parts = [
        f"{name} {plain(path)}"
        for name, path in (("the data", pictures.data), ("the decoder", pictures.decoder))
        if path
    ]
    return f"Made from {' and '.join(parts)}." if parts else ""


def _smaller(fineness: Fineness, left_out: int) -> str:
    """What was done to keep the page small; empty where nothing was."""
    if fineness.quality is None:
        return ""
    how = [f"compressed with losses (WebP, quality {fineness.quality})"]
    if fineness.side is not None:
        how.append(f"at most {fineness.side} pixels large")
    if fineness.stride > 1:
        how.append(f"with every {fineness.stride}nd frame of a traversal")
    if not fineness.mapped:
        how.append("and the map is left out")
    text = f"To keep this page small, its images are {', '.join(how)}."
    return text if not left_out else f"{text} {plural(left_out, 'dimension', 'dimensions')} are without images."
