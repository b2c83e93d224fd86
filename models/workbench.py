"""Where pieces are computed: in a context of their own, or beside everything else.

llama.cpp's attention on a processor passes over every cell up to the last one in use, also over
those of others, which it may not see. Beside eight answers that takes longer than all else in a
chunk. In a context that holds nothing but a few pieces it does not.

The two contexts may also compute attention in different ways (`models.reuse.choose_attention`):
flash attention is faster for long stretches over few cells, slower for a few tokens that see many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from models.batch import Run
from models.context import Context
from models.engine_settings import EngineSettings
from models.kvfolder import State
from models.loaded_model import LoadedModel
from models.state_layout import (
    LayoutUnknown,
    are_alike,
    has_transposed_values,
    lay_values,
    read_keys,
    read_values,
)
from models.vocabulary import TokenIds

if TYPE_CHECKING:
    from models.jobs import Job

logger = logging.getLogger("mynah.engine")

# Room for a few passages at once. A part of what the engine's own context has, so that a machine
# with little memory is not asked for as much again.
_MAX_CELLS, _LEAST_CELLS = 2048, 512
_SHARE = 4
_NUM_PROBE_TOKENS = 16
# Further apart than two ways of computing the same attention lie.
_LEAST_COSINE = 0.999


class SpareSequences:
    """Sequences of a context that belong to nobody."""

    def __init__(self, context: Context, sequences: Sequence[int]) -> None:
        self.context = context
        self._free = list(sequences)

    @property
    def first(self) -> int:
        """One of them, for a trial before any is taken."""
        return self._free[0]

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


Relay = Callable[[State], State]


@dataclass(frozen=True, slots=True)
class Seat:
    """A sequence in which one piece is computed; `is_apart`: of the workbench."""

    sequence: int
    is_apart: bool = False


class Workbench:
    """A context for pieces alone. It keeps the prefix that was used last."""

    def __init__(self, context: Context, to_own: Relay, to_engine: Relay) -> None:
        """States are laid out by `to_own` before they come in, by `to_engine` when they leave."""
        self.context = context
        self._to_own, self._to_engine = to_own, to_engine
        self._base, *spare = range(context.num_sequences)
        self._spare = SpareSequences(context, spare)
        self._prefix: TokenIds = np.empty(0, dtype=np.int32)
        # Cells promised to each piece, its prefix counted, as that may be another than the last.
        self._promised: dict[int, int] = {}

    @property
    def is_used(self) -> bool:
        """Whether a piece is being computed here."""
        return bool(self._promised)

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

    def save(self, sequence: int) -> State:
        """The state of a sequence, laid out as the engine's own context has it."""
        return self._to_engine(self.context.save(sequence))

    def give(self, sequence: int) -> None:
        """Take a sequence back."""
        del self._promised[sequence]
        self._spare.give(sequence)

    def forget_prefix(self) -> None:
        """Drop the prefix that was used last."""
        self.context.drop(self._base)
        self._prefix = np.empty(0, dtype=np.int32)

    def free(self) -> None:
        """Give the memory back. Idempotent; nothing may decode any more."""
        self.context.free()

    def _hold(self, prefix: TokenIds, read_prefix: Callable[[], State | None]) -> bool:
        if np.array_equal(prefix, self._prefix):
            return True
        if not len(prefix):
            self.forget_prefix()
            return True
        state = read_prefix()
        if state is None:
            return False
        self.context.drop(self._base)
        is_held = self.context.restore(self._base, self._to_own(state))
        self._prefix = prefix.copy() if is_held else np.empty(0, dtype=np.int32)
        return is_held


