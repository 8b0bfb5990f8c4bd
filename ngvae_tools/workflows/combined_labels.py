"""Labels of several latent files as those of one: columns of one name and kind, the classes of text by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.factors import ClassNames, kept_names, names_left_out
from ngvae_tools.reporting.words import plain

Array = npt.NDArray[np.float64]

_UNNAMED = "classes without names"


@dataclass(frozen=True, slots=True)
class FileLabels:
    """The labels of a file.

    Attributes:
        file: What the file is called.
        factors: Their names and kinds.
        classes: The names of each one's classes.
        read: Their values of the rows start <= row < stop, shape (n, F).
    """

    file: str
    factors: tuple[tuple[str, str], ...]
    classes: tuple[ClassNames, ...]
    read: Callable[[int, int], Array]


@dataclass(frozen=True, slots=True)
class CombinedLabels:
    """The labels of all files together.

    Attributes:
        factors: Names and kinds of those that are kept.
        classes: The names of each one's classes.
        notes: A sentence for each that is left out, or whose names are.
        files: The files; None: one without labels.
        columns: For each file and each label that is kept, which column of the file it is, and the code that each of
            the file's codes becomes; None: they stay. Empty for a file without labels.
    """

    factors: tuple[tuple[str, str], ...]
    classes: tuple[ClassNames, ...]
    notes: tuple[str, ...]
    files: tuple[FileLabels | None, ...]
    columns: tuple[tuple[tuple[int, Array | None], ...], ...]

    def rows(self, number: int, start: int, stop: int) -> Array:
        """Labels of the rows start <= row < stop of the file of that number, (n, F); NaN where it has none.

        Raises:
            RecordError: The file is damaged.
        """
        file = self.files[number]
        if file is None:
            return np.full((stop - start, len(self.factors)), np.nan)
        found = file.read(start, stop)[:, [place for place, _ in self.columns[number]]]
        for k, (_, codes) in enumerate(self.columns[number]):
            if codes is not None:
                known = ~np.isnan(found[:, k])
                found[known, k] = codes[found[known, k].astype(np.int64)]
        return found


def combined_labels(parts: Sequence[FileLabels | None]) -> CombinedLabels:
    """Match the labels of files, in the order of the first; those of one file alone stay as they are.

    Codes of classes mean something in their own file only: each becomes that of its name among all, the names of the
    first file first. Classes without names are left out, and so is what a file lacks or has of another kind; numbers
    stay what they are.
    """
    files = [file for file in parts if file is not None]
    places = [_places(file) for file in files]
    factors, classes, notes = list[tuple[str, str]](), list[ClassNames](), list[str]()
    columns: list[list[tuple[int, Array | None]]] = [[] for _ in files]
    for key in dict.fromkeys(key for each in places for key in each):
        at = [each.get(key) for each in places]
        if reason := _misfit(files, at):
            notes.append(f"The label {plain(key[0])} is left out: {reason}.")
            continue
        found = [(file, k) for file, k in zip(files, at, strict=True) if k is not None]
        names, codes = _together([file.classes[k] for file, k in found])
        if names == () and len(files) > 1:
            notes.append(names_left_out(plain(key[0])))
        factors.append(found[0][0].factors[found[0][1]])
        classes.append(names)
        for column, (_, k), new in zip(columns, found, codes, strict=True):
            column.append((k, new))
    own = iter(columns)
    every = tuple(() if file is None else tuple(next(own)) for file in parts)
    return CombinedLabels(tuple(factors), tuple(classes), tuple(notes), tuple(parts), every)


def _places(file: FileLabels) -> dict[tuple[str, int], int]:
    """The column of each label, by its name and how many of that name are before it."""
    seen: Counter[str] = Counter()
    found = {}
    for place, (name, _) in enumerate(file.factors):
        found[name, seen[name]] = place
        seen[name] += 1
    return found


def _misfit(files: Sequence[FileLabels], places: Sequence[int | None]) -> str:
    """Why a label, of that column in each file, cannot be that of all; empty: it can."""
    if len(files) == 1:
        return ""
    said = ["no label of that name" if k is None else _meaning(file, k) for file, k in zip(files, places, strict=True)]
    other = next((k for k, meaning in enumerate(said) if meaning != said[0]), None)
    if other is not None:
        return f"{plain(files[0].file)} has {said[0]}, {plain(files[other].file)} has {said[other]}"
    return "no file says what its classes are called" if said[0] == _UNNAMED else ""


def _meaning(file: FileLabels, place: int) -> str:
    names = file.classes[place]
    return f"{file.factors[place][1]} numbers" if names is None else "classes of text" if names else _UNNAMED


def _together(classes: Sequence[ClassNames]) -> tuple[ClassNames, list[Array | None]]:
    """Names of the classes of all files, and the code among these of each file's codes."""
    named = [names for names in classes if names]
    if len(classes) == 1 or not named:
        return classes[0], [None] * len(classes)
    union = list(dict.fromkeys(name for names in named for name in names))
    code_of = {name: float(code) for code, name in enumerate(union)}
    return kept_names(union), [np.array([code_of[name] for name in names]) for names in named]
