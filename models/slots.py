"""Who holds which sequence and how many cells of the KV cache.

Cells are promised before they are used: a request is admitted only when its prompt and its whole
answer fit next to what is promised already, so that a step never runs out of them. What several
requests share is promised once: the nodes of the tree of prefixes, and for each request what
comes behind its path, its last prompt token and its answer.

Two rules keep that true. A running sequence always holds every cell of its path that anybody has
computed, and of the requests that wait for the same token one alone computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.compaction import compact
from models.context import Context
from models.prefixes import Node, PrefixTree
from models.slot import Slot
from models.stats import CellCounts, PrefixCounts
from models.vocabulary import TokenIds

# Times as many cells as may be kept: with fewer in use at once, little stands far from the front.
_MAX_SPREAD = 3


@dataclass(slots=True)
class SlotTable:
    """Gives out slots over one context; used by the decode thread."""

    context: Context
    num_sequences: int
    max_kept_cells: int
    can_share: bool = True
    tree: PrefixTree = field(default_factory=PrefixTree)
    counts: PrefixCounts = field(default_factory=PrefixCounts)
    _free: list[int] = field(init=False)
    _slots: list[Slot] = field(default_factory=list)
    # The most cells that were in use at once since they were last put together.
    _num_spread: int = 0
    # Sequences of finished requests with the nodes where they end: unpinned and without children.
    _kept: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._free = list(range(self.num_sequences - 1, -1, -1))

    @property
    def slots(self) -> Sequence[Slot]:
        """The slots in use, in the order of their admission."""
        return self._slots

    @property
    def num_promised_cells(self) -> int:
        """Cells of admitted requests, used or not, what they share counted once."""
        return self.tree.num_pinned + sum(slot.num_private for slot in self._slots)

    @property
    def num_kept_cells(self) -> int:
        """Cells that only finished sequences hold."""
        return self.tree.num_tokens - self.tree.num_pinned

    @property
    def kept_sequences(self) -> tuple[int, ...]:
        """Finished sequences whose cells are still there."""
        return tuple(self._kept)

    def count_cells(self, num_private: int) -> CellCounts:
        """What the cells hold, where running requests have so many that nobody shares."""
        return CellCounts(
            num_cells=self.context.num_cells,
            num_promised=self.num_promised_cells,
            num_used=self.tree.count_filled() + num_private,
            num_kept=self.num_kept_cells,
            max_kept=self.max_kept_cells,
            num_kept_sequences=len(self._kept),
        )

    def admit(self, prompt: TokenIds, num_cells: int, num_spare: int = 0) -> Slot | None:
        """Return a slot, or None while there is no room for it.

        The longest beginning of `prompt` that has cells is taken over. What else of it other
        requests are about to compute will be taken over too. Kept cells make room.
        """
        # The last token is always computed: its logits begin the answer.
        shared = prompt[:-1] if self.can_share else prompt[:0]
        num_pinned = self.tree.match(shared).num_pinned
        if self.num_promised_cells + num_cells - num_pinned > self.context.num_cells:
            return None
        if len(self._free) + len(self._kept) < 1 + num_spare:
            return None
        node = self.tree.attach(shared)
        self.tree.pin(node)
        num_ready = self.tree.num_ready(node)
        sequence = self._take_sequence(node, num_ready, num_spare)
        node.ends.add(sequence)
        spare = tuple(self._free.pop() for _ in range(num_spare))
        slot = Slot(sequence, num_cells, num_ready, spare, node, num_ready)
        self._slots.append(slot)
        self._evict(self.num_promised_cells + self.num_kept_cells - self.context.num_cells)
        self._num_spread = max(self._num_spread, self.num_promised_cells + self.num_kept_cells)
        self.counts.num_lookups += 1
        self.counts.num_hits += num_ready > 0
        self.counts.num_reused += num_ready
        return slot

    def note(self, slot: Slot, computed: TokenIds) -> None:
        """Let others share what a slot has computed: `computed` are the tokens in its cells."""
        if not self.can_share:
            return
        num_shared = min(len(computed), slot.node.end)
        if num_shared > slot.num_filled:
            self._fill(slot, num_shared)
        # Continuations hold the cell of the last prompt token too: it cannot be exchanged.
        if len(computed) > slot.node.end and not slot.spare_sequences:
            self._lengthen(slot, computed)

    def next_node(self, slot: Slot, position: int) -> Node | None:
        """What others may want computed as well when `slot` computes the token at `position`."""
        return self.tree.find(slot.node, position)

    def release(self, slot: Slot, computed: TokenIds | None) -> None:
        """Take a slot back. `computed` are the tokens in its cells, None to drop them."""
        keeps = computed is not None and not slot.is_forgotten
        for spare in slot.spare_sequences:
            self._free_up(spare)
        slot.spare_sequences = ()
        if computed is not None:
            self.note(slot, computed)
        self._slots.remove(slot)
        slot.node.ends.remove(slot.sequence)
        self.tree.unpin(slot.node)
        node = self._prune(slot.node, keeps_ready=keeps)
        if node.is_bare:
            # Drafts and what others hold in cells of their own are not kept.
            self.context.truncate(slot.sequence, node.end)
            self._keep(slot.sequence, node)
        else:
            self._free_up(slot.sequence)
        self._evict(self.num_kept_cells - self.max_kept_cells)
        if not self._slots and self._num_spread > _MAX_SPREAD * self.max_kept_cells:
            self._compact()

    def forget_all(self) -> None:
        """Drop every kept sequence, and those of running requests once they end."""
        for slot in self._slots:
            slot.is_forgotten = True
        while self._kept:
            self._forget(next(iter(self._kept)))

    def _compact(self) -> None:
        """Put kept cells together while nobody runs."""
        self._num_spread = self.num_kept_cells
        if self._kept and self.context.can_compact:
            self._free_sequences(1)
            if not compact(self.context, self.tree.root, self._kept, self._free[-1]):
                self.forget_all()

    def _take_sequence(self, node: Node, num_ready: int, num_spare: int) -> int:
        """A sequence with the first `num_ready` cells of the path to `node`."""
        source = self.tree.holder(node, num_ready)
        if source in self._kept and self._kept[source].num_pins:
            # The request goes on where a finished one ended.
            self._kept.pop(source).ends.remove(source)
            self._free_sequences(num_spare)
            return source
        self._free_sequences(1 + num_spare, but=source)
        if source is None:
            return self._free.pop()
        if len(self._free) <= num_spare:
            self._forget(source, frees=False)
            self.context.truncate(source, num_ready)
            return source
        sequence = self._free.pop()
        self.context.copy_range(source, sequence, 0, num_ready)
        return sequence

    def _free_sequences(self, num_wanted: int, but: int | None = None) -> None:
        """Forget kept sequences until so many are free, the least recently used first."""
        oldest_first = sorted(self._kept, key=lambda sequence: self._kept[sequence].used_at)
        for sequence in oldest_first:
            if len(self._free) >= num_wanted:
                return
            if sequence != but:
                self._forget(sequence)

    def _lengthen(self, slot: Slot, computed: TokenIds) -> None:
        """Move the end of the shared part to that of `computed`, or where others still compute."""
        if slot.node.num_pins == 1 and not slot.node.children:
            # Nobody else is there. A node for each token would make a long answer slow to evict.
            self.tree.grow(slot.node, computed[slot.node.end :])
            slot.num_filled = slot.node.end
            return
        node = self.tree.attach(computed, ready_only=True)
        if node.end <= slot.node.end:
            return
        self.tree.pin(node, above=slot.node)
        slot.node.ends.remove(slot.sequence)
        num_ready = self.tree.num_ready(node)
        source = self.tree.holder(node, num_ready) if num_ready > slot.num_filled else None
        if source is not None:
            # Somebody has computed the same: one of the two copies is enough.
            self.context.drop_range(slot.sequence, slot.num_filled, num_ready)
            self.context.copy_range(source, slot.sequence, slot.num_filled, num_ready)
        self.tree.fill(node, node.end)
        node.ends.add(slot.sequence)
        slot.node, slot.num_filled = node, node.end
        self._drop_covered(node)

    def _fill(self, slot: Slot, num_tokens: int) -> None:
        self.tree.fill(slot.node, num_tokens)
        slot.num_filled = num_tokens
        for other in self._slots:
            num_ready = self.tree.num_ready(other.node)
            num_new = num_ready - other.num_filled
            if num_new > 0:
                self.context.copy_range(slot.sequence, other.sequence, other.num_filled, num_ready)
                other.num_filled = num_ready
                self.counts.num_reused += num_new

    def _drop_covered(self, node: Node) -> None:
        """Free the kept sequences whose whole path a running request holds now."""
        for step in node.path():
            for sequence in step.ends & self._kept.keys():
                del self._kept[sequence]
                step.ends.remove(sequence)
                self._free_up(sequence)

    def _prune(self, node: Node, *, keeps_ready: bool) -> Node:
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

    def _evict(self, num_cells: int) -> None:
        """Give so many kept cells back, from the ends of the least recently used beginnings."""
        while num_cells > 0:
            node = self.tree.leaves()[0]
            num_cells -= self._trim(node, min(num_cells, len(node.tokens)))

    def _trim(self, node: Node, num_tokens: int) -> int:
        (sequence,) = node.ends
        parent, is_whole = node.parent, num_tokens == len(node.tokens)
        self.tree.trim(node, num_tokens)
        self.counts.num_evicted += num_tokens
        if not is_whole:
            self.context.truncate(sequence, node.end)
            return num_tokens
        del self._kept[sequence]
        node.ends.remove(sequence)
        if parent is not None and parent.is_bare:
            self.context.truncate(sequence, parent.end)
            self._keep(sequence, parent)
        else:
            self._free_up(sequence)
        return num_tokens

    def _forget(self, sequence: int, *, frees: bool = True) -> None:
        """Drop what `sequence` alone holds, and with `frees` the sequence itself."""
        node = self._kept.pop(sequence)
        node.ends.remove(sequence)
        num_before = self.tree.num_tokens
        self._prune(node, keeps_ready=False)
        self.counts.num_evicted += num_before - self.tree.num_tokens
        if frees:
            self._free_up(sequence)

    def _keep(self, sequence: int, node: Node) -> None:
        self._kept[sequence] = node
        node.ends.add(sequence)

    def _free_up(self, sequence: int) -> None:
        self.context.drop(sequence)
        self._free.append(sequence)
