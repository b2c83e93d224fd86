"""Where pieces are computed: in a context of their own, or beside everything else.

llama.cpp's attention on a processor passes over every cell up to the last one in use, also over
those of others, which it may not see. Beside eight answers that takes longer than all else in a
chunk. In a context that holds nothing but a few pieces it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.context import Context
from models.kvfolder import State
from models.vocabulary import TokenIds


class SpareSequences:
    """Sequences of a context that belong to nobody."""

    def __init__(self, context: Context, sequences: Sequence[int]) -> None:
        self.context = context
        self._free = list(sequences)

    @property
    def num_free(self) -> int:
        """How many can be taken."""
        return len(self._free)

    def take(self) -> int | None:
        """A sequence of nobody's, None while there is none."""
        return self._free.pop() if self._free else None

    def give(self, sequence: int) -> None:
        """Take a sequence back, its own cells dropped."""
        self.context.drop(sequence)
        self._free.append(sequence)

    def save_beginning(self, sequence: int, num_tokens: int) -> State | None:
        """The first cells of a sequence as a state; None while there is no spare sequence."""
        spare = self.take()
        if spare is None:
            return None
        self.context.copy_prefix(sequence, spare, num_tokens)
        state = self.context.save(spare)
        self.give(spare)
        return state


@dataclass(frozen=True, slots=True)
class Seat:
    """A sequence in which one piece is computed; `is_apart`: of the workbench."""

    sequence: int
    is_apart: bool = False


class Workbench:
    """A context for pieces alone. It keeps the prefix that was used last."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._base, *spare = range(context.num_sequences)
        self._spare = SpareSequences(context, spare)
        self._prefix: TokenIds = np.empty(0, dtype=np.int32)
        # Cells promised to each piece, its prefix counted, as that may be another than the last.
        self._promised: dict[int, int] = {}

    def fits(self, num_tokens: int) -> bool:
        """Whether a piece that takes so many with its prefix can be computed here at all."""
        return num_tokens <= self.context.num_cells

    def take(
        self, prefix: TokenIds, num_tokens: int, read_prefix: Callable[[], State | None]
    ) -> int | None:
        """A sequence that begins with `prefix` and has room for `num_tokens`; None while none.

        `read_prefix` gives the prefix's state where the last one was another.
        """
        if sum(self._promised.values()) + num_tokens > self.context.num_cells:
            return None
        if not self._spare.num_free or not self._hold(prefix, read_prefix):
            return None
        sequence = self._spare.take()
        assert sequence is not None
        self.context.copy_prefix(self._base, sequence, len(prefix))
        self._promised[sequence] = num_tokens
        return sequence

    def give(self, sequence: int) -> None:
        """Take a sequence back."""
        del self._promised[sequence]
        self._spare.give(sequence)

    def _hold(self, prefix: TokenIds, read_prefix: Callable[[], State | None]) -> bool:
        if np.array_equal(prefix, self._prefix):
            return True
        state = read_prefix()
        if state is None:
            return False
        self.context.drop(self._base)
        is_held = self.context.restore(self._base, state)
        self._prefix = prefix.copy() if is_held else np.empty(0, dtype=np.int32)
        return is_held


class Seats:
    """Gives out the seats of one engine; used by the decode thread."""

    def __init__(self, spare: SpareSequences, bench: Context | None) -> None:
        """`spare` are for the pieces that the workbench has no room for."""
        self._spare = spare
        self._bench = None if bench is None else Workbench(bench)

    def take(self, sequence: int, prefix: TokenIds, num_tokens: int) -> Seat | None:
        """A seat for a piece of `num_tokens` behind the beginning of `sequence`; None while none.

        The beginning, `prefix`, is computed.
        """
        num_cells = len(prefix) + num_tokens
        if self._bench is not None and self._bench.fits(num_cells):
            found = self._bench.take(
                prefix, num_cells, lambda: self._spare.save_beginning(sequence, len(prefix))
            )
            return None if found is None else Seat(found, is_apart=True)
        found = self._spare.take()
        if found is None:
            return None
        self._spare.context.copy_prefix(sequence, found, len(prefix))
        return Seat(found)

    def finish(self, seat: Seat, num_prefix: int) -> State:
        """The state of the piece computed in a seat, which is given back."""
        context = self._spare.context
        if seat.is_apart and self._bench is not None:
            context = self._bench.context
        context.drop_beginning(seat.sequence, num_prefix)
        state = context.save(seat.sequence)
        self.give(seat)
        return state

    def give(self, seat: Seat) -> None:
        """Take a seat back, whatever was computed in it dropped."""
        if seat.is_apart and self._bench is not None:
            self._bench.give(seat.sequence)
        else:
            self._spare.give(seat.sequence)