class Seats:
    """Gives out the seats of one engine; used by the decode thread."""

    def __init__(self, spare: SpareSequences, bench: Workbench | None) -> None:
        """`spare` are for the pieces that the workbench has no room for."""
        self._spare = spare
        self._bench = bench

    def has_room(self, num_cells: int) -> bool:
        """Whether a piece that takes so many with its prefix is computed apart."""
        return self._bench is not None and self._bench.fits(num_cells)

    def take(self, sequence: int, prefix: TokenIds, num_tokens: int) -> Seat | None:
        """A seat for a piece of `num_tokens` behind the beginning of `sequence`; None while none.

        The beginning, `prefix`, is computed.
        """
        num_cells = len(prefix) + num_tokens
        if self._bench is not None and self._bench.fits(num_cells):
            found = self._bench.take(
                prefix, num_cells, lambda: self._spare.save_beginning(sequence, len(prefix))
            )
            if found is not None:
                return Seat(found, is_apart=True)
            if self._bench.is_used:
                return None
            # Nobody will make room there, so waiting would be for ever.
        found = self._spare.take()
        if found is None:
            return None
        self._spare.context.copy_prefix(sequence, found, len(prefix))
        return Seat(found)

    def finish(self, seat: Seat, num_prefix: int) -> State:
        """The state of the piece computed in a seat, which is given back."""
        bench = self._bench if seat.is_apart else None
        context = self._spare.context if bench is None else bench.context
        context.drop_beginning(seat.sequence, num_prefix)
        state = context.save(seat.sequence) if bench is None else bench.save(seat.sequence)
        self.give(seat)
        return state

    def give(self, seat: Seat) -> None:
        """Take a seat back, whatever was computed in it dropped."""
        if seat.is_apart and self._bench is not None:
            self._bench.give(seat.sequence)
        else:
            self._spare.give(seat.sequence)


def open_workbench(
    model: LoadedModel, spare: SpareSequences, settings: EngineSettings
) -> Workbench | None:
    """A workbench beside the context of `spare`; None where one is of no use.

    That is on a GPU, where attention does not pass over foreign cells, and where the states of the
    two contexts cannot be exchanged. Raises `ModelError` if the memory for it cannot be had.
    """
    if settings.num_gpu_layers:
        return None
    # One sequence for the prefix; those for pieces come with every context.
    alone = replace(settings, num_slots=1, num_spare_sequences=1, num_kept_sequences=0)
    num_cells = max(spare.context.num_cells // _SHARE, _LEAST_CELLS)
    context = Context(model, alone, min(num_cells, spare.context.num_cells, _MAX_CELLS))
    own, engines = _probe(context, 0), _probe(spare.context, spare.first)
    width = model.header.width_key
    try:
        if has_transposed_values(own, width) == has_transposed_values(engines, width):
            return Workbench(context, lambda state: state, lambda state: state)
        return _open_relaying(context, own, engines, width)
    except LayoutUnknown:
        logger.warning("states of this model cannot be exchanged; prompts are computed in place")
        context.free()
        return None


def _open_relaying(context: Context, own: State, engines: State, width: int) -> Workbench:
    """A workbench whose states are laid out anew, which is tried on two of the same tokens."""
    is_transposed = has_transposed_values(engines, width)

    def to_own(state: State) -> State:
        return lay_values(state, width, transposed=not is_transposed)

    def to_engine(state: State) -> State:
        return lay_values(state, width, transposed=is_transposed)

    for one, other in ((to_engine(own), engines), (own, to_own(engines))):
        is_right = (
            len(one) == len(other)
            and are_alike(read_keys(one, width), read_keys(other, width), _LEAST_COSINE)
            and are_alike(read_values(one, width), read_values(other, width), _LEAST_COSINE)
        )
        if not is_right:
            raise LayoutUnknown
    return Workbench(context, to_own, to_engine)


def _probe(context: Context, sequence: int) -> State:
    """The state of a few tokens."""
    tokens = np.arange(min(_NUM_PROBE_TOKENS, context.max_step_tokens), dtype=np.int32)
    # It asks for no logits, so there is no job to give them to.
    context.decode([Run(cast("Job", None), sequence, 0, tokens % context.num_vocab, 0)])
    state = context.save(sequence)
    context.drop(sequence)
    return state
