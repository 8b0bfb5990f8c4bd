"""One part of a pass on any machine, and all parts put together to a result."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ngvae_tools.analysis.indices import indices
from ngvae_tools.analysis.selection import check_rule, given
from ngvae_tools.analysis.survey import Findings
from ngvae_tools.datasets.places import place_of
from ngvae_tools.errors import OptionError, OutputError, RecordError
from ngvae_tools.record import AnalysisRecord
from ngvae_tools.workflows.encode import EncodeOptions, default_output, encode_options_of, open_pass
from ngvae_tools.workflows.encoding_pass import FILE_NAME, EncodingPass
from ngvae_tools.workflows.evidence import Evidence, EvidenceSources, check_decoder_options
from ngvae_tools.workflows.given import check_given
from ngvae_tools.workflows.lock import locked
from ngvae_tools.workflows.result import RESULT_NAMES, Choice, refuse_output, write_result
from ngvae_tools.workflows.shard_folder import ShardFolder, kept_shards
from ngvae_tools.workflows.storing import StoreOptions


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A finished part of a pass.

    Attributes:
        folder: Where it lies.
        number: Which part, from 1.
        of: How many parts there are.
        n_shards: Shards in it.
        n_images: Images in it.
        n_rejected: Those of them that could not be used.
    """

    folder: Path
    number: int
    of: int
    n_shards: int
    n_images: int
    n_rejected: int


def encode_part(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    number: int,
    of: int,
    options: EncodeOptions | None = None,
    **encode_options: Any,
) -> PartInfo:
    """Encode part `number`, from 1, of `of` parts of a data set; `merge` makes one result of all.

    Args:
        model: An encoder file, or the folder of a training run.
        data: The data set, the whole of it.
        output: The folder to write to; it may be that of another part, or one of its own.
        number: Which part.
        of: How many parts there are.
        options: How to read the model and the data; or give its fields as keyword arguments.
        **encode_options: Fields of `EncodeOptions`.

    Raises:
        ContractError: The encoder cannot be used.
        DatasetError: The data set cannot be opened.
        OptionError: An option does not apply, or the output would replace the model or the data.
        OutputError: The folder holds another pass or a result, or cannot be written.
        TooManyRejectedError: More images of the part were rejected than `max_rejected`.
    """
    if not 1 <= number <= of:
        raise OptionError(
            "--shard cannot be used",
            expected="a part i of n as i/n, i from 1 to n",
            found=f"{number}/{of}",
            remedy="correct it, for example --shard 1/8",
        )
    options = encode_options_of(options, encode_options)
    model, data = Path(model), place_of(data)
    folder = Path(output) if output is not None else Path(f"{default_output(model, data)}-{number}-of-{of}")
    refuse_output(folder, model, data, overwrite=options.overwrite)
    with (
        open_pass(model, data, options) as opened,
        locked(folder),
        kept_shards(ShardFolder(folder)) as shards,
    ):
        mine = opened.encoding.plan.part(number, of)
        done = opened.run(shards, mine)
    return PartInfo(folder, number, of, len(done.files), done.n_images, done.n_rejected)


def merge(
    parts: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    rule: str | None = None,
    threshold: float | None = None,
    dimensions: Sequence[int] | None = None,
    decoder: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    storing: StoreOptions | None = None,
    verify: bool = False,
    any_decoder: bool = False,
    overwrite: bool = False,
) -> AnalysisRecord:
    """Make one result of all parts of a pass; it equals that of `select_latents` bit for bit.

    The parts are left as they are. Model and data are opened again only for a decoder or labels.

    Args:
        parts: Folders of `encode_part`, in any order.
        output: The folder to write to.
        rule: As of `select_latents`.
        threshold: The same.
        dimensions: The same.
        decoder: The same.
        labels: The same.
        storing: The same.
        verify: The same.
        any_decoder: The same.
        overwrite: Replace a finished result.

    Raises:
        ContractError: The decoder cannot be used, or is not that of the encoder.
        OptionError: An option does not apply, no part is named, or the output would replace the model or the data.
        OutputError: Parts are missing, doubled, or of different passes; or the result exists or cannot be written.
        RecordError: A part cannot be read.
    """
    started = time.perf_counter()
    folder = Path(output)
    storing = storing or StoreOptions()
    storing.check()
    check_decoder_options(decoder=decoder, verify=verify, any_decoder=any_decoder)
    check_given(rule=rule, threshold=threshold, dimensions=dimensions)
    encoding, files = _gathered([Path(part) for part in parts])
    refuse_output(folder, Path(encoding.model.path), place_of(encoding.data.path), overwrite=overwrite)
    kept, said = None, tuple[str, ...]()
    if dimensions is not None:
        kept, said = given(dimensions, encoding.model.latent_dim), ("The dimensions kept were named by the user.",)
    choice = Choice(*check_rule(encoding.family, rule, threshold), kept, said, storing)
    evidence = _evidence(encoding, decoder=decoder, labels=labels, verify=verify, any_decoder=any_decoder)
    with evidence as measure, locked(folder):
        return write_result(encoding, files, folder, choice, measure=measure, timings={}, started=started)


