"""The tree of prefixes against the plain list of everything that was put into it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.prefixes import Node, PrefixTree, common_prefix
from models.vocabulary import TokenIds

TEXTS = st.lists(st.integers(0, 2), max_size=9)


def _ids(tokens: list[int]) -> TokenIds:
    return np.array(tokens, dtype=np.int32)


def _nodes(tree: PrefixTree) -> list[Node]:
    found, stack = [], [tree.root]
    while stack:
        node = stack.pop()
        found.append(node)
        stack += node.children.values()
    return found


def _text(node: Node) -> list[int]:
    return [token for step in [*node.path()][::-1] for token in step.tokens.tolist()]


def _assert_is_radix_tree(tree: PrefixTree) -> None:
    nodes = _nodes(tree)
    for node in nodes:
        for first, child in node.children.items():
            assert child.parent is node
            assert child.start == node.end
            assert int(child.tokens[0]) == first
            assert 0 <= child.num_ready <= len(child.tokens)
            assert node.is_ready or not child.num_ready
            assert child.num_pins <= node.num_pins or node is tree.root
            assert child.used_at <= node.used_at or node is tree.root
    assert tree.num_tokens == sum(len(node.tokens) for node in nodes)
    assert tree.num_pinned == sum(len(node.tokens) for node in nodes if node.num_pins)


class Naive:
    """The same tree as the list of its texts: each with its ready length and whether pinned."""

    def __init__(self) -> None:
        self.texts: list[list[int]] = []
        self.ready: set[tuple[int, ...]] = set()
        self.pins: list[list[int]] = []

    @property
    def prefixes(self) -> set[tuple[int, ...]]:
        return {tuple(text[:n]) for text in self.texts for n in range(1, len(text) + 1)}

    @property
    def pinned(self) -> set[tuple[int, ...]]:
        return {tuple(text[:n]) for text in self.pins for n in range(1, len(text) + 1)}

    def match(self, text: list[int]) -> tuple[int, int, int]:
        starts = [tuple(text[:n]) for n in range(1, len(text) + 1)]
        return (
            sum(start in self.prefixes for start in starts),
            sum(start in self.ready for start in starts),
            sum(start in self.pinned for start in starts),
        )


STEPS = st.lists(
    st.tuples(st.sampled_from(["attach", "fill", "unpin", "trim"]), TEXTS, st.integers(0, 9)),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_it_knows_what_a_list_of_texts_knows(steps: list[tuple[str, list[int], int]]) -> None:
    tree, naive = PrefixTree(), Naive()
    held: list[tuple[Node, list[int]]] = []
    for action, drawn, number in steps:
        text = drawn
        if action == "attach":
            node = tree.attach(_ids(text))
            assert _text(node) == text
            tree.pin(node)
            naive.texts.append(text)
            naive.pins.append(text)
            held.append((node, text))
        elif action == "fill" and held:
            node, text = held[number % len(held)]
            length = min(max(tree.num_ready(node), number), len(text))
            tree.fill(node, length)
            naive.ready |= {tuple(text[:n]) for n in range(1, length + 1)}
            assert tree.num_ready(node) == sum(
                tuple(text[:n]) in naive.ready for n in range(1, len(text) + 1)
            )
        elif action == "unpin" and held:
            node, text = held.pop(number % len(held))
            tree.unpin(node)
            naive.pins.remove(text)
        elif action == "trim" and tree.leaves():
            leaf = tree.leaves()[0]
            assert leaf.used_at == min(leaf.used_at for leaf in tree.leaves())
            whole, num = _text(leaf), min(1 + number, len(leaf.tokens))
            tree.trim(leaf, num)
            left = len(whole) - num
            naive.texts = [
                text[:left] if text[: left + 1] == whole[: left + 1] else text
                for text in naive.texts
            ]
            naive.ready = {ready for ready in naive.ready if ready in naive.prefixes}
        _assert_is_radix_tree(tree)
        assert tree.num_tokens == len(naive.prefixes)
        assert tree.num_pinned == len(naive.pinned)
        match = tree.match(_ids(text))
        assert (match.num_known, match.num_ready, match.num_pinned) == naive.match(text)
    for node, text in held:
        assert _text(node) == text


@given(TEXTS, TEXTS)
def test_what_is_ready_alone_ends_in_front_of_what_is_planned(
    planned: list[int], text: list[int]
) -> None:
    tree = PrefixTree()
    node = tree.attach(_ids(planned))
    tree.fill(node, len(planned) // 2)
    shared = common_prefix(_ids(planned), _ids(text))
    end = tree.attach(_ids(text), ready_only=True)
    assert _text(end) == text[: len(_text(end))]
    assert end.end == (0 if shared > len(planned) // 2 else len(text))
    _assert_is_radix_tree(tree)


def test_the_least_recently_used_end_is_the_first_leaf() -> None:
    tree = PrefixTree()
    ends = [tree.attach(_ids(text)) for text in ([1, 1, 1], [1, 1, 2], [1, 2, 2])]
    assert tree.leaves() == ends
    tree.attach(_ids([1, 1, 1]))
    assert tree.leaves() == [*ends[1:], ends[0]]
    tree.pin(ends[1])
    assert tree.leaves() == [ends[2], ends[0]]
    assert all(a.used_at < b.used_at for a, b in pairwise(tree.leaves()))


def test_a_sequence_below_holds_what_is_above() -> None:
    tree = PrefixTree()
    node = tree.attach(_ids([1, 2, 3, 4]))
    node.ends.add(7)
    assert tree.holder(tree.attach(_ids([1, 2])), 2) == 7
    assert tree.holder(node, 4) == 7
    assert tree.holder(node, 0) is None
    assert tree.holder(tree.attach(_ids([5])), 1) is None


@given(TEXTS, TEXTS)
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(_ids(a), _ids(b))
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]
