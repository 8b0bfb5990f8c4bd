"""From the finished shards of a pass to its result: the record, the latent file, and what was rejected."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from ngvae_tools.analysis.survey import Findings, Survey
from ngvae_tools.datasets import Rejection
from ngvae_tools.datasets.footprint import Footprint
from ngvae_tools.datasets.places import Place
from ngvae_tools.errors import DatasetError, OptionError, OutputError
from ngvae_tools.files import flush_to_disk, output_errors, real_path, refuse_existing, refuse_replacing
from ngvae_tools.latents.header import FILE_NAME as LATENTS_NAME
from ngvae_tools.record import FILE_NAME as RECORD_NAME
from ngvae_tools.record import AnalysisRecord, Selection
from ngvae_tools.reporting.rejections import RejectionTally
from ngvae_tools.workflows.encoding_pass import EncodingPass
from ngvae_tools.workflows.evidence import Evidence
from ngvae_tools.workflows.shard_folder import results
from ngvae_tools.workflows.storing import StoreOptions, identifiers_of, store_latents
from ngvae_tools.workflows.verdict import analysis_record, bootstrap_of, verdict_of

REJECTED_NAME = "rejected.jsonl"

RESULT_NAMES = (RECORD_NAME, LATENTS_NAME, REJECTED_NAME)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dimensions to keep.

    Attributes:
        rule: Name of the rule that decides.
        threshold: Its threshold.
        given: The selection that was made before; None where the rule decides.
        notes: Where a given selection comes from.
        storing: What goes into the latent file, and how exactly.
    """

    rule: str
    threshold: float
    given: Selection | None = None
    notes: tuple[str, ...] = ()
    storing: StoreOptions = field(default_factory=StoreOptions)


def write_result(
    encoding: EncodingPass,
    files: Sequence[Path],
    folder: Path,
    choice: Choice,
    *,
    measure: Callable[[Findings], Evidence],
    timings: dict[str, float],
    started: float,
) -> AnalysisRecord:
    """Analyse all shards of a pass and write its result.

    Args:
        encoding: The pass.
        files: The files of all its shards, in order.
        folder: The output folder.
        choice: Which dimensions to keep.
        measure: Measures the latents against what else there is.
        timings: Timings so far; those of the analysis are added.
        started: When the command began, as `time.perf_counter` says it.

    Raises:
        DatasetError: No image could be used.
        OptionError: The rule cannot judge these data.
        OutputError: The result cannot be written.
        RecordError: A shard is damaged.
    """
    began = time.perf_counter()
    with ResultFiles(folder) as parts:
        survey, rejected, identifier_type, footprint = _survey(encoding, files, parts)
        findings = survey.findings()
        chosen = choice.given or findings.selection(choice.rule, choice.threshold)
        if chosen is None:
            raise _undecided(choice.rule, findings)
        verdict = verdict_of(findings, chosen)
        timings["analysis_seconds"] = time.perf_counter() - began
        evidence = measure(findings)
        with output_errors(folder):
            latents = store_latents(
                parts.latents, encoding, files, findings, chosen, identifier_type, footprint, evidence, choice.storing
            )
        reconstruction, said = (None, ()) if evidence.verify is None else evidence.verify(parts.latents)
        record = analysis_record(
            encoding,
            findings,
            verdict,
            latents,
            rejected,
            {**timings, **evidence.seconds, "total_seconds": time.perf_counter() - started},
            bootstrap=bootstrap_of(encoding.settings.replicates),
            truncation=evidence.truncation,
            supervised=evidence.supervised,
            reconstruction=reconstruction,
            notes=(*choice.notes, *encoding.data_notes, *evidence.notes, *said),
        )
        parts.finish(record)
    return record


