"""What a report is made of: analyses, training runs and sweeps, named or found below a folder; stdlib only."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ngvae_tools import benchmark_record as benchmarking
from ngvae_tools import record as analysis
from ngvae_tools import run as training
from ngvae_tools import sweep_record as sweeping
from ngvae_tools.errors import RecordError
from ngvae_tools.files import LOCK_NAME
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.reporting.checks import check_analysis, check_run, check_sweep
from ngvae_tools.reporting.pictures import Pictures
from ngvae_tools.reporting.words import plain
from ngvae_tools.run import RunRecord
from ngvae_tools.sweep_record import SweepRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ngvae_tools.analysis.stability import Stability

DEPTH = 4
"""How many folders below the root `find_sources` looks."""

PASSED_OVER = frozenset({".venv", "node_modules", "__pycache__"})

_RECORDS = (analysis.FILE_NAME, training.CONFIG_NAME, sweeping.FILE_NAME)
_MAKERS = "make one with `ngvae-tools train` or `ngvae-tools select-latents`"


@dataclass(frozen=True, slots=True)
class NamedAnalysis:
    """An analysis with the name a report calls it by.

    Attributes:
        name: Short and unique among the analyses of one report.
        folder: Where the record lies.
        record: What select-latents wrote.
        pictures: Images to show of it; None where none were gathered.
        stale: Why the record does not tell of the latent file beside it, a sentence; None where nothing says so.
    """

    name: str
    folder: Path
    record: AnalysisRecord
    pictures: Pictures | None = None
    stale: str | None = None


@dataclass(frozen=True, slots=True)
class NamedRun:
    """A training run with the name a report calls it by.

    Attributes:
        name: Short and unique among the runs of one report.
        folder: Where the run lies.
        record: What train wrote so far.
    """

    name: str
    folder: Path
    record: RunRecord

    @property
    def finished(self) -> bool:
        """Whether the run has written its summary."""
        return self.record.summary is not None


@dataclass(frozen=True, slots=True)
class NamedSweep:
    """A sweep over noise levels with the name a report calls it by.

    Attributes:
        name: Short and unique among the sweeps of one report.
        folder: Where the record lies.
        record: What sweep wrote.
    """

    name: str
    folder: Path
    record: SweepRecord


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything one report shows.

    Attributes:
        analyses: In the order they were named, or sorted by path when they were found.
        runs: In the same order.
        skipped: A sentence for each that was found but could not be read.
        stability: Whether the analyses keep the same dimensions; None where that was not worked out.
        sweeps: In the same order; the trainings of a sweep that was found are not among `analyses` and `runs`.
    """

    analyses: tuple[NamedAnalysis, ...] = ()
    runs: tuple[NamedRun, ...] = ()
    skipped: tuple[str, ...] = ()
    stability: Stability | None = None
    sweeps: tuple[NamedSweep, ...] = ()

    @property
    def stale(self) -> tuple[str, ...]:
        """A sentence for each analysis whose record does not tell of the latent file beside it."""
        return tuple(f"{plain(named.name)}: {named.stale}" for named in self.analyses if named.stale is not None)


def open_sources(paths: Sequence[Path | str]) -> Sources:
    """Open output folders of select-latents, their selection.json, run folders and folders of sweeps, each once.

    Raises:
        RecordError: No path is given, or one is none of these, or cannot be read.
    """
    if not paths:
        raise RecordError(
            "there is nothing to report",
            expected="at least one folder",
            found="none",
            remedy=f"name an output folder of select-latents or a run folder, or {_MAKERS}",
        )
    opened = _Opened()
    for path in (Path(p) for p in paths):
        if os.path.isdir(path):  # noqa: PTH112 - finds no fault with names that are too long
            if (path / benchmarking.FILE_NAME).is_file():
                raise _a_benchmark(path)
            if not any((path / name).exists() for name in _RECORDS):
                raise _neither(path, _contents(path))
            opened.add(path)
        elif os.path.isfile(path):  # noqa: PTH113
            opened.add_file(path)
        else:
            raise _neither(path, *_no_file(path))
    return opened.named()


def find_sources(root: Path | str) -> Sources:
    """Find every analysis, run and sweep in a folder and at most four folders below it, sorted by path.

    Hidden folders and those of package managers are passed over. What is found but cannot be read is told in
    `Sources.skipped`.

    Raises:
        RecordError: The root is no folder, or nothing that can be read lies below it.
    """
    root = Path(root)
    if not os.path.isdir(root):  # noqa: PTH112
        raise _neither(root, *_no_file(root))
    opened, skipped = _Opened(), []
    for folder in sorted(_folders(root)):
        if (folder / analysis.FILE_NAME).is_file():
            try:
                opened.add_analysis(folder / analysis.FILE_NAME)
            except RecordError as error:
                skipped.append(_skipped(folder, "analysis", error))
        if _looks_like_run(folder):
            try:
                opened.add_run(folder)
            except RecordError as error:
                skipped.append(_skipped(folder, "run", error))
        if (folder / sweeping.FILE_NAME).is_file():
            try:
                opened.add_sweep(folder)
            except RecordError as error:
                skipped.append(_skipped(folder, "sweep", error))
    if opened.empty:
        raise RecordError(
            f"nothing to report below {plain(root)}",
            expected=(
                f"an output folder of select-latents ({analysis.FILE_NAME}) or a run folder "
                f"({training.CONFIG_NAME}, {training.HISTORY_NAME}), at most {DEPTH} folders down"
            ),
            found=" ".join(skipped) or "neither",
            remedy=_MAKERS,
        )
    return opened.named(tuple(skipped))


