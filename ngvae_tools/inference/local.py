"""Workers of one machine: threads that each read, decode, encode and finish what they have begun.

The encoder runs in the worker's own thread, and decoders and the reading of files let the others go on. Pieces are
handed out in order of index, so that at any time few shards are begun and not finished, and memory does not grow with
the data set.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ngvae_tools.analysis.blas import one_blas_thread
from ngvae_tools.datasets import ImageDataset, Rejection
from ngvae_tools.inference.session import EncoderSession
from ngvae_tools.inference.shards import Shard, ShardPlan, ShardResult, ShardSettings, surveyed
from ngvae_tools.inference.stream import EncodedRange, encode_range

TURN = 0.0005
"""Seconds after which a thread that computes in Python lets another one go on."""


@dataclass(frozen=True, slots=True)
class Done:
    """How many images were read, and those of them that were rejected."""

    images: int
    rejected: tuple[Rejection, ...]


@dataclass(slots=True)
class _Begun:
    """A shard that is being worked on."""

    shard: Shard
    missing: int
    pieces: dict[int, EncodedRange] = field(default_factory=dict)


def run_shards(
    dataset: ImageDataset,
    session: EncoderSession,
    plan: ShardPlan,
    shards: Iterable[int],
    settings: ShardSettings,
    *,
    workers: int,
    keep: Callable[[ShardResult], None],
    on_done: Callable[[Done], None],
) -> None:
    """Run shards in threads.

    Args:
        dataset: What to encode.
        session: The encoder, which every worker uses.
        plan: How the data set is cut.
        shards: Numbers of the shards to run, ascending.
        settings: What decides their results.
        workers: Number of threads.
        keep: Called with every finished shard, in the thread that finished it.
        on_done: Called in the caller's thread after every piece; what it raises ends the run.

    Raises:
        ContractError: The encoder's outputs do not fit the contract.
    """
    job = _Job(dataset, session, plan, settings, keep, _pieces(plan, shards))
    threads = [threading.Thread(target=job.work, name=f"encode-{k}") for k in range(workers)]
    with one_blas_thread(), _short_turns():
        for thread in threads:
            thread.start()
        try:
            running = workers
            while running:
                said = job.said.get()
                if isinstance(said, Done):
                    on_done(said)
                elif said is None:
                    running -= 1
                else:
                    raise said
        finally:
            # Also after Ctrl-C: every worker ends the piece it has in hand, none begins another.
            job.stop.set()
            for thread in threads:
                thread.join()


class _Job:
    """What the workers share."""

    def __init__(
        self,
        dataset: ImageDataset,
        session: EncoderSession,
        plan: ShardPlan,
        settings: ShardSettings,
        keep: Callable[[ShardResult], None],
        pieces: Iterator[tuple[_Begun, int, int]],
    ) -> None:
        self.dataset = dataset
        self.session = session
        self.plan = plan
        self.settings = settings
        self.keep = keep
        self.stop = threading.Event()
        self.said: queue.SimpleQueue[Done | BaseException | None] = queue.SimpleQueue()
        self._pieces = pieces
        self._lock = threading.Lock()

    def work(self) -> None:
        """Take pieces until there are none, or the run ends."""
        try:
            while not self.stop.is_set():
                with self._lock:
                    taken = next(self._pieces, None)
                if taken is None:
                    break
                self._run(*taken)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self.stop.set()
            self.said.put(error)
        else:
            self.said.put(None)

    def _run(self, begun: _Begun, start: int, stop: int) -> None:
        piece = encode_range(self.dataset, self.session, start, stop, batch_size=self.settings.batch_size)
        with self._lock:
            begun.pieces[start] = piece
            begun.missing -= 1
            whole = begun.missing == 0
        if whole:
            pieces = [begun.pieces[start] for start in sorted(begun.pieces)]
            self.keep(surveyed(self.dataset, self.session, self.plan, begun.shard, self.settings, pieces))
            begun.pieces.clear()
        self.said.put(Done(piece.size, piece.rejected))


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads of Python take turns often: else one that computes statistics keeps decoders waiting for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _pieces(plan: ShardPlan, shards: Iterable[int]) -> Iterator[tuple[_Begun, int, int]]:
    for number in shards:
        shard = plan.shard(number)
        pieces = plan.pieces(shard)
        begun = _Begun(shard, len(pieces))
        for start, stop in pieces:
            yield begun, start, stop
