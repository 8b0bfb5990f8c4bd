"""Several processes that train one model together, as torchrun starts them, and what they share.

Each process (rank) computes the gradients of its part of every batch; averaged, they move all copies of the model
alike. Everything the copies follow is averaged too, so that they stay equal to the bit.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from ngvae_tools.errors import NgvaeToolsError, OptionError, ProcessesError

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a training as one of them sees them; alone by default.

    Attributes:
        rank: Which one this is, from 0; the first writes, prints and exports.
        world: How many there are.
        local_rank: Which one on this machine: its CUDA device; None where there is one process.
    """

    rank: int = 0
    world: int = 1
    local_rank: int | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share_of(self, batch_size: int) -> int:
        """Images of a full step that are this process's.

        Raises:
            OptionError: The batch cannot be shared evenly.
        """
        if batch_size % self.world:
            raise OptionError(
                "--batch-size cannot be shared by the processes",
                expected=f"a multiple of {self.world}, the number of processes",
                found=str(batch_size),
                remedy="pass another --batch-size, or start another number of processes",
            )
        return batch_size // self.world

    def add_up(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes, the same in each; in place."""
        if self.world > 1:
            with _lost_processes():
                distributed.all_reduce(tensor)
        return tensor

    def average(self, tensors: Sequence[Tensor], count: int) -> None:
        """Replace tensors by their means over the processes, each process weighing as many images as it has."""
        if self.world == 1 or not tensors:
            return
        weight = tensors[0].new_ones(1)
        flat = self.add_up(torch.cat([*(tensor.reshape(-1) for tensor in tensors), weight]) * count)
        means = torch.split(flat[:-1] / flat[-1], [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.world == 1:
            return [value]
        values: list[T | None] = [None] * self.world
        with _lost_processes():
            distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.world == 1:
            return value
        values = [value]
        with _lost_processes():
            distributed.broadcast_object_list(values)
        return values[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block whose error in one process is the error of all; only the first process tells it.

        Raises:
            NgvaeToolsError: The first error by rank, in the first process.
            SystemExit: In the others, with that error's exit code.
        """
        failure: NgvaeToolsError | None = None
        try:
            yield
        except NgvaeToolsError as error:
            failure = error
        failure = next((found for found in self.gather(failure) if found is not None), None)
        if failure is not None:
            raise self.told(failure)

    def told(self, error: NgvaeToolsError) -> BaseException:
        """What to raise for an error that all processes have: only the first tells it, the others just end."""
        return error if self.first else SystemExit(error.exit_code)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Sum of a tensor over the processes that train together, if there are several; in place.

    Raises:
        ProcessesError: One of them has ended.
    """
    if distributed.is_available() and distributed.is_initialized():
        return Ranks(distributed.get_rank(), distributed.get_world_size()).add_up(tensor)
    return tensor


@contextmanager
def processes() -> Iterator[Ranks]:
    """The processes that torchrun started, joined for as long as the block lasts; else this one alone.

    A process group that is there already is used and left as it is.

    Raises:
        OptionError: The environment variables by which torchrun tells a process of the others are incomplete or wrong.
        ProcessesError: The others cannot be reached.
    """
    if not distributed.is_available():
        yield Ranks()
    elif distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), _number("LOCAL_RANK", default=0))
    elif "MASTER_ADDR" not in os.environ or (world := _number("WORLD_SIZE", at_least=1, default=1)) == 1:
        yield Ranks()
    else:
        local_rank = _number("LOCAL_RANK", default=0)
        _number("RANK", at_most=world - 1)
        _number("MASTER_PORT", at_most=2**16 - 1)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        # The first optimiser imports this module, whose functions have the group of that moment as a default argument.
        # So kept, the group would outlive destroy_process_group; its threads go on and abort the process when one of
        # them lets go of a tensor while Python ends. Imported before there is a group, it keeps none.
        importlib.import_module("torch.distributed.nn")
        with _lost_processes():
            distributed.init_process_group(backend, timeout=PATIENCE)
        try:
            yield Ranks(distributed.get_rank(), distributed.get_world_size(), local_rank)
        finally:
            distributed.destroy_process_group()


def _number(name: str, *, at_least: int = 0, at_most: int | None = None, default: int | None = None) -> int:
    """An environment variable that torchrun sets."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        value = int(text or "")
    except ValueError:
        value = at_least - 1
    if value < at_least or (at_most is not None and value > at_most):
        bound = "" if at_most is None else f" to {at_most}"
        raise OptionError(
            f"the environment variable {name} does not say how processes train together",
            expected=f"a whole number from {at_least}{bound}",
            found="none" if text is None else repr(text),
            remedy="start the processes with torchrun, or unset WORLD_SIZE and MASTER_ADDR to train in one",
        )
    return value


@contextmanager
def _lost_processes() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # gloo and nccl; and what torchrun did not say
        raise ProcessesError(
            "the processes of this training cannot work together",
            expected="each of them running and reachable",
            found=f"one that has ended or does not answer ({str(error).partition(chr(10))[0][:200]})",
            remedy="see what it said, and give the same command again: it goes on from the last checkpoint",
        ) from None
