"""Who runs next: a bounded queue, first come first served, and the tokens of the next step."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

from models.batch import Run
from models.errors import DeadlineExceeded, EngineStopped, ModelError, QueueFull
from models.jobs import Job
from models.prefixes import Node
from models.protocols import EngineLoad
from models.slots import SlotTable
from models.stats import EngineStats, Meter, RequestCounts, SlotActivity, SlotState
from models.turns import Turns

# Before anything was measured a request is taken to last this long.
_FIRST_GUESS_S = 2.0
_SMOOTHING = 0.2
# What is left of prompts goes with any step if it is no more than this.
_CRUMB_TOKENS = 64


class Scheduler:
    """Holds every job between its submission and its end. The engine's lock guards it."""

    def __init__(
        self,
        slots: SlotTable,
        *,
        num_slots: int,
        max_waiting: int,
        chunk_tokens: int,
        turns: Turns | None = None,
    ) -> None:
        self._slots = slots
        self._turns = turns or Turns()
        self._num_slots = num_slots
        self._max_waiting = max_waiting
        self._chunk_tokens = chunk_tokens
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._mean_duration_s = _FIRST_GUESS_S
        self._ended = RequestCounts()
        self._meter = Meter()
        self._num_prefilled = 0
        # Tokens that ended jobs have said.
        self._num_said = 0

    @property
    def num_waiting(self) -> int:
        """Jobs without a slot."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Jobs with a slot."""
        return len(self._running)

    @property
    def running(self) -> tuple[Job, ...]:
        """Jobs with a slot, in the order of their admission."""
        return tuple(self._running)

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is now."""
        return EngineLoad(
            num_slots=self._num_slots,
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            max_waiting=self._max_waiting,
        )

    @property
    def stats(self) -> EngineStats:
        """A snapshot of queue, slots, cells and counts."""
        return EngineStats(
            num_waiting=len(self._waiting),
            max_waiting=self._max_waiting,
            num_slots=self._num_slots,
            slots=tuple(_describe(job) for job in self._running),
            cells=self._slots.count_cells(sum(map(_count_private, self._running))),
            prefixes=replace(self._slots.counts),
            requests=replace(self._ended),
            rates=self._meter.rates(self._num_prefilled, self._count_said()),
        )

    @property
    def has_work(self) -> bool:
        """Whether a step is due."""
        return bool(self._waiting or self._running)

    def submit(self, job: Job) -> None:
        """Queue a job. Raises `QueueFull`."""
        num_free = self._num_slots - len(self._running)
        num_ahead = sum(not waiting.is_cancelled for waiting in self._waiting)
        # A job that a free slot waits for does not count as waiting.
        if num_ahead >= self._max_waiting + max(num_free, 0):
            turns = (num_ahead + 1) / self._num_slots
            retry_after_s = min(max(turns * self._mean_duration_s, 1.0), 120.0)
            raise QueueFull(num_ahead, retry_after_s)
        self._waiting.append(job)

    def schedule(self, max_tokens: int, max_outputs: int) -> list[Run]:
        """Admit what fits, and return the runs of the next step.

        Every running answer gets its token first, and what is forced or drafted behind it; the rest
        of the step goes to prompts and continuations, in the order of their admission, where it is
        their turn or little is left of them. A prompt whose next token another one computes in this
        step waits, and takes it over in the next.
        """
        self._drop_ended()
        self._share()
        self._admit()
        claimed: set[Node] = set()
        runs: list[Run] = []
        # Of the chunk, what is computed in the answers' own context takes their time.
        num_tokens = num_outputs = num_chunk_tokens = num_beside = 0
        # Answers that still wait for the one token that nobody may take from them.
        num_owed = sum(job.is_answering for job in self._running)
        is_prompts_turn = self._turns.begin(num_owed)
        for job in sorted(self._running, key=lambda job: not job.is_answering):
            num_owed -= job.is_answering
            room = max_tokens - num_tokens - num_owed
            if not job.is_answering:
                room = min(room, self._chunk_tokens - num_chunk_tokens)
                if not is_prompts_turn and job.num_left > _CRUMB_TOKENS - num_beside:
                    continue
            rows = max_outputs - num_outputs - num_owed
            if not self._claim(job, claimed) or room < 1:
                continue
            new = job.next_runs(room, rows)
            runs += new
            num_new = sum(len(run.tokens) for run in new)
            num_tokens += num_new
            if not job.is_answering:
                num_chunk_tokens += num_new
                num_beside += sum(len(run.tokens) for run in new if not run.is_apart)
            num_outputs += sum(run.num_outputs for run in new)
            self._num_prefilled += num_new if job.is_prefilling else 0
        self._turns.note(num_beside > _CRUMB_TOKENS)
        self._meter.note(self._num_prefilled, self._count_said())
        return runs

    def finish(self, job: Job) -> None:
        """Take a job's slot back, its cells kept for reuse."""
        duration_s = time.monotonic() - job.admitted_at
        self._mean_duration_s += _SMOOTHING * (duration_s - self._mean_duration_s)
        self._ended.num_finished += 1
        self._leave(job, keeps_cells=True)

    def fail(self, job: Job, error: ModelError) -> None:
        """End a job with an error, its cells dropped."""
        job.fail(error)
        self._ended.num_failed += 1
        self._leave(job, keeps_cells=False)

    def fail_all(self, reason: str) -> None:
        """Tell everyone that the engine has stopped; the context is not touched any more."""
        for job in [*self._running, *self._waiting]:
            # One exception for each: a shared one would collect everybody's tracebacks.
            job.fail(EngineStopped(reason))
            job.free()
        self._running.clear()
        self._waiting.clear()

    def _leave(self, job: Job, *, keeps_cells: bool) -> None:
        if job in self._running:
            self._running.remove(job)
        elif job in self._waiting:
            self._waiting.remove(job)
        self._num_said += job.num_said
        if job.slot is not None:
            self._slots.release(job.slot, job.computed if keeps_cells else None)
            job.slot = None
        job.free()

    def _drop_ended(self) -> None:
        """End what its consumer has left, and what is past its deadline; its cells are sound."""
        now = time.monotonic()
        for job in [*self._waiting, *self._running]:
            if job.is_cancelled:
                job.cancel()
                self._ended.num_cancelled += 1
            elif now >= job.deadline_at:
                job.fail(DeadlineExceeded(job.deadline_at - job.submitted_at))
                self._ended.num_expired += 1
            else:
                continue
            self._leave(job, keeps_cells=True)

    def _count_said(self) -> int:
        return self._num_said + sum(job.num_said for job in self._running)

    def _share(self) -> None:
        """Offer what the last step computed of prompts, and take over what others offer."""
        for job in self._running:
            if job.held_slot.is_filling:
                self._slots.note(job.held_slot, job.computed)
        for job in self._running:
            if job.is_prefilling:
                job.take_over(job.held_slot.num_filled)

    def _claim(self, job: Job, claimed: set[Node]) -> bool:
        """Whether nobody in front of `job` computes the next token of its prompt in this step."""
        if not job.is_prefilling:
            return True
        node = self._slots.next_node(job.held_slot, job.num_prefilled)
        job.is_held_back = node in claimed
        if node is not None:
            claimed.add(node)
        return not job.is_held_back

    def _admit(self) -> None:
        if not self._waiting or len(self._running) >= self._num_slots:
            return
        for job in self._running:
            # Answers are offered when somebody may want them: a step is too often.
            self._slots.note(job.held_slot, job.computed)
        # Nobody overtakes the first: what is large would otherwise wait for ever.
        while self._waiting and len(self._running) < self._num_slots:
            job = self._waiting[0]
            slot = self._slots.admit(job.key, job.num_cells, job.num_spare_sequences)
            if slot is None:
                return
            self._waiting.popleft()
            job.admit(slot)
            self._running.append(job)


def _describe(job: Job) -> SlotState:
    activity: SlotActivity = "answering" if job.is_answering else "scoring"
    if job.is_prefilling:
        activity = "waiting" if job.is_held_back else "prefilling"
    return SlotState(
        sequence=job.held_slot.sequence,
        activity=activity,
        num_prompt_tokens=len(job.prompt),
        num_cached_tokens=job.num_cached,
        num_computed_tokens=len(job.computed) + job.num_branched,
        num_cells=job.num_cells,
    )


def _count_private(job: Job) -> int:
    """Cells that only this job holds; what others have just filled for it is not among them."""
    return max(len(job.computed) - job.held_slot.num_filled, 0) + job.num_branched
