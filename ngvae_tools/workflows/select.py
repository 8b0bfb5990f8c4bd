"""select-latents: stream a data set through an encoder, say which dimensions are informative, keep those."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.selection import check_rule
from ngvae_tools.analysis.survey import Findings, Survey
from ngvae_tools.contract import Resize
from ngvae_tools.datasets import ImageDataset
from ngvae_tools.datasets.places import name_of, place_of
from ngvae_tools.errors import DatasetError, OptionError, OutputError
from ngvae_tools.files import output_errors, refuse_existing, sha256_of
from ngvae_tools.inference.providers import CUDA
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.inference.stream import encode_blocks
from ngvae_tools.latents.codec import UniformQuantiser
from ngvae_tools.latents.file import FILE_NAME as LATENTS_NAME
from ngvae_tools.latents.file import write_latents
from ngvae_tools.record import FILE_NAME as RECORD_NAME
from ngvae_tools.record import REPLICATES, AnalysisRecord, LatentsInfo, Selection
from ngvae_tools.workflows.evidence import EvidenceSources
from ngvae_tools.workflows.given import as_before, check_given, earlier_record, kept_before
from ngvae_tools.workflows.opening import encoder_of, fit_floats, open_images, shape_of
from ngvae_tools.workflows.parts import REJECTED_NAME, SelectionParts
from ngvae_tools.workflows.verdict import analysis_record, bootstrap_of, verdict_of

if TYPE_CHECKING:
    from ngvae_tools.analysis.disentanglement import Settings

MAX_REASONS = 1000
"""Different reasons of rejection that are counted, to name the most frequent one."""


@dataclass(frozen=True, slots=True)
class SelectionProgress:
    """Where an analysis stands: images done and rejected, of how many."""

    done: int
    rejected: int
    total: int


CODE_NOISE = 1e-4
"""Variance that is taken for the noise of deterministic codes, as a share of their own."""

OnProgress = Callable[[SelectionProgress], None]


def select_latents(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    rule: str | None = None,
    threshold: float | None = None,
    dimensions: Sequence[int] | None = None,
    selection: str | os.PathLike[str] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    bootstrap: int = REPLICATES,
    device: str = "auto",
    batch_size: int | None = None,
    threads: int | None = None,
    dataset_key: str | None = None,
    resize: Resize | None = None,
    heads: HeadNames | None = None,
    input_options: InputOptions | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> AnalysisRecord:
    """Find out which latent dimensions of an encoder are informative over a data set.

    Writes `selection.json` (the record), `latents.h5` (the informative dimensions) and, where something could
    not be used, `rejected.jsonl` into the output folder.

    Args:
        model: An encoder file, or the folder of a training run.
        data: A folder, file or store of images, a published data set, or a URL, see `open_dataset`.
        output: The folder to write to; one named after model and data in the current folder by default.
        rule: A name of `ngvae_tools.analysis.selection.RULES`; the one that the encoder's family is made for by
            default.
        threshold: Value of the rule's score that separates informative dimensions; the rule's own by default.
        dimensions: Keep these dimensions, whatever the rules say.
        selection: Keep the dimensions that an earlier result of the same encoder kept; its output folder.
        decoder: The decoder file, or a run's folder: measure what dropping dimensions costs.
        labels: Measure disentanglement against known factors: a CSV file keyed by relative path, or `auto` for the
            labels within the data set.
        settings: Of the supervised metrics; the definitions' own by default.
        bootstrap: Replicates of the bootstrap behind every interval; 0 for none.
        device: `auto`, `cpu` or `cuda`.
        batch_size: Images of one run of the encoder; does not change the result on a CPU.
        threads: Threads of the encoder on a CPU; all available by default.
        dataset_key: Name of the images in a file or store that has several, see `open_dataset`.
        resize: How to bring images to the encoder's size: `stretch`, `crop` or `pad`; as in training by default.
        heads: Names of the encoder's outputs, for models from elsewhere.
        input_options: Layout and range of the encoder's input, for models from elsewhere.
        overwrite: Replace a finished result.
        on_progress: Called after every block of images.

    Returns:
        The record, equal to what `selection.json` holds.

    Raises:
        ContractError: The encoder cannot be used.
        DatasetError: The data set cannot be opened, or none of its images can be used.
        OptionError: An option does not apply.
        OutputError: The result exists or cannot be written.

    Example:
        >>> from ngvae_tools import select_latents
        >>> record = select_latents("encoder.onnx", "images/", "OUT")  # doctest: +SKIP
        >>> record.selection.indices  # doctest: +SKIP
        (0, 3, 4, 7, 9, 12)
    """
    started = time.perf_counter()
    _check_positive("--batch-size", batch_size)
    _check_positive("--threads", threads)
    encoder_path, data_path = encoder_of(Path(model)), place_of(data)
    folder = Path(output) if output is not None else default_output(Path(model), data_path)
    for name in (RECORD_NAME, LATENTS_NAME, REJECTED_NAME):
        refuse_existing(folder / name, overwrite=overwrite)
    check_given(rule=rule, threshold=threshold, dimensions=dimensions, selection=selection)
    earlier = None if selection is None else earlier_record(selection)
    heads, input_options = as_before(heads, input_options, earlier)
    session = EncoderSession(
        encoder_path,
        device=device,
        threads=threads,
        heads=heads,
        input_options=input_options,
        image_shape=lambda: shape_of(data_path, dataset_key),
    )
    kept, said = kept_before(session, dimensions, earlier)
    rule, threshold = check_rule(session.family, rule, threshold)
    with (
        open_images(session, data_path, dataset_key, resize) as dataset,
        SelectionParts(folder, session.latent_dim * session.positions) as parts,
    ):
        said = (*said, *fit_floats(session, dataset))
        sources = EvidenceSources(
            session, dataset, decoder=decoder, labels=labels, settings=settings, device=device, threads=threads
        )
        encoding = time.perf_counter()
        survey = Survey(session.family, session.latent_dim, positions=session.positions, replicates=bootstrap)
        n_rejected = _stream(dataset, session, parts, survey, batch_size or default_batch_size(session), on_progress)
        encoded = time.perf_counter()
        findings = survey.findings()
        chosen = kept or findings.selection(rule, threshold)
        if chosen is None:
            raise _undecided(rule, findings)
        verdict = verdict_of(findings, chosen)
        analysed = time.perf_counter()
        evidence = sources.measure(findings)
        latents = _write_latents(parts, dataset, session, findings, chosen)
        timings = {
            "encoding_seconds": encoded - encoding,
            "analysis_seconds": analysed - encoded,
            **evidence.seconds,
            "total_seconds": time.perf_counter() - started,
            "images_per_second": len(dataset) / max(encoded - encoding, 1e-9),
        }
        record = analysis_record(
            session,
            dataset,
            findings,
            verdict,
            latents,
            n_rejected,
            timings,
            bootstrap=bootstrap_of(bootstrap),
            truncation=evidence.truncation,
            supervised=evidence.supervised,
            notes=(*said, *evidence.notes),
        )
        parts.finish(record)
    return record


def default_output(model: Path, data: str | os.PathLike[str]) -> Path:
    """The folder that a result goes to when none is named: after model and data, in the current folder."""
    return Path(f"{model.resolve().stem}-{name_of(place_of(data))}")


def default_batch_size(session: EncoderSession) -> int:
    """Small batches stay in a CPU's cache; a GPU wants large ones."""
    return 256 if session.provider == CUDA else 32


