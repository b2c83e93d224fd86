"""What runs in a slot: a generation, or the scoring of continuations.

A job says which tokens it wants computed next (`next_runs`) and takes in the logits
(`absorb`). It never waits and never touches the context: the scheduler and the engine do.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from models.apart import ApartPrompt
from models.batch import Run
from models.drawing import Logits
from models.errors import ModelError
from models.placement import PlacedPrompt
from models.slot import Slot
from models.vocabulary import TokenIds


class Job(ABC):
    """One request from its admission to its end."""

    num_spare_sequences = 0

    def __init__(self, prompt: Sequence[int], num_cells: int) -> None:
        self.prompt: TokenIds = np.array(prompt, dtype=np.int32)
        # The prompt as the cache of beginnings knows it.
        self.key = self.prompt
        self.placed: PlacedPrompt | ApartPrompt | None = None
        self.num_cells = num_cells
        self.slot: Slot | None = None
        # Set from any thread, read by the decode thread between steps.
        self.is_cancelled = False
        self.deadline_at = math.inf
        # Whether another job computes what comes next in this one's prompt.
        self.is_held_back = False
        self.num_prefilled = 0
        self.num_cached = 0
        self.submitted_at = time.monotonic()
        self.admitted_at = self.submitted_at
        self.prefilled_at = self.submitted_at

    def place(self, placed: PlacedPrompt | ApartPrompt | None) -> None:
        """Have passages of the prompt placed, or all of it, instead of computed in its slot."""
        if placed is not None:
            self.placed, self.key = placed, placed.marked

    def admit(self, slot: Slot) -> None:
        """Take the slot."""
        self.slot = slot
        self.num_prefilled = self.num_cached = slot.num_cached
        if self.placed is not None:
            self.placed.skip(slot.num_cached)
        self.admitted_at = self.prefilled_at = time.monotonic()

    def take_over(self, num_tokens: int) -> None:
        """Note that the first `num_tokens` of the prompt are in the cells, computed by others."""
        if num_tokens > self.num_prefilled:
            self.num_cached += num_tokens - self.num_prefilled
            self.num_prefilled = num_tokens
            if self.placed is not None:
                self.placed.skip(num_tokens)

    @property
    def is_prefilling(self) -> bool:
        """Whether part of the prompt is still to be computed."""
        return self.num_prefilled < len(self.prompt)

    @property
    def num_left(self) -> int:
        """Tokens of the prompt that are still to be computed beside everybody else's cells."""
        num_elsewhere = 0
        if self.placed is not None:
            num_elsewhere = self.placed.count_elsewhere(self.num_prefilled)
        return max(len(self.prompt) - self.num_prefilled - num_elsewhere, 0)

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for the next token of a stream."""
        return False

    @property
    def computed(self) -> TokenIds:
        """The tokens in the cells of the job's own sequence, as `key` has them."""
        return self._share(self.key[: self.num_prefilled])

    def _share(self, computed: TokenIds) -> TokenIds:
        """The part of `computed` that is for others too."""
        return computed if self.placed is None else computed[: self.placed.num_sound]

    @property
    def num_branched(self) -> int:
        """Cells that the job has filled in its spare sequences."""
        return 0

    @property
    def num_said(self) -> int:
        """Tokens of the answer so far."""
        return 0

    def expire_after(self, limits_s: Iterable[float | None]) -> None:
        """End the job with `DeadlineExceeded` once the least of the limits has passed."""
        limit_s = min((limit for limit in limits_s if limit is not None), default=math.inf)
        self.deadline_at = self.submitted_at + limit_s

    def next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]:
        """What to compute next, at most so many tokens and rows of logits."""
        if not self.is_prefilling:
            return self._next_runs(max_tokens, max_outputs)
        stop = self.num_prefilled + max_tokens
        if self.placed is not None:
            sequence = self.held_slot.sequence
            self.num_prefilled, num_kept = self.placed.advance(sequence, self.num_prefilled)
            self.num_cached += num_kept
            runs = self.placed.compute(self, sequence, self.num_prefilled, max_tokens)
            if self.placed.is_waiting(self.num_prefilled):
                return runs
            stop = min(self.num_prefilled + max_tokens, self.placed.next_stop(self.num_prefilled))
        rest = self.prompt[self.num_prefilled : stop]
        is_last = self.num_prefilled + len(rest) == len(self.prompt)
        if is_last and max_outputs < 1:
            rest, is_last = rest[:-1], False
        if not len(rest):
            return []
        return [Run(self, self.held_slot.sequence, self.num_prefilled, rest, int(is_last))]

    def absorb(self, run: Run, logits: Logits) -> bool:
        """Take in the logits of a computed run, shape `(num_outputs, num_vocab)`.

        True when the job is done. Raises `ModelError` to fail this job alone.
        """
        if not self.is_prefilling:
            return self._absorb(run, logits)
        is_piece = run.is_apart or run.sequence != self.held_slot.sequence
        if self.placed is not None and is_piece:
            self.placed.absorb(run)
            return False
        self.num_prefilled += len(run.tokens)
        if self.is_prefilling:
            return False
        self.prefilled_at = time.monotonic()
        return self._absorb_prompt(logits[0])

    @property
    def held_slot(self) -> Slot:
        """The slot of an admitted job."""
        if self.slot is None:
            raise RuntimeError("the job has no slot")
        return self.slot

    @abstractmethod
    def _next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]: ...

    @abstractmethod
    def _absorb_prompt(self, logits: Logits) -> bool: ...

    @abstractmethod
    def _absorb(self, run: Run, logits: Logits) -> bool: ...

    @abstractmethod
    def cancel(self) -> None:
        """Tell the consumer that the job was cancelled."""

    @abstractmethod
    def fail(self, error: ModelError) -> None:
        """Tell the consumer what stopped the job."""

    def free(self) -> None:
        """Give back what the job holds beside its slot. Idempotent."""
        if self.placed is not None:
            self.placed.free()
