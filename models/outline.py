"""How an answer's sentences begin, kept to while it is generated.

Which sentences answer is what a small model knows least. An outline gives the first words of each;
the model writes every one to its end and is then given the next beginning.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence

from models.vocabulary import Vocabulary

# A sentence ends with its citation mark or its line; nothing longer is looked back at.
_END = re.compile(r"\[\d{1,3}\]$|\n$")
_NUM_TAIL_CHARS = 8


class Outline:
    """The tokens that an outline puts into one generation."""

    def __init__(
        self,
        openings: Sequence[str],
        vocabulary: Vocabulary,
        encode: Callable[[str], Sequence[int]],
    ) -> None:
        """`openings` are the sentences' first words, in order; `encode` gives a text's tokens."""
        self._vocabulary = vocabulary
        self._encode = encode
        self._waiting = deque(openings)
        self._tail = "\n"
        self._is_due = True

    def take(self) -> list[int]:
        """The tokens that must come next: an opening's, the end of the turn's, or none."""
        if not self._is_due:
            return []
        if not self._waiting:
            return [int(token) for token in self._vocabulary.eog_ids[:1]]
        text = self._waiting.popleft()
        if not self._tail.endswith("\n"):
            text = f" {text}"
        self._is_due, self._tail = False, ""
        return list(self._encode(text))

    def accepts(self, token: int) -> bool:
        """Note a token of the model's; False for an end of its turn that comes too early."""
        if self._waiting and self._vocabulary.is_eog(token):
            self._is_due = True
            return False
        piece = self._vocabulary.piece(token).decode("utf-8", "replace")
        self._tail = (self._tail + piece)[-_NUM_TAIL_CHARS:]
        self._is_due = _END.search(self._tail) is not None
        return True
