"""Whose turn a step is: prompts, or the answers alone that wait beside them."""

from __future__ import annotations

import time
from collections.abc import Callable

# So few answers let prompts go first: the wait for a first word is felt most.
NUM_PATIENT = 4


class Turns:
    """Shares the time between prompts and running answers, where more than four of those run.

    A step with a chunk of a prompt takes as long as many without. If every step had one, an answer
    would come at a token a chunk, and all that ever began would stay in the cache and slow down
    whatever is computed. So answers go on alone for as long as the chunk before took.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = 0.0
        self._had_chunk = False
        self._owed_s = 0.0

    def begin(self, num_answering: int) -> bool:
        """Begin a step beside so many answers; whether prompts may take part."""
        now = self._clock()
        took_s, self._began_at = now - self._began_at, now
        if num_answering <= NUM_PATIENT:
            self._owed_s = 0.0
        elif self._had_chunk:
            self._owed_s += took_s
        else:
            self._owed_s = max(0.0, self._owed_s - took_s)
        self._had_chunk = False
        return self._owed_s <= 0.0

    def note(self, has_chunk: bool) -> None:
        """Note whether the step that was begun has tokens of prompts beside answers."""
        self._had_chunk = has_chunk