def _gathered(parts: Sequence[Path]) -> tuple[EncodingPass, list[Path]]:
    """The pass of all parts, and the files of its shards in order."""
    if not parts:
        raise OptionError("no part is named", expected="folders of parts", found="none", remedy="name them all")
    folders = [ShardFolder(part) for part in parts]
    for folder in folders:
        if not (folder.path / FILE_NAME).exists():
            raise RecordError(
                f"{folder.output} is no part of a pass",
                expected=f"{folder.path / FILE_NAME}, as select-latents --shard writes it",
                found="a finished result" if (folder.output / RESULT_NAMES[0]).exists() else "no such file",
                remedy="name the folders of the parts",
            )
    passes = [EncodingPass.read(folder.path / FILE_NAME) for folder in folders]
    encoding = passes[0]
    for folder, other in zip(folders, passes, strict=True):
        if other.fingerprint != encoding.fingerprint:
            raise OutputError(
                f"{folder.output} and {folders[0].output} are parts of different passes",
                expected=f"parts with the fingerprint {encoding.fingerprint[:16]}",
                found=f"{other.fingerprint[:16]} ({'; '.join(encoding.differences(other))[:400]})",
                remedy="merge parts of the same encoder, data set, options and versions",
            )
    files: dict[int, Path] = {}
    counts: Counter[int] = Counter()
    for folder in folders:
        for number in folder.numbers():
            counts[number] += 1
            files[number] = folder.file(number)
    n_shards = encoding.plan.n_shards
    doubled = sorted(number for number, count in counts.items() if count > 1)
    missing = sorted(set(range(n_shards)) - set(files))
    beyond = sorted(set(files) - set(range(n_shards)))
    if doubled or missing or beyond:
        faults = [("missing", missing), ("in two parts", doubled), ("of no such number", beyond)]
        raise OutputError(
            "the parts do not make up the whole data set",
            expected=f"each of the {n_shards} shards once",
            found="; ".join(f"{what}: {indices(numbers)}" for what, numbers in faults if numbers)[:400],
            remedy="run the parts that are missing or unfinished again, and name each part once",
        )
    return encoding, [files[number] for number in range(n_shards)]


@contextmanager
def _evidence(
    encoding: EncodingPass,
    *,
    decoder: str | os.PathLike[str] | None,
    labels: str | os.PathLike[str] | None,
    verify: bool,
    any_decoder: bool,
) -> Iterator[Callable[[Findings], Evidence]]:
    """What measures the latents against a decoder and labels; without both nothing is opened."""
    if decoder is None and labels is None:
        yield lambda _: Evidence()
        return
    options = EncodeOptions(
        dataset_key=encoding.dataset_key,
        resize=encoding.data.resize,  # type: ignore[arg-type]
        heads=encoding.head_names,
        input_options=encoding.input_options,
        bootstrap=encoding.settings.replicates,
    )
    with open_pass(Path(encoding.model.path), place_of(encoding.data.path), options) as opened:
        if (opened.encoding.model.sha256, opened.encoding.data.fingerprint) != (
            encoding.model.sha256,
            encoding.data.fingerprint,
        ):
            raise OutputError(
                "the encoder or the data set is another than the parts were made of",
                expected=f"{encoding.model.path} and {encoding.data.path} as they were",
                found="other content",
                remedy="restore them, or leave --decoder and --labels out",
            )
        sources = EvidenceSources(
            opened.session,
            opened.dataset,
            decoder=decoder,
            labels=labels,
            device=options.device,
            verify=verify,
            any_decoder=any_decoder,
        )
        yield sources.measure
