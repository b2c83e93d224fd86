"""Question files (the format of eval/README.md) and how an answer is held against them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.protocols import Message


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its gold answers; `docs` are paths below the set's `docs/` folder."""

    id: str
    text: str
    kind: str
    is_answerable: bool
    answers: tuple[str, ...]
    all_of: tuple[tuple[str, ...], ...]
    evidence: tuple[str, ...]
    docs: tuple[str, ...]
    history: tuple[Message, ...]

    @property
    def messages(self) -> list[Message]:
        """The conversation that ends with the question."""
        return [*self.history, Message("user", self.text)]


def read_questions(path: Path) -> list[Question]:
    """Questions of a JSONL file, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_read_question(json.loads(line)) for line in lines if line.strip()]


def _read_question(row: dict[str, Any]) -> Question:
    return Question(
        id=row["id"],
        text=row["question"],
        kind=row["type"],
        is_answerable=row["answerable"],
        answers=tuple(row["answers"]),
        all_of=tuple(tuple(group) for group in row.get("all_of", ())),
        evidence=tuple(row[key] for key in ("evidence", "evidence2") if row.get(key)),
        docs=tuple(row[key] for key in ("doc", "doc2") if row.get(key)),
        history=tuple(Message(turn["role"], turn["content"]) for turn in row.get("history", ())),
    )


def normalise(text: str) -> str:
    """Lower-cased words with single blanks between and around them, punctuation stripped."""
    folded = unicodedata.normalize("NFKC", text).lower()
    words = re.sub(r"[^\w\s]", " ", folded).split()
    return f" {' '.join(words)} "


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether any gold answer stands in `text` on token boundaries."""
    haystack = normalise(text)
    return any(normalise(answer) in haystack for answer in answers)


def contains_all(text: str, question: Question) -> bool:
    """Whether one answer of every group of `all_of` stands in `text` (any answer without it)."""
    if not question.all_of:
        return contains_answer(text, question.answers)
    return all(contains_answer(text, group) for group in question.all_of)
