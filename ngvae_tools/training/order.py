"""In which order images are trained on, and which process takes which: pure functions of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ngvae_tools.errors import OptionError


def epoch_order(
    train: npt.NDArray[np.int64], *, block: int, window: int, seed: int, epoch: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The training images of one epoch, a window at a time; the windows together hold each of them once.

    Blocks of neighbouring rows are shuffled, and dealt to windows whose images are shuffled in turn. One window
    is a permutation of all that is uniform; of several, each is a cluster sample of blocks.

    Args:
        train: Rows of the training images, ascending, shape (n,).
        block: Rows that are read together.
        window: Images of a window; one exceeds it by less than a block.
        seed: Of the run.
        epoch: From 1.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 1, epoch]))
    starts = np.flatnonzero(np.diff(train // block, prepend=-1))
    lengths = np.diff(starts, append=len(train))
    shuffled = random.permutation(len(starts))
    # As few windows as do, and of even size: a last one of a few images would mix nothing.
    size = -(-len(train) // -(-len(train) // window))
    begins = np.cumsum(lengths[shuffled]) - lengths[shuffled]
    for blocks in np.split(shuffled, np.flatnonzero(np.diff(begins // size)) + 1):
        ends = np.cumsum(lengths[blocks])
        positions = np.repeat(starts[blocks] - ends + lengths[blocks], lengths[blocks]) + np.arange(ends[-1])
        yield train[random.permutation(positions)]


@dataclass(frozen=True, slots=True)
class Partition:
    """How the processes of a run cut an epoch into steps: each image once, and as many steps in every process.

    A step takes `batch_size * world` images, the last what is left; where that is less than one image a
    process, it goes to the step before. The images of a step are shared evenly, so that two processes differ by
    at most one.

    Attributes:
        n: Images of an epoch.
        batch_size: Images a process takes in a full step.
        world: Number of processes.
        rank: Which of them.

    Raises:
        OptionError: There are fewer images than processes.
    """

    n: int
    batch_size: int
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        """Refuse what would leave a process without an image."""
        if self.n < self.world:
            raise OptionError(
                "too few images for so many processes",
                expected=f"at least one training image for each of {self.world} processes",
                found=f"{self.n}",
                remedy="start fewer processes, or train on more images",
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        whole, rest = divmod(self.n, self.batch_size * self.world)
        return max(whole + (rest >= self.world), 1)

    def sizes(self, skip: int = 0) -> Iterator[int]:
        """Images of this process in each step, the first `skip` steps left out."""
        for step in range(skip, self.steps):
            low, high = self._share(self._step_size(step))
            yield int(high - low)

    def share(self, windows: Iterator[npt.NDArray[np.int64]], skip: int = 0) -> Iterator[npt.NDArray[np.int64]]:
        """Of the images of an epoch, those of this process, in the same order; the first `skip` steps left out."""
        together = self.batch_size * self.world
        start = 0
        for window in windows:
            positions = np.arange(start, start + len(window))
            start += len(window)
            step = np.minimum(positions // together, self.steps - 1)
            low, high = self._share(np.where(step < self.steps - 1, together, self._step_size(self.steps - 1)))
            inside = positions - step * together
            mine = window[(step >= skip) & (inside >= low) & (inside < high)]
            if len(mine):
                yield mine

    def _step_size(self, step: int) -> int:
        together = self.batch_size * self.world
        return together if step < self.steps - 1 else self.n - step * together

    def _share(self, size: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        size = np.asarray(size)
        return size * self.rank // self.world, size * (self.rank + 1) // self.world
