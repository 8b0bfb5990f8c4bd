"""The finished shards of a pass, in a folder beside what will be made of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ngvae_tools.errors import OutputError, RecordError
from ngvae_tools.files import output_errors
from ngvae_tools.inference.shard_file import read_shard, write_shard
from ngvae_tools.inference.shards import ShardResult
from ngvae_tools.workflows.encoding_pass import FILE_NAME, EncodingPass

SHARDS = "shards"
"""Name of the folder."""

ENDING = ".npz"


class ShardFolder:
    """Where a pass keeps its shards, from the first to the result.

    Args:
        output: The output folder; the shards lie in a folder of their own inside it.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / SHARDS

    def begin(self, encoding: EncodingPass, *, overwrite: bool) -> dict[int, int]:
        """Make the folder ready for a pass; the shards that are there, whole, and how many images each rejected.

        Raises:
            OutputError: It holds shards of another pass, which may not be overwritten; or it cannot be written.
        """
        plan = self.path / FILE_NAME
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
        with output_errors(self.output):
            if before is None:
                self.remove()
            self.path.mkdir(parents=True, exist_ok=True)
            for part in self.path.glob("*.part"):
                part.unlink()
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
        """Remove the folder: first what says that its shards belong together."""
        (self.path / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

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
        if not shards.numbers():
            shards.remove()
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
