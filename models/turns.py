"""Whose turn a step is: prompts, or the answers alone that wait beside them."""

from __future__ import annotations

import time
from collections.abc import Callable


class Turns:
    """Shares the time between prompts and running answers.

    A step with a chunk of a prompt takes as long as many without. If every step had one, an answer
    would come at a token a chunk, and all that ever began would stay in the cache and slow down
    whatever is computed. So answers go on alone for as long as the chunk before took.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = 0.0
        self._had_chunk = False
        self._owed_s = 0.0

    def begin(self, is_answering: bool) -> bool:
        """Begin a step; whether prompts may take part. `is_answering`: somebody streams."""
        now = self._clock()
        took_s, self._began_at = now - self._began_at, now
        if not is_answering:
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