def _survey(
    encoding: EncodingPass, files: Sequence[Path], parts: ResultFiles
) -> tuple[Survey, RejectionTally, np.dtype[Any], Footprint]:
    """All shards' surveys joined, the rejected images counted, the type of all identifiers, and a sample's size."""
    types: set[np.dtype[Any]] = set()
    rejected, footprint = RejectionTally(), Footprint()
    survey = Survey(
        encoding.family,
        encoding.model.latent_dim,
        positions=encoding.model.positions,
        replicates=encoding.settings.replicates,
        n_images=encoding.data.n_images,
    )
    for result in results(files):
        survey.join(result.part)
        if len(result.index):
            types.add(identifiers_of(result).dtype)
        parts.reject(result.rejected)
        rejected.update(result.rejected)
        footprint += result.footprint
    n_images = encoding.data.n_images
    if n_images != survey.n_images + rejected.total:
        raise OutputError(
            "images were lost on the way",
            expected=f"{n_images} images seen",
            found=f"{survey.n_images} encoded and {rejected.total} rejected",
            remedy="please report this; no result was written",
        )
    if survey.n_images == 0:
        raise DatasetError(
            f"no image of {encoding.data.path} can be used",
            expected="images that fit the encoder",
            found=f"{n_images} of {n_images} unfit: {rejected.in_full()}",
            remedy="name the data that the encoder was made for, or pass --resize where only the size differs",
        )
    return survey, rejected, np.result_type(*types), footprint


def _undecided(rule: str, findings: Findings) -> OptionError:
    return OptionError(
        f"rule {rule} cannot judge these data",
        expected="at least two images",
        found=f"{findings.n_images} that could be encoded",
        remedy="use more images" + ("" if findings.family.second_head is None else ", or --rule variance"),
    )


def refuse_output(folder: Path, model: Path, data: Place, *, overwrite: bool) -> None:
    """Refuse an output folder that holds a result, unless that may be replaced, or whose result would do harm.

    Files of the user in it stay beside the result.

    Args:
        folder: The output folder, which need not be there.
        model: The encoder file, or the folder of its run.
        data: The data set.
        overwrite: Replace a result.

    Raises:
        OptionError: It is the data set, or the result would replace data set or encoder.
        OutputError: It is a file, or holds a result.
    """
    if real_path(folder) == real_path(data):
        raise OptionError(
            f"the result cannot be written to {folder}",
            expected="an output folder apart from the data set",
            found="the data set itself",
            remedy="name another --output",
        )
    with output_errors(folder):
        in_the_way = folder.exists() and not folder.is_dir()
    if in_the_way:
        raise OutputError(
            f"{folder} already exists", expected="an output folder", found="a file", remedy="name another --output"
        )
    for name in RESULT_NAMES:
        refuse_replacing(folder / name, model, data)
        refuse_existing(folder / name, overwrite=overwrite)


def append_rejections(path: Path, rejections: Sequence[Rejection]) -> None:
    """Append a line for each rejection; without any no file is made.

    Raises:
        OutputError: They cannot be written.
    """
    if not rejections:
        return
    with output_errors(path.parent), path.open("ab") as file:
        for rejection in rejections:
            # ASCII escapes keep surrogates, and with them any file name, reversible.
            line = {"index": rejection.index, "id": rejection.identifier, "reason": rejection.reason}
            file.write(json.dumps(line).encode("ascii") + b"\n")


class ResultFiles:
    """Every file of a result under its name + ".part", until all are whole and get their final names.

    Args:
        folder: The output folder, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latents = folder / f"{LATENTS_NAME}.part"
        self._rejected = folder / f"{REJECTED_NAME}.part"
        self._record = folder / f"{RECORD_NAME}.part"

    def __enter__(self) -> Self:
        with output_errors(self.folder):
            # A killed run leaves its parts, and rejections of another run must not be taken for ours.
            self._remove()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._remove()

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Append a line for each rejection; without any there is no file.

        Raises:
            OutputError: They cannot be written.
        """
        append_rejections(self._rejected, rejections)

    def finish(self, record: AnalysisRecord) -> None:
        """Give every file its final name, the record last: a folder with a record has a whole result.

        Raises:
            OutputError: A file cannot be written.
        """
        with output_errors(self.folder):
            self._record.write_text(record.to_json(), encoding="utf-8")
            parts = [part for part in (self._rejected, self.latents, self._record) if part.exists()]
            # All of it is on the disk before anything of an old result goes.
            for part in parts:
                flush_to_disk(part)
            (self.folder / RECORD_NAME).unlink(missing_ok=True)
            (self.folder / REJECTED_NAME).unlink(missing_ok=True)
            for part in parts:
                part.replace(part.with_suffix(""))
            flush_to_disk(self.folder)

    def _remove(self) -> None:
        for path in (self.latents, self._rejected, self._record):
            path.unlink(missing_ok=True)
