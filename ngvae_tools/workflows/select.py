"""select-latents: stream a data set through an encoder, say which dimensions are informative, keep those."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.covariance import covariance_metrics
from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.analysis.selection import RULES, THRESHOLDS, check_rule, select
from ngvae_tools.analysis.statistics import LatentStatistics
from ngvae_tools.contract import P, Resize
from ngvae_tools.datasets import ImageDataset, Rejection, open_dataset
from ngvae_tools.errors import DatasetError, OutputError
from ngvae_tools.files import flush_to_disk, output_errors, refuse_existing, sha256_of
from ngvae_tools.inference.providers import CUDA
from ngvae_tools.inference.session import EncoderSession, HeadNames, InputOptions
from ngvae_tools.inference.stream import encode_blocks
from ngvae_tools.latents.codec import UniformQuantiser
from ngvae_tools.latents.file import FILE_NAME as LATENTS_NAME
from ngvae_tools.latents.file import write_latents
from ngvae_tools.posteriors import NormalGammaPosterior, PosteriorFamily
from ngvae_tools.record import FILE_NAME as RECORD_NAME
from ngvae_tools.record import (
    AnalysisRecord,
    DataInfo,
    DimensionStatistics,
    LatentsInfo,
    ModelInfo,
    Selection,
    finite_or_none,
)
from ngvae_tools.run import ENCODER_NAME
from ngvae_tools.workflows.versions import versions_of

REJECTED_NAME = "rejected.jsonl"

UNSETTLED_P = 0.3
"""Above this standard deviation over images, p is near 0 for some images and near 1 for others."""


@dataclass(frozen=True, slots=True)
class SelectionProgress:
    """Where an analysis stands: images done and rejected, of how many."""

    done: int
    rejected: int
    total: int


OnProgress = Callable[[SelectionProgress], None]


def select_latents(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    rule: str | None = None,
    threshold: float | None = None,
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
        data: A folder of images or an HDF5 file.
        output: The folder to write to; one named after model and data in the current folder by default.
        rule: `p` or `variance`; the one that the encoder's family is made for by default.
        threshold: A dimension is informative where its score lies below; 0.5 by default.
        device: `auto`, `cpu` or `cuda`.
        batch_size: Images of one run of the encoder; does not change the result on a CPU.
        threads: Threads of the encoder on a CPU; all available by default.
        dataset_key: Name of the images in an HDF5 file.
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
    encoder_path, data_path = encoder_of(Path(model)), Path(data)
    folder = Path(output) if output is not None else default_output(Path(model), data_path)
    refuse_existing(folder / RECORD_NAME, overwrite=overwrite)
    session = EncoderSession(
        encoder_path, device=device, threads=threads, heads=heads, input_options=input_options
    )
    rule, threshold = check_rule(session.family, rule, threshold)
    with ExitStack() as stack:
        dataset = stack.enter_context(_open_for(session, data_path, dataset_key, resize))
        _refuse_unfit(dataset)
        parts = stack.enter_context(_Parts(folder))
        encoding = time.perf_counter()
        statistics, rejected = _stream(
            dataset, session, parts, batch_size or default_batch_size(session), on_progress
        )
        encoded = time.perf_counter()
        selection = select(statistics, rule, threshold)
        latents = _write_latents(parts, dataset, session, statistics, selection)
        record = _record(session, dataset, statistics, selection, latents, len(rejected))
        timings = {
            "encoding_seconds": encoded - encoding,
            "total_seconds": time.perf_counter() - started,
            "images_per_second": len(dataset) / max(encoded - encoding, 1e-9),
        }
        record = _with_timings(record, timings)
        parts.finish(record)
    return record


def encoder_of(model: Path) -> Path:
    """The encoder file that `model` names: itself, or the one of a training run's folder."""
    return model / ENCODER_NAME if model.is_dir() else model


def default_output(model: Path, data: Path) -> Path:
    """The folder that a result goes to when none is named: after model and data, in the current folder."""
    return Path(f"{model.resolve().stem}-{data.resolve().stem}")


def default_batch_size(session: EncoderSession) -> int:
    """Small batches stay in a CPU's cache; a GPU wants large ones."""
    return 256 if session.provider == CUDA else 32


def _open_for(
    session: EncoderSession, path: Path, dataset_key: str | None, resize: Resize | None
) -> ImageDataset:
    metadata = session.metadata
    return open_dataset(
        path,
        dataset_key=dataset_key,
        image_shape=metadata.image_shape,
        # An encoder with its own scaling takes exactly the samples it was trained on.
        dtype=metadata.sample_type if session.scales_inside else None,
        resize=resize or metadata.resize,
    )


