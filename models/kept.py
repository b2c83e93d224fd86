"""What finished requests leave behind: sequences that hold beginnings until others need the room.

The least recently used go first, from their ends. What leaves the cells may go to the shelf and
come back from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.compaction import compact
from models.context import Context
from models.prefixes import Node, PrefixTree, spell
from models.shelf import Shelf
from models.stats import PrefixCounts
from models.vocabulary import TokenIds


@dataclass(slots=True)
class KeptSequences:
    """The sequences of a context that no running request has; used by the decode thread."""

    context: Context
    tree: PrefixTree
    counts: PrefixCounts
    # Sequences that hold nothing.
    free: list[int]
    shelf: Shelf | None = None
    # With the nodes where they end: unpinned and without children.
    ends: dict[int, Node] = field(default_factory=dict)

    @property
    def num_cells(self) -> int:
        """Cells that only finished sequences hold."""
        return self.tree.num_tokens - self.tree.num_pinned

    def add(self, sequence: int, node: Node) -> None:
        """Keep a sequence that holds the path to `node` and nothing else."""
        self.ends[sequence] = node
        node.ends.add(sequence)

    def take(self, sequence: int) -> None:
        """Give a kept sequence to a request that goes on where it ended."""
        self.ends.pop(sequence).ends.remove(sequence)

    def free_up(self, sequence: int) -> None:
        """Drop what a sequence holds, for anybody to use it."""
        self.context.drop(sequence)
        self.free.append(sequence)

    def make_free(self, num_wanted: int, but: int | None = None) -> None:
        """Give up kept sequences until so many are free, the least recently used first."""
        oldest_first = sorted(self.ends, key=lambda sequence: self.ends[sequence].used_at)
        for sequence in oldest_first:
            if len(self.free) >= num_wanted:
                return
            if sequence != but:
                self.shelve(sequence)
                self.forget(sequence)

    def evict(self, num_cells: int) -> None:
        """Give so many kept cells back, from the ends of the least recently used beginnings."""
        while num_cells > 0:
            node = self.tree.leaves()[0]
            num_cells -= self._trim(node, min(num_cells, len(node.tokens)))

    def forget(self, sequence: int, *, frees: bool = True) -> None:
        """Drop what `sequence` alone holds, and with `frees` the sequence itself."""
        node = self.ends.pop(sequence)
        node.ends.remove(sequence)
        num_before = self.tree.num_tokens
        self.prune(node, keeps_ready=False)
        self.counts.num_evicted += num_before - self.tree.num_tokens
        if frees:
            self.free_up(sequence)

    def forget_all(self) -> None:
        """Drop everything, the shelf's states too."""
        if self.shelf is not None:
            self.shelf.clear()
        while self.ends:
            self.forget(next(iter(self.ends)))

    def drop_covered(self, node: Node) -> None:
        """Free the sequences whose whole path another one holds, which ends at `node`."""
        for step in node.path():
            for sequence in step.ends & self.ends.keys():
                self.take(sequence)
                self.free_up(sequence)

    def prune(self, node: Node, *, keeps_ready: bool) -> Node:
        """Take off what nobody needs any more above `node`; return where that stops."""
        while node.is_bare and node.parent is not None:
            num_kept = node.num_ready if keeps_ready else 0
            parent = node.parent
            if num_kept < len(node.tokens):
                self.tree.trim(node, len(node.tokens) - num_kept)
            if num_kept:
                break
            node = parent
        return node

    def compact(self) -> None:
        """Put what is kept together; nobody may run."""
        if self.ends and self.context.can_compact:
            self.make_free(1)
            if not compact(self.context, self.tree.root, self.ends, self.free[-1]):
                self.forget_all()

    def shelve(self, sequence: int) -> None:
        """Save a sequence that is about to lose cells."""
        if self.shelf is not None:
            self.shelf.put(spell(self.ends[sequence]), sequence)

    def fetch(self, tokens: TokenIds, num_promised: int) -> None:
        """Put a finished request that began as `tokens` do back from the shelf.

        `num_promised` cells are not for it.
        """
        match = self.tree.match(tokens)
        # Where others compute the same now, theirs is taken over.
        if self.shelf is None or match.num_known > match.num_ready:
            return
        found = self.shelf.find(tokens, match.num_ready)
        if found is None:
            return
        state, num_tokens, num_common = found
        room = self.context.num_cells - num_promised - num_tokens
        if room < 0:
            return
        self.evict(self.num_cells - room)
        self.make_free(1)
        if not self.free:
            return
        sequence = self.free.pop()
        if not self.context.restore(sequence, state):
            self.free.append(sequence)
            return
        self.context.truncate(sequence, num_common)
        node = self.tree.attach(tokens[:num_common])
        num_ready = self.tree.num_ready(node)
        self.merge(self.tree.holder(node, num_ready), sequence, 0, num_ready)
        self.tree.fill(node, node.end)
        self.drop_covered(node)
        self.add(sequence, node)
        self.counts.num_restored += num_common - num_ready

    def merge(self, source: int | None, sequence: int, start: int, end: int) -> None:
        """Give up the cells `[start, end)` of a sequence for those of `source`, equal ones."""
        if source is not None:
            self.context.drop_range(sequence, start, end)
            self.context.copy_range(source, sequence, start, end)

    def _trim(self, node: Node, num_tokens: int) -> int:
        (sequence,) = node.ends
        self.shelve(sequence)
        parent, is_whole = node.parent, num_tokens == len(node.tokens)
        self.tree.trim(node, num_tokens)
        self.counts.num_evicted += num_tokens
        if not is_whole:
            self.context.truncate(sequence, node.end)
            return num_tokens
        self.take(sequence)
        if parent is not None and parent.is_bare:
            self.context.truncate(sequence, parent.end)
            self.add(sequence, parent)
        else:
            self.free_up(sequence)
        return num_tokens
