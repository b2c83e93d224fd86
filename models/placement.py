"""Passages placed into a prompt: each is computed once, behind the prompt's beginning alone.

What stands before a prompt's first passage is its prefix. A *piece* is a passage, or the short
scaffold between two of them; its keys and values are computed behind the prefix as if nothing else
were there, kept, and moved to wherever a prompt has it. So they are the same whether they were kept
or computed just now, and an answer does not depend on which it was. Everything behind the pieces is
computed as always and sees all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.batch import Run
from models.kvfolder import State
from models.kvstore import KvStore
from models.pieces import Piece, cut_pieces, mark_pieces
from models.protocols import Block
from models.state_layout import LayoutUnknown
from models.turning import KeyTurner
from models.vocabulary import TokenIds
from models.workbench import Seat, Seats, SpareSequences

if TYPE_CHECKING:
    from models.jobs import Job

logger = logging.getLogger("mynah.engine")


class Placer:
    """What the jobs of one engine place with: the store, and sequences to do it in.

    Used by the decode thread, except for `fetch`.
    """

    def __init__(
        self,
        store: KvStore,
        spare: SpareSequences,
        seats: Seats,
        link_tokens: int,
        turner: KeyTurner | None = None,
    ) -> None:
        """Pieces are computed in `seats` and placed with the help of `spare`.

        Without a `turner` llama.cpp moves the keys, which takes longer.
        """
        self.store = store
        self.spare = spare
        self.seats = seats
        self.turner = turner
        self.link_tokens = link_tokens

    def plan(self, tokens: Sequence[int], blocks: Sequence[Block]) -> PlacedPrompt | None:
        """The way to place the passages of a prompt; None where it has none."""
        pieces = cut_pieces(blocks, self.link_tokens)
        # The last token is always computed: its logits begin the answer.
        if not pieces or not pieces[0].start or pieces[-1].end >= len(tokens):
            return None
        return PlacedPrompt(self, np.array(tokens, dtype=np.int32), pieces)

    def fetch(self, tokens: Sequence[int], blocks: Sequence[Block]) -> bool:
        """Read what is on disk ahead of its use; whether every piece of the prompt is kept."""
        planned = self.plan(tokens, blocks)
        if planned is None:
            return True
        pairs = zip(planned.keys, planned.pieces, strict=True)
        # All are read, also behind one that is missing.
        return sum(not self.store.fetch(key, piece.owner) for key, piece in pairs) == 0


class PlacedPrompt:
    """One job's pieces on their way into its sequence, in their order."""

    def __init__(self, placer: Placer, tokens: TokenIds, pieces: tuple[Piece, ...]) -> None:
        self.pieces = pieces
        self._placer = placer
        self._tokens = tokens
        self._prefix = tokens[: pieces[0].start]
        self.keys = [
            placer.store.key(self._prefix, tokens[piece.start : piece.end], piece.owner)
            for piece in pieces
        ]
        self.marked = mark_pieces(tokens, pieces)
        # Leading tokens whose cells are what `marked` says, which others may share.
        self.num_sound: int | None = None
        self._next = 0
        self._missing: set[int] = set()
        # States at hand until they are placed, and whether they were kept.
        self._states: dict[int, tuple[State, bool]] = {}
        # Pieces being computed: seat -> (piece, tokens computed so far).
        self._computing: dict[Seat, tuple[int, int]] = {}

    def skip(self, num_tokens: int) -> None:
        """Note that the first `num_tokens` of the prompt have cells, computed by others."""
        self._next = max(self._next, sum(piece.end <= num_tokens for piece in self.pieces))

    def advance(self, sequence: int, num_prefilled: int) -> tuple[int, int]:
        """Place what comes next and is at hand.

        Returns the tokens that are in the sequence then, and how many of those were kept.
        """
        num_kept = 0
        while self._next < len(self.pieces):
            piece = self.pieces[self._next]
            # The first cells of a piece may be there: those of another that begins the same.
            is_due = piece.placed_from <= num_prefilled < piece.end
            if not is_due or not self._find(self._next):
                break
            state, was_kept = self._states[self._next]
            spare = self._placer.spare.take()
            if spare is None:
                break
            is_placed = self._place(spare, sequence, piece, state, num_prefilled)
            self._placer.spare.give(spare)
            del self._states[self._next]
            if not is_placed:
                self._placer.store.drop(self.keys[self._next])
                # Once more from the beginning, or else without.
                self._missing.add(self._next)
                if not was_kept:
                    self._give_up(num_prefilled)
                break
            num_kept += piece.end - num_prefilled if was_kept else 0
            num_prefilled = piece.end
            self._next += 1
        return num_prefilled, num_kept

    def count_elsewhere(self, num_prefilled: int) -> int:
        """Tokens of the pieces to come that nothing is computed of in the engine's own context.

        Their states are at hand, or the workbench computes them.
        """
        seats, num_prefix = self._placer.seats, len(self._prefix)
        elsewhere = [
            piece
            for index, piece in enumerate(self.pieces[self._next :], self._next)
            if seats.has_room(num_prefix + piece.end - piece.start) or self._find(index)
        ]
        return sum(piece.end - piece.placed_from for piece in elsewhere)

    def compute(self, job: Job, sequence: int, num_prefilled: int, max_tokens: int) -> list[Run]:
        """The runs of the pieces that are to be computed, at most so many tokens.

        Nothing before the prefix is there, nor when every piece is at hand.
        """
        if num_prefilled < len(self._prefix):
            return []
        self._start_missing(sequence)
        runs: list[Run] = []
        for seat, (index, start) in self._computing.items():
            if max_tokens < 1:
                break
            piece = self.pieces[index]
            tokens = self._tokens[piece.start + start : piece.end][:max_tokens]
            position = len(self._prefix) + start
            runs.append(Run(job, seat.sequence, position, tokens, 0, seat.is_apart))
            max_tokens -= len(tokens)
        return runs

    def is_waiting(self, num_prefilled: int) -> bool:
        """Whether nothing can be computed in the prompt's own sequence before the next piece."""
        return self.next_stop(num_prefilled) <= num_prefilled or bool(self._computing)

    def next_stop(self, num_prefilled: int) -> int:
        """How far the prompt's own sequence is computed before a piece is placed."""
        if self._next < len(self.pieces):
            return self.pieces[self._next].placed_from
        return len(self._tokens)

    def absorb(self, run: Run) -> None:
        """Note that a piece's run was computed; keep the piece's state once it is whole."""
        seat = Seat(run.sequence, run.is_apart)
        index, start = self._computing[seat]
        piece = self.pieces[index]
        start += len(run.tokens)
        if start < piece.end - piece.start:
            self._computing[seat] = (index, start)
            return
        del self._computing[seat]
        state = self._placer.seats.finish(seat, len(self._prefix))
        self._placer.store.put(self.keys[index], piece.owner, state)
        self._states[index] = (state, False)

    def free(self) -> None:
        """Give back the sequences of what was being computed. Idempotent."""
        for seat in self._computing:
            self._placer.seats.give(seat)
        self._computing.clear()
        self._states.clear()

    def _find(self, index: int) -> bool:
        """Whether the state of a piece is at hand; looked for in the store once."""
        if index in self._states:
            return True
        if index in self._missing:
            return False
        state = self._placer.store.get(self.keys[index], self.pieces[index].owner)
        if state is None:
            self._missing.add(index)
            return False
        self._states[index] = (state, True)
        return True

    def _start_missing(self, sequence: int) -> None:
        started = {index for index, _ in self._computing.values()}
        for index in range(self._next, len(self.pieces)):
            if index in started or self._find(index):
                continue
            piece = self.pieces[index]
            seat = self._placer.seats.take(sequence, self._prefix, piece.end - piece.start)
            if seat is None:
                return
            self._computing[seat] = (index, 0)

    def _place(
        self, spare: int, sequence: int, piece: Piece, state: State, num_prefilled: int
    ) -> bool:
        context, turner = self._placer.spare.context, self._placer.turner
        distance = piece.start - len(self._prefix)
        try:
            moved = state if turner is None else turner.turn(state, distance)
        except LayoutUnknown:
            return False
        if not context.restore(spare, moved):
            return False
        if turner is None:
            context.move(spare, distance)
        if num_prefilled > piece.start:
            context.drop_beginning(spare, num_prefilled)
        context.add(spare, sequence)
        return True

    def _give_up(self, num_prefilled: int) -> None:
        """Compute the rest as plain text: the cache has no room for what it just computed."""
        logger.warning("a passage could not be placed; the prompt is computed as a whole")
        self.free()
        self._next = len(self.pieces)
        self.num_sound = num_prefilled