def _check_positive(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise OptionError(
            f"{option} cannot be used",
            expected="a whole number above 0",
            found=str(value),
            remedy="pass another, or leave it out",
        )


def _undecided(rule: str, findings: Findings) -> OptionError:
    return OptionError(
        f"rule {rule} cannot judge these data",
        expected="at least two images",
        found=f"{findings.n_images} that could be encoded",
        remedy="use more images" + ("" if findings.family.second_head is None else ", or --rule variance"),
    )


def _stream(
    dataset: ImageDataset,
    session: EncoderSession,
    parts: SelectionParts,
    survey: Survey,
    batch_size: int,
    on_progress: OnProgress | None,
) -> int:
    """Encode everything and survey it: the number of rejected images."""
    reasons: Counter[str] = Counter()
    done = n_rejected = 0
    with closing(encode_blocks(dataset, session, block=BLOCK, batch_size=batch_size)) as blocks:
        for block in blocks:
            survey.add(block.index, block.heads.mu, block.heads.second)
            parts.add(block)
            if len(reasons) < MAX_REASONS:
                reasons.update(rejection.reason for rejection in block.rejected)
            n_rejected += len(block.rejected)
            done += block.size
            if on_progress is not None:
                on_progress(SelectionProgress(done, n_rejected, len(dataset)))
    if not len(dataset) == done == survey.n_images + n_rejected:
        raise OutputError(
            "images were lost on the way",
            expected=f"{len(dataset)} images seen",
            found=f"{survey.n_images} encoded and {n_rejected} rejected",
            remedy="please report this; no result was written",
        )
    if survey.n_images == 0:
        reason, count = reasons.most_common(1)[0]
        raise DatasetError(
            f"no image of {dataset.location} can be used",
            expected="images that fit the encoder",
            found=f"{n_rejected} of {n_rejected} unfit, {count} of them because each {reason}",
            remedy="name the data that the encoder was made for, or pass --resize where only the size differs",
        )
    return n_rejected


def _write_latents(
    parts: SelectionParts,
    dataset: ImageDataset,
    session: EncoderSession,
    findings: Findings,
    selection: Selection,
) -> LatentsInfo:
    """Write the informative dimensions from the spool; only now are the selection and the steps known."""
    kept = list(selection.indices)
    noise = _noise(findings)[kept]
    quantiser = UniformQuantiser.fit(noise, findings.statistics.low[kept], findings.statistics.high[kept])
    columns = (np.arange(session.positions)[:, None] * session.latent_dim + np.array(kept, dtype=np.int64)).ravel()
    spans = [(start, min(start + BLOCK, len(dataset))) for start in range(0, len(dataset), BLOCK)]

    def blocks() -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]:
        for index, mu in parts.spooled():
            first, last = int(index[0]), int(index[-1])
            names = dataset.identifiers(first, last + 1)[index - first]
            yield mu[:, columns].astype(np.float64), names

    with output_errors(parts.folder):
        write_latents(
            parts.latents,
            blocks(),
            n_rows=findings.n_images,
            quantiser=quantiser.tiled(session.positions),
            dimensions=selection.indices * session.positions,
            posterior_variance=np.tile(noise, session.positions),
            identifier_type=np.result_type(*(dataset.identifiers(*span).dtype for span in spans)),
            attributes={
                "family": session.metadata.family,
                "encoder_sha256": session.sha256,
                "rule": selection.rule,
                "threshold": selection.threshold,
            },
        )
        return LatentsInfo(
            file=LATENTS_NAME,
            sha256=sha256_of(parts.latents),
            bytes=parts.latents.stat().st_size,
            dimensions=selection.indices,
        )


def _noise(findings: Findings) -> npt.NDArray[np.float64]:
    """Variance that the quantiser's steps follow: the posterior's, or a share of that of deterministic codes."""
    if findings.scores.variance is not None:
        return findings.scores.variance
    spread = findings.scores.mu_variance
    return np.zeros_like(findings.statistics.low) if spread is None else CODE_NOISE * spread
