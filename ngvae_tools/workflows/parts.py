"""The output folder of select-latents while it is being written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from ngvae_tools.analysis.moments import BLOCK
from ngvae_tools.datasets import Rejection
from ngvae_tools.files import flush_to_disk, output_errors
from ngvae_tools.inference.stream import EncodedBlock
from ngvae_tools.latents.file import FILE_NAME as LATENTS_NAME
from ngvae_tools.record import FILE_NAME as RECORD_NAME
from ngvae_tools.record import AnalysisRecord

REJECTED_NAME = "rejected.jsonl"


class SelectionParts:
    """Every file of a result under its name + ".part", until all are whole and get their final names.

    Latents go into a spool first, all dimensions of them: which ones are kept is known only after the pass.

    Args:
        folder: The output folder; it is made where it is missing, and taken away again if nothing comes of it.
        width: Posterior means of one image: K, or K for each of its positions.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.latents = folder / f"{LATENTS_NAME}.part"
        self._spool = folder / "spool.part"
        self._rejected = folder / f"{REJECTED_NAME}.part"
        self._record = folder / f"{RECORD_NAME}.part"
        self._row = np.dtype([("index", "<i8"), ("mu", "<f4", (width,))])
        self._files: dict[Path, IO[bytes]] = {}

    def __enter__(self) -> Self:
        with output_errors(self.folder):
            self._created = [place for place in (self.folder, *self.folder.parents) if not place.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            # A killed run leaves its parts, and rejections of another run must not be taken for ours.
            self._remove()
            self._files[self._spool] = self._spool.open("w+b")
        return self

    def __exit__(self, *exception: object) -> None:
        while self._files:
            with suppress(OSError):
                self._close()
        with suppress(OSError):
            self._remove()
            for place in self._created:
                place.rmdir()  # refuses, and ends this, where a result lies

    def add(self, block: EncodedBlock) -> None:
        """Append a block's latents and rejections.

        Raises:
            OutputError: They cannot be written.
        """
        rows = np.empty(len(block.index), dtype=self._row)
        rows["index"], rows["mu"] = block.index, block.heads.mu.reshape(rows["mu"].shape)
        with output_errors(self.folder):
            self._files[self._spool].write(rows.tobytes())
            for rejection in block.rejected:
                self._reject(rejection)

    def spooled(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """The latents added, block by block: indices (n,) and posterior means (n, width).

        Raises:
            OutputError: The last of them cannot be written.
        """
        spool = self._files[self._spool]
        with output_errors(self.folder):
            spool.flush()
        spool.seek(0)
        while data := spool.read(BLOCK * self._row.itemsize):
            rows = np.frombuffer(data, self._row)
            yield rows["index"], rows["mu"]

    def finish(self, record: AnalysisRecord) -> None:
        """Give every file its final name, the record last: a folder with a record has a whole result.

        Raises:
            OutputError: A file cannot be written.
        """
        with output_errors(self.folder):
            self._close()
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

    def _reject(self, rejection: Rejection) -> None:
        if self._rejected not in self._files:
            self._files[self._rejected] = self._rejected.open("wb")
        # ASCII escapes keep surrogates, and with them any file name, reversible.
        line = {"index": rejection.index, "id": rejection.identifier, "reason": rejection.reason}
        self._files[self._rejected].write(json.dumps(line).encode("ascii") + b"\n")

    def _remove(self) -> None:
        for path in (self._spool, self.latents, self._rejected, self._record):
            path.unlink(missing_ok=True)

    def _close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()
