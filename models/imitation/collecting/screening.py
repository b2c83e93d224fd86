"""Which instructions of a teacher are kept: form, forbidden words, and likeness to known ones."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from models.imitation.filtering.rouge import RougePool

# Self-Instruct's and Alpaca's bounds: words of an instruction, and the ROUGE-L F above which it
# is taken for one that is known.
MIN_WORDS, MAX_WORDS = 4, 150
MAX_ROUGE_L = 0.7

# What a model of text cannot do (Self-Instruct), and what Alpaca added to it.
SELF_INSTRUCT_WORDS = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
)
ALPACA_WORDS = (*SELF_INSTRUCT_WORDS, "video", "audio", "music", "flowchart", "diagram")


class InstructionScreen:
    """Accepts instructions unlike all `known` ones and unlike all that it accepted before."""

    def __init__(self, known: Iterable[str], forbidden: Iterable[str]) -> None:
        words = "|".join(re.escape(word) for word in forbidden)
        self._forbidden = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
        self._pool = RougePool()
        for instruction in known:
            self._pool.add(instruction)

    def refuse(self, instruction: str) -> str | None:
        """The reason against `instruction`; None where it is accepted and henceforth known."""
        reason = self._reason(instruction)
        if reason is None:
            self._pool.add(instruction)
        return reason

    def _reason(self, instruction: str) -> str | None:
        if not MIN_WORDS <= len(instruction.split()) <= MAX_WORDS:
            return "instruction_length"
        if self._forbidden.search(instruction):
            return "instruction_keyword"
        if instruction.lower().startswith("write a program"):
            return "instruction_program"
        if instruction[0] in string.punctuation or not instruction[0].isascii():
            return "instruction_start"
        if self._pool.max_f(instruction) > MAX_ROUGE_L:
            return "instruction_similar"
        return None


def to_line(text: str) -> str:
    """`text` on one line, each run of white space as one space."""
    return " ".join(text.split())
