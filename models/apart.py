"""A whole prompt computed on the workbench while others are answered, then put into its place.

In the engine's own context each chunk of it would pass over the cells of everybody (ADR 17).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from models.batch import Run
from models.kvfolder import State
from models.slots import SlotTable
from models.vocabulary import TokenIds
from models.workbench import SpareSequences, Workbench

if TYPE_CHECKING:
    from models.jobs import Job

logger = logging.getLogger("mynah.engine")

# What is copied to the workbench first, as its beginning, is no more than this.
_MAX_PREFIX_TOKENS = 256
# Fewer gain less than the copy takes.
_LEAST_TOKENS = 192


class ApartPrompt:
    """One job's prompt on its way over the workbench. Used by the decode thread."""

    num_sound: int | None = None

    def __init__(
        self,
        tokens: TokenIds,
        bench: Workbench,
        spare: SpareSequences,
        slots: SlotTable,
    ) -> None:
        """`spare` are of the engine's context, where a prompt is computed that runs alone."""
        self.marked = tokens
        self._bench, self._spare, self._slots = bench, spare, slots
        # The last token is always computed in its place: its logits begin the answer.
        self._end = len(tokens) - 1
        self._start = 0
        self._num_computed = 0
        self._sequence: int | None = None
        self._state: State | None = None
        self._is_refused = False

    def skip(self, num_tokens: int) -> None:
        """Note that the first `num_tokens` have cells, computed by others."""
        if num_tokens > self._start and (self._sequence is not None or self._state is not None):
            # What is under way began in front of them.
            self.free()

    def count_elsewhere(self, num_prefilled: int) -> int:
        """Tokens to come that are not computed in the engine's own context."""
        is_apart = self._is_under_way or self._may_start(num_prefilled)
        return max(self._end - num_prefilled, 0) if is_apart else 0

    def advance(self, sequence: int, num_prefilled: int) -> tuple[int, int]:
        """Put what is computed into the job's sequence, if it is and can be.

        Returns the tokens that are in the sequence then, and that none of them was kept.
        """
        if self._state is None:
            return num_prefilled, 0
        spare = self._spare.take()
        if spare is None:
            return num_prefilled, 0
        context = self._spare.context
        if context.restore(spare, self._state):
            context.add(spare, sequence)
            num_prefilled = self._end
        else:
            logger.warning("a prompt computed apart found no cells; it is computed in place")
            self._is_refused = True
        self._spare.give(spare)
        self._state = None
        return num_prefilled, 0

    def compute(self, job: Job, sequence: int, num_prefilled: int, max_tokens: int) -> list[Run]:
        """The next run on the workbench, of at most so many tokens, if the prompt goes there."""
        if self._state is not None:
            return []
        if self._sequence is None and self._may_start(num_prefilled):
            self._begin(sequence, num_prefilled)
        if self._sequence is None:
            return []
        position = self._start + self._num_computed
        tokens = self.marked[position : self._end][:max_tokens]
        return [Run(job, self._sequence, position, tokens, 0, is_apart=True)]

    def is_waiting(self, num_prefilled: int) -> bool:
        """Whether nothing is to be computed in the prompt's own sequence now."""
        return self._is_under_way or self._may_start(num_prefilled)

    def next_stop(self, num_prefilled: int) -> int:
        """How far the prompt's own sequence may be computed."""
        return len(self.marked)

    def absorb(self, run: Run) -> None:
        """Note that a run was computed; take the state once the prompt is whole."""
        if run.sequence != self._sequence:
            return
        self._num_computed += len(run.tokens)
        if self._start + self._num_computed < self._end:
            return
        self._bench.context.drop_beginning(run.sequence, self._start)
        self._state = self._bench.save(run.sequence)
        self._bench.give(run.sequence)
        self._sequence = None

    def free(self) -> None:
        """Give back what is held. Idempotent."""
        if self._sequence is not None:
            self._bench.give(self._sequence)
        self._sequence = self._state = None

    @property
    def _is_under_way(self) -> bool:
        return self._sequence is not None or self._state is not None

    def _may_start(self, num_prefilled: int) -> bool:
        return (
            not self._is_refused
            and num_prefilled <= _MAX_PREFIX_TOKENS
            and self._end - num_prefilled >= _LEAST_TOKENS
            and self._bench.fits(self._end)
            and self._slots.is_busy
        )

    def _begin(self, sequence: int, num_prefilled: int) -> None:
        """Take a sequence of the workbench if there is one."""
        prefix = self.marked[:num_prefilled]
        self._sequence = self._bench.take(
            prefix, self._end, lambda: self._spare.save_beginning(sequence, num_prefilled)
        )
        if self._sequence is None:
            # Nobody who uses it would make room.
            self._is_refused = not self._bench.is_used
        self._start, self._num_computed = num_prefilled, 0
