"""What an engine tells about itself: counts and rates, nothing of any prompt."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# waiting: another request computes the beginning that this one shares.
SlotActivity = Literal["waiting", "prefilling", "answering", "scoring"]

_WINDOW_S = 10.0
_SAMPLES_PER_WINDOW = 40


@dataclass(frozen=True, slots=True)
class SlotState:
    """One admitted request; `num_cells` are promised to it, shared ones included."""

    sequence: int
    activity: SlotActivity
    num_prompt_tokens: int
    num_cached_tokens: int
    num_computed_tokens: int
    num_cells: int


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Cells of the KV cache, each counted once.

    `num_promised` to running requests, of which `num_used` are filled; `num_kept` of finished ones
    for reuse, in `num_kept_sequences`, at most `max_kept` while nothing runs.
    """

    num_cells: int
    num_promised: int
    num_used: int
    num_kept: int
    max_kept: int
    num_kept_sequences: int


@dataclass(slots=True)
class PrefixCounts:
    """What the reuse of beginnings has done since the start.

    `num_lookups` of admitted requests, `num_hits` of those that found something; `num_reused`,
    `num_evicted` and `num_restored` are tokens, the last ones put back into cells from memory.
    """

    num_lookups: int = 0
    num_hits: int = 0
    num_reused: int = 0
    num_evicted: int = 0
    num_restored: int = 0


@dataclass(slots=True)
class RequestCounts:
    """How requests have ended since the start; `num_expired` at their deadline."""

    num_finished: int = 0
    num_cancelled: int = 0
    num_failed: int = 0
    num_expired: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens of all requests per second, over the last ten seconds."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True, slots=True)
class PassageStates:
    """Saved states of passages; zeros where an engine keeps none."""

    num_states: int = 0
    ram_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of an engine at work."""

    num_waiting: int
    max_waiting: int
    num_slots: int
    slots: tuple[SlotState, ...]
    cells: CellCounts
    prefixes: PrefixCounts
    requests: RequestCounts
    rates: Rates
    passages: PassageStates = PassageStates()


class Meter:
    """Two running totals as rates over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])

    def note(self, num_prefilled: int, num_decoded: int) -> None:
        """Take in the totals of now."""
        now = self._clock()
        if now - self._samples[-1][0] >= _WINDOW_S / _SAMPLES_PER_WINDOW:
            self._samples.append((now, num_prefilled, num_decoded))
        while len(self._samples) > 1 and self._samples[1][0] <= now - _WINDOW_S:
            self._samples.popleft()

    def rates(self, num_prefilled: int, num_decoded: int) -> Rates:
        """Tokens per second up to now, given the totals of now."""
        self.note(num_prefilled, num_decoded)
        start, prefilled, decoded = self._samples[0]
        passed_s = max(self._clock() - start, _WINDOW_S / _SAMPLES_PER_WINDOW)
        return Rates((num_prefilled - prefilled) / passed_s, (num_decoded - decoded) / passed_s)
