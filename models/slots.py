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

from models.context import Context
from models.engine_settings import EngineSettings
from models.kept import KeptSequences
from models.prefixes import Node, PrefixTree
from models.shelf import Shelf, open_shelf
from models.slot import Slot
from models.stats import CellCounts, PrefixCounts
from models.vocabulary import TokenIds

# Of what may be kept while nothing runs, the part that may be kept beside running requests.
_KEPT_BESIDE = 8
# Times as many cells as may be kept: with fewer in use at once, little stands far from the front.
_MAX_SPREAD = 3


@dataclass(slots=True)
class SlotTable:
    """Gives out slots over one context; used by the decode thread."""

    context: Context
    num_sequences: int
    max_kept_cells: int
    can_share: bool = True
    # What has to leave the cells goes here; beside running requests few kept cells are left then.
    shelf: Shelf | None = None
    tree: PrefixTree = field(default_factory=PrefixTree)
    counts: PrefixCounts = field(default_factory=PrefixCounts)
    kept: KeptSequences = field(init=False)
    _slots: list[Slot] = field(default_factory=list)
    # The most cells that were in use at once since they were last put together.
    _num_spread: int = 0

    def __post_init__(self) -> None:
        free = list(range(self.num_sequences - 1, -1, -1))
        self.kept = KeptSequences(self.context, self.tree, self.counts, free, self.shelf)

    @property
    def slots(self) -> Sequence[Slot]:
        """The slots in use, in the order of their admission."""
        return self._slots

    @property
    def is_busy(self) -> bool:
        """Whether requests run beside each other."""
        return len(self._slots) > 1

    @property
    def num_promised_cells(self) -> int:
        """Cells of admitted requests, used or not, what they share counted once."""
        return self.tree.num_pinned + sum(slot.num_private for slot in self._slots)

    @property
    def num_kept_cells(self) -> int:
        """Cells that only finished sequences hold."""
        return self.kept.num_cells

    @property
    def kept_sequences(self) -> tuple[int, ...]:
        """Finished sequences whose cells are still there."""
        return tuple(self.kept.ends)

    def count_cells(self, num_private: int) -> CellCounts:
        """What the cells hold, where running requests have so many that nobody shares."""
        return CellCounts(
            num_cells=self.context.num_cells,
            num_promised=self.num_promised_cells,
            num_used=self.tree.count_filled() + num_private,
            num_kept=self.num_kept_cells,
            max_kept=self.max_kept_cells,
            num_kept_sequences=len(self.kept.ends),
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
        if len(self.kept.free) + len(self.kept.ends) < 1 + num_spare:
            return None
        self.kept.fetch(shared, self.num_promised_cells)
        node = self.tree.attach(shared)
        self.tree.pin(node)
        num_ready = self.tree.num_ready(node)
        sequence = self._take_sequence(node, num_ready, num_spare)
        node.ends.add(sequence)
        spare = tuple(self.kept.free.pop() for _ in range(num_spare))
        slot = Slot(sequence, num_cells, num_ready, spare, node, num_ready)
        self._slots.append(slot)
        self.kept.evict(self.num_promised_cells + self.num_kept_cells - self.context.num_cells)
        if self.shelf is not None:
            self.kept.evict(self.num_kept_cells - self.max_kept_cells // _KEPT_BESIDE)
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
            self.kept.free_up(spare)
        slot.spare_sequences = ()
        if computed is not None:
            self.note(slot, computed)
        self._slots.remove(slot)
        slot.node.ends.remove(slot.sequence)
        self.tree.unpin(slot.node)
        node = self.kept.prune(slot.node, keeps_ready=keeps)
        if node.is_bare:
            # Drafts and what others hold in cells of their own are not kept.
            self.context.truncate(slot.sequence, node.end)
            self.kept.add(slot.sequence, node)
        else:
            self.kept.free_up(slot.sequence)
        self.kept.evict(self.num_kept_cells - self.max_kept_cells)
        if not self._slots and self._num_spread > _MAX_SPREAD * self.max_kept_cells:
            self._num_spread = self.num_kept_cells
            self.kept.compact()

    def forget_all(self) -> None:
        """Drop every kept sequence, and those of running requests once they end."""
        for slot in self._slots:
            slot.is_forgotten = True
        self.kept.forget_all()

    def _take_sequence(self, node: Node, num_ready: int, num_spare: int) -> int:
        """A sequence with the first `num_ready` cells of the path to `node`."""
        source = self.tree.holder(node, num_ready)
        if source in self.kept.ends and self.kept.ends[source].num_pins:
            # The request goes on where a finished one ended.
            self.kept.take(source)
            self.kept.make_free(num_spare)
            return source
        self.kept.make_free(1 + num_spare, but=source)
        if source is None:
            return self.kept.free.pop()
        if len(self.kept.free) <= num_spare:
            self.kept.shelve(source)
            self.kept.forget(source, frees=False)
            self.context.truncate(source, num_ready)
            return source
        sequence = self.kept.free.pop()
        self.context.copy_range(source, sequence, 0, num_ready)
        return sequence

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
        if num_ready > slot.num_filled:
            # If somebody has computed the same, one of the two copies is enough.
            source = self.tree.holder(node, num_ready)
            self.kept.merge(source, slot.sequence, slot.num_filled, num_ready)
        self.tree.fill(node, node.end)
        node.ends.add(slot.sequence)
        slot.node, slot.num_filled = node, node.end
        self.kept.drop_covered(node)

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


def open_slots(context: Context, settings: EngineSettings, width: int) -> SlotTable:
    """The slots of an engine over its context, for a model so wide."""
    return SlotTable(
        context,
        settings.num_sequences,
        settings.count_kept_cells(context.num_cells, width),
        can_share=context.can_share and settings.reuse != "off",
        shelf=open_shelf(context, settings),
    )