class _Opened:
    """Records read so far, by the place each is named after."""

    def __init__(self) -> None:
        self._analyses: dict[Path, tuple[Path, AnalysisRecord]] = {}
        self._runs: dict[Path, tuple[Path, RunRecord]] = {}
        self._sweeps: dict[Path, tuple[Path, SweepRecord]] = {}

    @property
    def empty(self) -> bool:
        return not self._analyses and not self._runs and not self._sweeps

    def add(self, folder: Path) -> None:
        if (folder / sweeping.FILE_NAME).exists():
            self.add_sweep(folder)
            return
        if (folder / analysis.FILE_NAME).exists():
            self.add_analysis(folder / analysis.FILE_NAME)
            # A foreign config.json beside an analysis is nobody's mistake.
            if not _looks_like_run(folder):
                return
        self.add_run(folder)

    def add_file(self, file: Path) -> None:
        try:
            self.add_analysis(file)
        except RecordError as error:
            if file.name == analysis.FILE_NAME:
                raise
            hdf5 = _is_hdf5(file)
            found = "an HDF5 file" if hdf5 else error.found
            if any((file.parent / name).is_file() for name in _RECORDS):
                raise _neither(file, found, f"name its folder, {plain(file.parent)}") from None
            if hdf5:
                remedy = f"if it is a latent file, ngvae-tools latents info {plain(file)} describes it"
                raise _neither(file, found, remedy) from None
            raise

    def add_analysis(self, file: Path) -> None:
        record = AnalysisRecord.read_file(file)
        check_analysis(file, record)
        real = file.resolve()
        place = real.parent if file.name == analysis.FILE_NAME else real.with_suffix("")
        self._analyses.setdefault(place, (file.parent, record))

    def add_run(self, folder: Path) -> None:
        record = RunRecord.read(folder)
        check_run(folder, record)
        self._runs.setdefault(folder.resolve(), (folder, record))

    def add_sweep(self, folder: Path) -> None:
        record = SweepRecord.read(folder)
        check_sweep(folder, record)
        self._sweeps.setdefault(folder.resolve(), (folder, record))

    def named(self, skipped: tuple[str, ...] = ()) -> Sources:
        analyses = zip(_names(list(self._analyses)), self._analyses.values(), strict=True)
        runs = zip(_names(list(self._runs)), self._runs.values(), strict=True)
        return Sources(
            tuple(NamedAnalysis(name, folder, record) for name, (folder, record) in analyses),
            tuple(NamedRun(name, folder, record) for name, (folder, record) in runs),
            skipped,
            sweeps=tuple(
                NamedSweep(name, folder, record)
                for name, (folder, record) in zip(_names(list(self._sweeps)), self._sweeps.values(), strict=True)
            ),
        )


def _folders(root: Path) -> Iterator[Path]:
    for folder, below, files in os.walk(root):
        here = Path(folder)
        yield here
        deep = len(here.relative_to(root).parts) >= DEPTH
        if not {sweeping.FILE_NAME, benchmarking.FILE_NAME}.isdisjoint(files):
            below[:] = [name for name in below if name != "cells"]  # the record of the whole tells of them
        below[:] = [] if deep else [n for n in below if not n.startswith(".") and n not in PASSED_OVER]


def _looks_like_run(folder: Path) -> bool:
    """Whether a folder's config.json is ours: many other programs write a file of that name."""
    try:
        config = json.loads((folder / training.CONFIG_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, RecursionError):
        return (folder / training.HISTORY_NAME).exists()
    return isinstance(config, dict) and config.get("format") == training.FORMAT


def _names(places: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as make it differ from all others."""
    depths = [1] * len(places)
    while True:
        names = [plain("/".join(place.parts[-depth:])) for place, depth in zip(places, depths, strict=True)]
        longer = [
            depth + (names.count(name) > 1 and depth < len(place.parts))
            for place, name, depth in zip(places, names, depths, strict=True)
        ]
        if longer == depths:
            return names
        depths = longer


def _contents(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK_NAME)
    except OSError as error:
        return error.strerror or str(error)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return "a folder with " + ", ".join(plain(name) for name in names[:6]) + more if names else "an empty folder"


def _a_benchmark(path: Path) -> RecordError:
    return RecordError(
        f"{plain(path)} is a benchmark, which report does not show",
        expected="an analysis, a training run or a sweep",
        found="a benchmark",
        remedy=f"show its table with ngvae-tools benchmark --table-only --output {plain(path)}, or name folders below "
        f"{plain(path / 'cells')}",
    )


def _no_file(path: Path) -> tuple[str, str]:
    """What is at a path that is neither folder nor file, and what to do."""
    try:
        path.stat()
    except FileNotFoundError:
        found = "nothing there"
    except OSError as error:
        found = error.strerror or str(error)
    else:
        found = "a file" if path.is_file() else "neither a folder nor a file"
    return found, f"check the path, or {_MAKERS}"


def _is_hdf5(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def _neither(path: Path, found: str, remedy: str = _MAKERS) -> RecordError:
    return RecordError(
        f"{plain(path)} is neither an analysis nor a training run",
        expected=(
            f"a folder with {analysis.FILE_NAME}, {training.CONFIG_NAME} or {sweeping.FILE_NAME}, "
            f"or a {analysis.FILE_NAME}"
        ),
        found=found,
        remedy=remedy,
    )


def _skipped(folder: Path, kind: str, error: RecordError) -> str:
    return f"The {kind} in {plain(folder)} was left out: {plain(error.problem)} (found {plain(error.found)})."
