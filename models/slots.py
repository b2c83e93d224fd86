"""Who holds which sequence and how many cells of the KV cache.

Cells are promised before they are used: a request is admitted only when its prompt and its whole
answer fit next to what is promised already, so that a step never runs out of them. Sequences that
share cells are counted as if they did not, which errs on the safe side.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from models.context import Context
from models.vocabulary import TokenIds


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one admitted request.

    `sequence` holds its prompt, of which `num_cached` tokens are there already;
    `spare_sequences` are for continuations.
    """

    sequence: int
    num_cells: int
    num_cached: int
    spare_sequences: tuple[int, ...] = ()


class SlotTable:
    """Gives out slots over one context; used by the decode thread."""

    def __init__(
        self, context: Context, num_sequences: int, max_kept: int, *, can_share: bool
    ) -> None:
        self._context = context
        self._free = list(range(num_sequences - 1, -1, -1))
        self._slots: dict[int, Slot] = {}
        # Finished sequences by recency, oldest first, with the tokens in their cells.
        self._kept: OrderedDict[int, TokenIds] = OrderedDict()
        self._max_kept = max_kept if can_share else 0

    @property
    def num_promised_cells(self) -> int:
        """Cells of admitted requests, used or not."""
        return sum(slot.num_cells for slot in self._slots.values())

    @property
    def num_kept_cells(self) -> int:
        """Cells of finished sequences kept for reuse."""
        return sum(len(tokens) for tokens in self._kept.values())

    @property
    def kept_sequences(self) -> tuple[int, ...]:
        """Finished sequences whose cells are still there."""
        return tuple(self._kept)

    def admit(self, prompt: TokenIds, num_cells: int, num_spare: int = 0) -> Slot | None:
        """Return a slot, or None while there is no room for it.

        Kept sequences make room, the least recently used first; the longest prefix that one of
        them shares with `prompt` is taken over before.
        """
        num_sequences = 1 + num_spare
        if self.num_promised_cells + num_cells > self._context.num_cells:
            return None
        if len(self._free) + len(self._kept) < num_sequences:
            return None
        source, num_cached = self._longest_prefix(prompt)
        if source is not None:
            self._kept.move_to_end(source)
        # The source goes last, and only if nothing else makes room.
        while len(self._free) < num_sequences or not self._has_cells(num_cells):
            oldest = next(iter(self._kept))
            if oldest == source and self._free:
                break
            if oldest == source:
                source, num_cached = None, 0
            self._forget(oldest)
        sequence = self._free.pop()
        if source is not None:
            self._context.copy_prefix(source, sequence, num_cached)
        while len(self._free) < num_spare or not self._has_cells(num_cells):
            self._forget(next(iter(self._kept)))
        spare = tuple(self._free.pop() for _ in range(num_spare))
        slot = self._slots[sequence] = Slot(sequence, num_cells, num_cached, spare)
        return slot

    def release(self, slot: Slot, computed: TokenIds | None) -> None:
        """Take a slot back. `computed` are the tokens in its cells, None to drop them."""
        del self._slots[slot.sequence]
        for spare in slot.spare_sequences:
            self._context.drop(spare)
            self._free.append(spare)
        if computed is None or not len(computed) or not self._max_kept:
            self._context.drop(slot.sequence)
            self._free.append(slot.sequence)
            return
        for sequence, tokens in list(self._kept.items()):
            if common_prefix(tokens, computed) == len(tokens):
                self._forget(sequence)
        self._kept[slot.sequence] = computed
        while len(self._kept) > self._max_kept:
            self._forget(next(iter(self._kept)))

    def forget_all(self) -> None:
        """Drop every kept sequence."""
        for sequence in list(self._kept):
            self._forget(sequence)

    def _forget(self, sequence: int) -> None:
        del self._kept[sequence]
        self._context.drop(sequence)
        self._free.append(sequence)

    def _has_cells(self, num_cells: int) -> bool:
        taken = self.num_promised_cells + self.num_kept_cells
        return taken + num_cells <= self._context.num_cells

    def _longest_prefix(self, prompt: TokenIds) -> tuple[int | None, int]:
        # The last token is always computed: its logits begin the answer.
        lengths = {s: common_prefix(tokens, prompt[:-1]) for s, tokens in self._kept.items()}
        best = max(lengths, key=lengths.__getitem__, default=None)
        if best is None or not lengths[best]:
            return None, 0
        return best, lengths[best]


def common_prefix(a: TokenIds, b: TokenIds) -> int:
    """Number of leading tokens that are equal."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length
