"""A radix tree over the token ids that stand, or are about to, in the KV cache.

Every node is a run of tokens that exists once. Its first `num_ready` tokens have cells; the others
are planned: a running request will compute them. Requests pin the nodes of their path, and what
nobody pins may be evicted from its end, the least recently used first.

The tree knows sequences by number only, as marks of where each of them ends. The idea is that of
RadixAttention (Zheng et al. 2024, arXiv:2312.07104).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.vocabulary import TokenIds

_NO_TOKENS: TokenIds = np.zeros(0, dtype=np.int32)


class Node:
    """Tokens `[start, end)` of every sequence that passes here."""

    __slots__ = (
        "children",
        "ends",
        "num_pins",
        "num_ready",
        "parent",
        "start",
        "tokens",
        "used_at",
    )

    def __init__(self, parent: Node | None, start: int, tokens: TokenIds) -> None:
        self.parent = parent
        self.start = start
        self.tokens = tokens
        self.children: dict[int, Node] = {}
        self.num_ready = 0
        self.num_pins = 0
        self.used_at = 0
        # Sequences whose tokens end where this node does.
        self.ends: set[int] = set()

    @property
    def end(self) -> int:
        """Tokens from the root to the node's last one."""
        return self.start + len(self.tokens)

    @property
    def is_ready(self) -> bool:
        """Whether all of its tokens have cells."""
        return self.num_ready == len(self.tokens)

    @property
    def is_bare(self) -> bool:
        """Whether nobody needs it: no pin, no child, no sequence that ends here."""
        return not (self.parent is None or self.num_pins or self.children or self.ends)

    def path(self) -> Iterator[Node]:
        """The node and its ancestors, without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent


@dataclass(frozen=True, slots=True)
class Match:
    """How much of a beginning the tree knows, in tokens from the root.

    `num_known` in all, `num_ready` with cells, `num_pinned` by running requests.
    """

    num_known: int
    num_ready: int
    num_pinned: int


class PrefixTree:
    """Beginnings by their tokens. Used by one thread."""

    def __init__(self) -> None:
        self.root = Node(None, 0, _NO_TOKENS)
        self.num_tokens = 0
        self.num_pinned = 0
        self._clock = 0

    def match(self, tokens: TokenIds) -> Match:
        """How much of `tokens` is there; changes nothing."""
        known = ready = pinned = 0
        for node, length in self._walk(tokens):
            if known == ready:
                ready += min(length, node.num_ready)
            known += length
            pinned += length if node.num_pins else 0
        return Match(known, ready, pinned)

    def attach(self, tokens: TokenIds, *, ready_only: bool = False) -> Node:
        """The node at whose end `tokens` end, made by splitting and planning where needed.

        With `ready_only` it ends in front of the first node that is not all ready.
        """
        node, depth = self.root, 0
        for step, length in list(self._walk(tokens)):
            if ready_only and step.num_ready < length:
                break
            node = self._split(step, length) if length < len(step.tokens) else step
            depth = node.end
        else:
            if depth < len(tokens):
                node = self._add(node, tokens[depth:])
        self._touch(node)
        return node

    def grow(self, node: Node, tokens: TokenIds) -> None:
        """Put tokens with cells behind a ready node that nothing else continues."""
        if node.children or node.parent is None or not node.is_ready:
            raise ValueError("only a ready end of a beginning can grow")
        node.tokens = np.concatenate([node.tokens, tokens])
        node.num_ready = len(node.tokens)
        self.num_tokens += len(tokens)
        self.num_pinned += len(tokens) if node.num_pins else 0

    def pin(self, node: Node, *, above: Node | None = None) -> None:
        """Keep the nodes from the root to `node`, or only those below its ancestor `above`."""
        for step in node.path():
            if step is above:
                return
            if not step.num_pins:
                self.num_pinned += len(step.tokens)
            step.num_pins += 1

    def unpin(self, node: Node) -> None:
        """Take back a pin of everything from the root to `node`."""
        for step in node.path():
            step.num_pins -= 1
            if not step.num_pins:
                self.num_pinned -= len(step.tokens)
        self._touch(node)

    def fill(self, node: Node, num_tokens: int) -> None:
        """Note that the first `num_tokens` tokens of the path to `node` have cells."""
        for step in node.path():
            step.num_ready = max(step.num_ready, min(num_tokens - step.start, len(step.tokens)), 0)

    def num_ready(self, node: Node) -> int:
        """Leading tokens of the path to `node` that have cells."""
        ready = node.start + node.num_ready
        for step in node.path():
            if not step.is_ready:
                ready = step.start + step.num_ready
        return ready

    def find(self, node: Node, position: int) -> Node | None:
        """The node of the path to `node` that holds the token at `position`, if one does."""
        return next((step for step in node.path() if step.start <= position < step.end), None)

    def trim(self, node: Node, num_tokens: int) -> None:
        """Take the last tokens off an unpinned node without children; with all of them it goes."""
        if node.num_pins or node.children or node.parent is None:
            raise ValueError("only the unpinned end of a beginning can be trimmed")
        left = len(node.tokens) - num_tokens
        self.num_tokens -= num_tokens
        if left:
            node.tokens = node.tokens[:left]
            node.num_ready = min(node.num_ready, left)
        else:
            del node.parent.children[int(node.tokens[0])]

    def holder(self, node: Node, num_tokens: int) -> int | None:
        """A sequence that holds the first `num_tokens` tokens of the path to `node`."""
        last = self.find(node, num_tokens - 1)
        stack = [] if last is None else [last]
        while stack:
            step = stack.pop()
            if step.ends:
                return min(step.ends)
            stack += step.children.values()
        return None

    def count_filled(self) -> int:
        """Pinned tokens that have cells."""
        stack, num_filled = [*self.root.children.values()], 0
        while stack:
            node = stack.pop()
            if node.num_pins:
                num_filled += node.num_ready
                stack += node.children.values()
        return num_filled

    def leaves(self) -> list[Node]:
        """Unpinned nodes without children, the least recently used first."""
        found, stack = [], [*self.root.children.values()]
        while stack:
            node = stack.pop()
            stack += node.children.values()
            if not node.children and not node.num_pins:
                found.append(node)
        return sorted(found, key=lambda node: node.used_at)

    def _walk(self, tokens: TokenIds) -> Iterator[tuple[Node, int]]:
        """Each node along `tokens` with the number of its tokens that agree."""
        node, depth = self.root, 0
        while depth < len(tokens):
            child = node.children.get(int(tokens[depth]))
            if child is None:
                return
            length = common_prefix(child.tokens, tokens[depth:])
            yield child, length
            if length < len(child.tokens):
                return
            node, depth = child, child.end

    def _add(self, parent: Node, tokens: TokenIds) -> Node:
        # A copy: a view would keep the whole prompt alive.
        node = Node(parent, parent.end, tokens.copy())
        parent.children[int(tokens[0])] = node
        self.num_tokens += len(tokens)
        return node

    def _split(self, node: Node, length: int) -> Node:
        """Give the first `length` tokens a node of their own, above what keeps its identity."""
        if node.parent is None:
            raise ValueError("the root has no tokens")
        upper = Node(node.parent, node.start, node.tokens[:length])
        upper.num_pins, upper.used_at = node.num_pins, node.used_at
        upper.num_ready = min(node.num_ready, length)
        node.parent.children[int(node.tokens[0])] = upper
        node.num_ready = max(node.num_ready - length, 0)
        node.start, node.tokens, node.parent = upper.end, node.tokens[length:], upper
        upper.children[int(node.tokens[0])] = node
        return upper

    def _touch(self, node: Node) -> None:
        self._clock += 1
        for step in node.path():
            step.used_at = self._clock


def spell(node: Node) -> TokenIds:
    """The tokens from the root to the end of `node`."""
    return np.concatenate([_NO_TOKENS, *(step.tokens for step in [*node.path()][::-1])])


def common_prefix(a: TokenIds, b: TokenIds) -> int:
    """Number of leading tokens that are equal."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length
