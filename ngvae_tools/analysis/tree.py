"""Merging what consecutive blocks give in one fixed tree, whatever the order and the parts they come in.

Sums of floating-point numbers depend on their order in the last bits. Here block 2 i is always merged with block
2 i + 1, the pair with its neighbour pair, and so on, so that any cut into shards gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar


class Mergeable(Protocol):
    """What can be merged with its right neighbour."""

    def merge(self, other: Self) -> Self:
        """Both, this one first."""


T = TypeVar("T", bound=Mergeable)


@dataclass(frozen=True, slots=True)
class Node(Generic[T]):
    """The blocks from position 2**level to (position + 1) 2**level, merged; None where none of them has a row."""

    level: int
    position: int
    value: T | None


class MergeTree(Generic[T]):
    """Collects nodes, and merges those that belong together as soon as both are there."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], T | None] = {}

    def add(self, node: Node[T]) -> None:
        """Add what a node's blocks give.

        Raises:
            ValueError: One of its blocks was added before.
        """
        level, position, value = node.level, node.position, node.value
        while (sibling := (level, position ^ 1)) in self._nodes:
            other = self._nodes.pop(sibling)
            value = _merged(other, value) if position & 1 else _merged(value, other)
            level, position = level + 1, position >> 1
        if (level, position) in self._nodes:
            raise ValueError(f"block {node.position << node.level} was added twice")
        self._nodes[level, position] = value

    def nodes(self) -> tuple[Node[T], ...]:
        """The nodes that could not be merged so far, by their first block."""
        ordered = sorted(self._nodes, key=lambda at: at[1] << at[0])
        return tuple(Node(level, position, self._nodes[level, position]) for level, position in ordered)

    def total(self) -> T | None:
        """All blocks merged, as if those that are missing had no row; None without any row.

        Raises:
            ValueError: A block was added twice.
        """
        here = dict(self._nodes)
        while len(here) > 1:
            level = min(level for level, _ in here)
            raised: dict[tuple[int, int], T | None] = {}
            for at in sorted(at for at in here if at[0] == level):
                parent, value = (level + 1, at[1] >> 1), here.pop(at)
                raised[parent] = _merged(raised[parent], value) if parent in raised else value
            if raised.keys() & here.keys():
                raise ValueError("a block was added twice")
            here |= raised
        return next(iter(here.values()), None)


def _merged(left: T | None, right: T | None) -> T | None:
    if left is None or right is None:
        return right if left is None else left
    return left.merge(right)
