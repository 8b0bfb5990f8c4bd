"""Merging in a fixed tree: any order and any parts give the same bits."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngvae_tools.analysis.moments import Moments
from ngvae_tools.analysis.tree import MergeTree, Node


@dataclass(frozen=True)
class Text:
    """What shows the order and the brackets of merging."""

    text: str

    def merge(self, other):
        return Text(f"({self.text}{other.text})")


def leaves(count, empty=()):
    return [Node(0, k, None if k in empty else Text(chr(97 + k))) for k in range(count)]


def tree_of(nodes):
    tree = MergeTree()
    for node in nodes:
        tree.add(node)
    return tree


def test_neighbours_are_merged_in_pairs():
    assert tree_of(leaves(4)).total().text == "((ab)(cd))"
    assert tree_of(leaves(7)).total().text == "(((ab)(cd))((ef)g))"
    assert tree_of(leaves(1)).total().text == "a"
    assert tree_of([]).total() is None


def test_empty_blocks_and_missing_ones_are_the_same():
    assert tree_of(leaves(6, empty={1, 2, 3})).total().text == "(a(ef))"
    assert tree_of(node for node in leaves(6) if node.position not in {1, 2, 3}).total().text == "(a(ef))"
    assert tree_of(leaves(5, empty=range(5))).total() is None


def test_whole_ranges_take_one_node():
    assert len(tree_of(leaves(8)).nodes()) == 1
    assert [(node.level, node.position) for node in tree_of(leaves(7)).nodes()] == [(2, 0), (1, 2), (0, 6)]


def test_a_block_that_comes_twice_is_refused():
    tree = tree_of(leaves(3))
    with pytest.raises(ValueError, match="twice"):
        tree.add(Node(0, 2, Text("c")))
    tree.add(Node(0, 0, Text("a")))
    with pytest.raises(ValueError, match="twice"):
        tree.total()


@st.composite
def cases(draw):
    """How many blocks, in which order they come, which are empty, and where parts are cut."""
    count = draw(st.integers(1, 40))
    blocks = st.sets(st.integers(0, count - 1))
    return count, draw(st.permutations(range(count))), draw(blocks), draw(blocks)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_any_order_and_any_parts_give_the_same_moments(case):
    count, order, empty, cuts = case
    rng = np.random.default_rng(count)
    rows = [rng.normal(1e3, 1, size=(5, 3)) for _ in range(count)]
    nodes = [Node(0, k, None if k in empty else Moments.of(rows[k])) for k in range(count)]
    expected = tree_of(nodes).total()
    by_order = tree_of(nodes[k] for k in order).total()
    parts = np.split(np.array(nodes, dtype=object), sorted(cuts))
    by_parts = tree_of(node for part in reversed(parts) for node in tree_of(part).nodes()).total()
    if expected is None:
        assert by_order is by_parts is None
        return
    for found in (by_order, by_parts):
        assert found.count == expected.count
        assert found.mean.tobytes() == expected.mean.tobytes()
        assert found.comoment.tobytes() == expected.comoment.tobytes()
    everything = np.concatenate([rows[k] for k in range(count) if k not in empty])
    np.testing.assert_allclose(expected.covariance(), np.cov(everything.T), rtol=1e-9, atol=1e-12)
