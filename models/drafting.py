"""How many tokens are computed ahead: more while drafts come true, none while they do not.

Drafts are looked up in the prompt (Saxena 2023, "Prompt Lookup Decoding") and verified in one batch
(Leviathan et al. 2023), so that they change how long an answer takes and nothing else.
"""

from __future__ import annotations

MAX_DRAFT = 12
_FIRST_DRAFT = 4
# Share of drafted tokens that came true, over about the last five drafts.
_SMOOTHING = 0.3
# A batch of a few tokens costs about twice as much as one token on a CPU: below this share a draft
# costs more than it brings.
_MIN_SHARE = 0.2
_NUM_STEPS_OFF = 24


class Drafting:
    """One generation's experience with drafts."""

    def __init__(self) -> None:
        self._share = 0.5
        self._length = _FIRST_DRAFT
        self._num_steps_off = 0

    def choose_length(self, room: int) -> int:
        """Tokens to draft for the next step, at most `room`; 0 for a while after failures."""
        if self._num_steps_off:
            self._num_steps_off -= 1
            return 0
        return max(0, min(room, self._length))

    def observe(self, num_drafted: int, num_right: int) -> None:
        """Learn from a verified draft of at least one token."""
        self._share += _SMOOTHING * (num_right / num_drafted - self._share)
        if num_right == num_drafted:
            self._length = min(MAX_DRAFT, 2 * self._length)
        else:
            self._length = max(2, num_right + 1)
        if self._share < _MIN_SHARE:
            self._num_steps_off, self._share, self._length = _NUM_STEPS_OFF, 0.5, _FIRST_DRAFT
