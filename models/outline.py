"""How an answer's sentences begin, kept to while it is generated.

Which sentences answer is what a small model knows least. An outline gives the first words of each;
the model writes every one to its end and is then given the next beginning.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from models.vocabulary import Vocabulary

# A sentence ends with its citation mark or its line; nothing longer is looked back at.
_END = re.compile(r"\[\d{1,3}\]$|\n$")
_NUM_TAIL_CHARS = 8


class Outline:
    """The tokens that an outline forces on one generation."""

    def __init__(self, openings: Sequence[str], vocabulary: Vocabulary) -> None:
        """`openings` are the sentences' first words, in order; at least one."""
        self._vocabulary = vocabulary
        self._waiting = deque(openings)
        self._forced: deque[int] = deque()
        self._tail = "\n"
        self._is_at_end = False
        self._go_on()

    def next_token(self) -> int | None:
        """The token that must come next; None where the model is free."""
        if not self._forced and self._is_at_end:
            return self._go_on()
        return self._forced[0] if self._forced else None

    def correct(self, token: int) -> int:
        """What becomes of a token that the model chose: its end of turn waits for the outline's."""
        if self._waiting and self._vocabulary.is_eog(token):
            return self._go_on()
        return token

    def accept(self, token: int) -> None:
        """Note a token of the answer."""
        if self._forced:
            self._forced.popleft()
            return
        piece = self._vocabulary.piece(token).decode("utf-8", "replace")
        self._tail = (self._tail + piece)[-_NUM_TAIL_CHARS:]
        self._is_at_end = _END.search(self._tail) is not None

    def _go_on(self) -> int:
        """The first token of the next sentence, or the end of the answer."""
        if not self._waiting:
            return int(self._vocabulary.eog_ids[0])
        text = self._waiting.popleft()
        if not self._tail.endswith("\n"):
            text = f" {text}"
        self._forced = deque(self._vocabulary.tokenize(text, parse_special=False))
        self._is_at_end, self._tail = False, ""
        return self._forced[0]
