"""The finished shards of a pass, in a folder beside what will be made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.files import output_errors
from ngvae_tools.inference.shard_file import read_shard, write_shard
from ngvae_tools.inference.shards import ShardResult
from ngvae_tools.workflows.encoding_pass import FILE_NAME, EncodingPass

SHARDS = "shards"
"""Name of the folder."""

ENDING = ".npz"

_OWN = re.compile(rf"({re.escape(FILE_NAME)}|[0-9]{{6,}}{re.escape(ENDING)})(\.part)?")
"""Names of the files of a pass; whatever else lies in the folder is the user's."""


class ShardFolder:
    """Where a pass keeps its shards, from the first to the result.

    Args:
        output: The output folder; the shards lie in a folder of their own inside it.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / SHARDS
        self._begun = False

    def begin(self, encoding: EncodingPass, *, overwrite: bool) -> dict[int, int]:
        """Make the folder ready for a pass; the shards that are there, whole, and how many images each rejected.

        Raises:
            OutputError: It holds shards of another pass, which may not be overwritten, or files of the user's own,
                which never may be; or it cannot be written.
        """
        plan = self.path / FILE_NAME
        if not plan.exists():
            self._refuse_foreign()
        try:
            before = EncodingPass.read(plan) if plan.exists() else None
        except RecordError:
            if not overwrite:
                raise
            before = None
        if before is not None and before.fingerprint != encoding.fingerprint:
            if not overwrite:
                raise _another(self.output, before, encoding)
            before = None
        self._begun = True
        with output_errors(self.output):
            if before is None:
                self._empty()
            self.path.mkdir(parents=True, exist_ok=True)
            for path in self._own():
                if path.suffix == ".part":
                    path.unlink()
            if before is None:
                encoding.write(plan)
        return self._whole()

    @property
    def fingerprint(self) -> str | None:
        """That of the pass whose shards are there; None where that is not known."""
        try:
            return EncodingPass.read(self.path / FILE_NAME).fingerprint
        except (RecordError, OSError):
            return None

    def keep(self, result: ShardResult) -> None:
        """Write a finished shard.

        Raises:
            OutputError: It cannot be written.
        """
        write_shard(self.file(result.shard.number), result)

    def file(self, number: int) -> Path:
        """The file of a shard."""
        return self.path / f"{number:06d}{ENDING}"

    def numbers(self) -> list[int]:
        """The shards that are there, ascending."""
        return sorted(int(path.stem) for path in self.path.glob(f"*{ENDING}") if path.stem.isdecimal())

    def remove(self) -> None:
        """Remove the shards, and the folder if nothing else lies in there."""
        with suppress(OSError):
            self._empty()
            self.path.rmdir()

    def remove_unused(self) -> None:
        """Do so where this pass has begun and no shard of it is finished."""
        if self._begun and not self.numbers():
            self.remove()

    def _empty(self) -> None:
        """Remove the files of a pass; last the one that says that the others are ours."""
        for path in sorted(self._own(), key=lambda path: path.name == FILE_NAME):
            path.unlink()

    def _own(self) -> list[Path]:
        return [path for path in self.path.glob("*") if _OWN.fullmatch(path.name)]

    def _refuse_foreign(self) -> None:
        """Refuse a folder that no pass has made: data sets in parts are called `shards` too."""
        with output_errors(self.output):
            names = sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        others = [name for name in names if not (_OWN.fullmatch(name) and name.endswith(".part"))]
        if others:
            raise OutputError(
                f"{self.path} already exists",
                expected="an unused name, for the finished shards of this pass",
                found=f"a folder that no pass has made, with {others[0]}",
                remedy="name another --output, or move that folder away",
            )

    def _whole(self) -> dict[int, int]:
        """The shards whose files can be read; the others are removed, to be made again."""
        whole = {}
        for number in self.numbers():
            try:
                result = read_shard(self.file(number))
            except RecordError:
                result = None
            if result is not None and result.shard.number == number:
                whole[number] = len(result.rejected)
            else:
                self.file(number).unlink(missing_ok=True)
        return whole


@contextmanager
def kept_shards(shards: ShardFolder) -> Iterator[ShardFolder]:
    """The folder of shards, which stays after an error or an interruption if there is a finished one in it."""
    try:
        yield shards
    except BaseException:
        shards.remove_unused()
        raise


def results(files: Sequence[Path]) -> Iterator[ShardResult]:
    """The results in files, one at a time.

    Raises:
        RecordError: One is damaged.
    """
    for file in files:
        yield read_shard(file)


def _another(output: Path, before: EncodingPass, now: EncodingPass) -> OutputError:
    other = "; ".join(before.differences(now))
    return OutputError(
        f"{output} holds an unfinished result of another encoder, data set or option",
        expected=f"the one with the fingerprint {before.fingerprint[:16]}",
        found=f"{now.fingerprint[:16]} ({other[:400]})",
        remedy="give the model, data and options it began with, name another --output, or replace it with --overwrite",
    )