def _refuse_unfit(dataset: ImageDataset) -> None:
    """Stop before a long run when every image of an evenly spread sample is unfit."""
    n_read, rejections = dataset.probe()
    if len(rejections) == n_read:
        raise _all_rejected(dataset, rejections, n_read)


def _all_rejected(dataset: ImageDataset, rejections: list[Rejection], n_read: int) -> DatasetError:
    first = rejections[0]
    return DatasetError(
        f"no image of {dataset.path} can be used",
        expected="images that fit the encoder",
        found=f"{n_read} of {n_read} unfit; {first.identifier}: {first.reason}",
        remedy="pass --resize if only the size differs, or name the data that the encoder was made for",
    )


class _Parts:
    """The output folder while it is being written: every file under its name + ".part" until all are whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool_path = folder / "spool.part"
        self.latents_path = folder / f"{LATENTS_NAME}.part"
        self.rejected_path = folder / f"{REJECTED_NAME}.part"
        self.record_path = folder / f"{RECORD_NAME}.part"

    def __enter__(self) -> _Parts:
        self.created = not self.folder.exists()
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            for path in (self.spool_path, self.latents_path, self.rejected_path, self.record_path):
                path.unlink(missing_ok=True)
            if self.created and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def finish(self, record: AnalysisRecord) -> None:
        """Give every file its final name, the record last: a folder with a record has a whole result."""
        with output_errors(self.folder):
            self.record_path.write_text(record.to_json(), encoding="utf-8")
            (self.folder / RECORD_NAME).unlink(missing_ok=True)
            (self.folder / REJECTED_NAME).unlink(missing_ok=True)
            for part in (self.rejected_path, self.latents_path, self.record_path):
                if part.exists():
                    flush_to_disk(part)
                    part.replace(part.with_suffix(""))
            flush_to_disk(self.folder)


def _stream(
    dataset: ImageDataset,
    session: EncoderSession,
    parts: _Parts,
    batch_size: int,
    on_progress: OnProgress | None,
) -> tuple[LatentStatistics, list[Rejection]]:
    """Encode everything: statistics in memory, latents into the spool, rejections into their file."""
    with_p = session.second_head == P
    statistics = LatentStatistics.empty(session.latent_dim, with_p=with_p)
    rejected: list[Rejection] = []
    done = 0
    with output_errors(parts.folder), parts.spool_path.open("wb") as spool, ExitStack() as stack:
        lines: IO[str] | None = None
        for block in encode_blocks(dataset, session, block=BLOCK, batch_size=batch_size):
            mu, second = block.heads.mu.astype(np.float64), block.heads.second.astype(np.float64)
            of_block = LatentStatistics.of(session.family.posterior(mu, second), second if with_p else None)
            statistics = statistics.merge(of_block)
            spool.write(_spooled(block.index, block.heads.mu).tobytes())
            if block.rejected and lines is None:
                lines = stack.enter_context(parts.rejected_path.open("w", encoding="ascii"))
            for rejection in block.rejected:
                assert lines is not None
                # ASCII escapes keep surrogates, and with them any file name, reversible.
                line = {"index": rejection.index, "id": rejection.identifier, "reason": rejection.reason}
                lines.write(json.dumps(line) + "\n")
            rejected += block.rejected
            done += block.size
            if on_progress is not None:
                on_progress(SelectionProgress(done, len(rejected), len(dataset)))
    if not len(dataset) == done == statistics.mu.count + len(rejected):
        raise OutputError(
            "images were lost on the way",
            expected=f"{len(dataset)} images seen",
            found=f"{statistics.mu.count} encoded and {len(rejected)} rejected",
            remedy="please report this; no result was written",
        )
    if statistics.mu.count == 0:
        raise _all_rejected(dataset, rejected, len(rejected))
    return statistics, rejected


def _spool_type(latent_dim: int) -> np.dtype[Any]:
    return np.dtype([("index", "<i8"), ("mu", "<f4", (latent_dim,))])


def _spooled(index: npt.NDArray[np.int64], mu: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    rows = np.empty(len(index), dtype=_spool_type(mu.shape[1]))
    rows["index"], rows["mu"] = index, mu
    return rows


def _write_latents(
    parts: _Parts,
    dataset: ImageDataset,
    session: EncoderSession,
    statistics: LatentStatistics,
    selection: Selection,
) -> LatentsInfo:
    """Write the informative dimensions from the spool; only now are the selection and the steps known."""
    kept = list(selection.indices)
    variance = statistics.variance.mean[kept]
    quantiser = UniformQuantiser.fit(variance, statistics.low[kept], statistics.high[kept])
    spans = [(start, min(start + BLOCK, len(dataset))) for start in range(0, len(dataset), BLOCK)]

    def blocks() -> Iterator[tuple[npt.NDArray[np.floating], npt.NDArray[Any]]]:
        with parts.spool_path.open("rb") as spool:
            rows_type = _spool_type(session.latent_dim)
            while len(rows := np.fromfile(spool, rows_type, count=BLOCK)):
                first, last = int(rows["index"][0]), int(rows["index"][-1])
                names = dataset.identifiers(first, last + 1)[rows["index"] - first]
                yield rows["mu"][:, kept].astype(np.float64), names

    with output_errors(parts.folder):
        write_latents(
            parts.latents_path,
            blocks(),
            n_rows=statistics.mu.count,
            quantiser=quantiser,
            dimensions=selection.indices,
            posterior_variance=variance,
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
            sha256=sha256_of(parts.latents_path),
            bytes=parts.latents_path.stat().st_size,
            dimensions=selection.indices,
        )


def _record(
    session: EncoderSession,
    dataset: ImageDataset,
    statistics: LatentStatistics,
    selection: Selection,
    latents: LatentsInfo,
    n_rejected: int,
) -> AnalysisRecord:
    covariance = statistics.mu.covariance() if statistics.mu.count > 1 else None
    metrics, undefined = covariance_metrics(covariance)
    others = [name for name in RULES if name != selection.rule and (name != P or statistics.p is not None)]
    rules = (selection, *(select(statistics, name, THRESHOLDS[name]) for name in others))
    return AnalysisRecord(
        model=ModelInfo(
            path=str(session.path.resolve()),
            sha256=session.sha256,
            family=session.metadata.family,
            latent_dim=session.latent_dim,
            hyperparameters=session.metadata.hyperparameters,
            provider=session.provider,
        ),
        data=DataInfo(
            path=str(dataset.path.resolve()),
            kind=dataset.kind,
            fingerprint=dataset.fingerprint(),
            n_images=len(dataset),
            n_rejected=n_rejected,
            image_shape=dataset.image_shape,
            resize=dataset.resize,
        ),
        selection=selection,
        rules=rules,
        dimensions=_dimensions(statistics, selection),
        covariance=None if covariance is None else tuple(tuple(row) for row in covariance.tolist()),
        metrics=metrics,
        latents=latents,
        timings={},
        versions=versions_of("numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "h5py", "pillow"),
        notes=(*session.notes, *_notes(session.family, statistics, rules), *undefined),
    )


def _dimensions(statistics: LatentStatistics, selection: Selection) -> tuple[DimensionStatistics, ...]:
    nothing = np.full(len(selection.score), np.nan)
    mu_variance = np.diag(statistics.mu.covariance()) if statistics.mu.count > 1 else nothing
    p_mean = nothing if statistics.p is None else statistics.p.mean
    p_std = nothing if statistics.p is None or statistics.p.count < 2 else np.sqrt(statistics.p.covariance())
    return tuple(
        DimensionStatistics(
            index=k,
            informative=selection.informative[k],
            mu_mean=float(statistics.mu.mean[k]),
            mu_variance=finite_or_none(mu_variance[k]),
            posterior_variance=float(statistics.variance.mean[k]),
            posterior_entropy=float(statistics.entropy.mean[k]),
            p_mean=finite_or_none(p_mean[k]),
            p_std=finite_or_none(p_std[k]),
        )
        for k in range(len(selection.score))
    )


def _notes(family: PosteriorFamily, statistics: LatentStatistics, rules: tuple[Selection, ...]) -> list[str]:
    """Sentences on what limits the verdict."""
    notes = []
    if isinstance(family, NormalGammaPosterior):
        p, kl = family.interior_minimum()
        notes.append(
            f"Under the paper's printed objective a dimension that carries nothing is drawn to p = {p:.3f}, where "
            f"its KL is {kl:.3f} nat, and an informative one can hide at p near 1 by growing mu: read p with care."
        )
    if len({rule.informative for rule in rules}) > 1:
        counts = ", ".join(f"{rule.count} by rule {rule.rule}" for rule in rules)
        notes.append(f"The rules disagree on which dimensions are informative: {counts}.")
    if statistics.p is not None and statistics.p.count > 1:
        unsettled = np.flatnonzero(np.sqrt(statistics.p.covariance()) > UNSETTLED_P)
        if len(unsettled):
            listed = ", ".join(str(k) for k in unsettled)
            notes.append(
                f"p differs from image to image in dimensions {listed}: informative for some images only."
            )
    return notes


def _with_timings(record: AnalysisRecord, timings: dict[str, float]) -> AnalysisRecord:
    import dataclasses

    return dataclasses.replace(record, timings=timings)
