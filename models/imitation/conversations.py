"""Conversations with their provenance: the one format that every stage of the pipeline reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.imitation.errors import TrainingDataInvalid

ROLES = frozenset(("system", "user", "assistant", "tool", "developer"))


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `extra` holds what else the source said of it (a name, tool calls, ...)."""

    role: str
    content: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourcePassage:
    """A passage that a grounded conversation stands on, as the chat template's `documents`."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns with where they come from.

    `provenance` has `source`, `license` and `teacher` (None: written by people) and, for rows that
    a teacher wrote, `prompt_version`, `seed_ids`, `time_s` and `usage`. `passages` are empty for
    conversations without documents.
    """

    id: str
    turns: tuple[Turn, ...]
    provenance: Mapping[str, Any]
    passages: tuple[SourcePassage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The conversation as one JSON object; `from_json` gives it back."""
        row: dict[str, Any] = {
            "id": self.id,
            "messages": [{"role": t.role, "content": t.content, **t.extra} for t in self.turns],
            "provenance": dict(self.provenance),
        }
        if self.passages:
            row["passages"] = [
                {"id": p.id, "title": p.title, "text": p.text} for p in self.passages
            ]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Conversation:
        """Raises `TrainingDataInvalid` with what is wrong."""
        try:
            turns = tuple(_read_turn(message) for message in row["messages"])
            passages = tuple(
                SourcePassage(str(p["id"]), str(p["title"]), str(p["text"]))
                for p in row.get("passages", ())
            )
            return cls(str(row["id"]), turns, dict(row.get("provenance", {})), passages)
        except (KeyError, TypeError, AttributeError) as error:
            raise TrainingDataInvalid(f"not a conversation: {error!r}.") from None


def _read_turn(message: Mapping[str, Any]) -> Turn:
    role, content = message["role"], message["content"]
    if role not in ROLES or not isinstance(content, str):
        raise TrainingDataInvalid(f"not a message: role {role!r}.")
    extra = {key: value for key, value in message.items() if key not in ("role", "content")}
    return Turn(role, content, extra)


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yield the conversations of a JSONL file; raises `TrainingDataInvalid` naming the line."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield Conversation.from_json(json.loads(line))
            except (json.JSONDecodeError, TrainingDataInvalid) as error:
                raise TrainingDataInvalid(f"{path}, line {number}: {error}") from None


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write a JSONL file aside and rename it; return how many conversations it holds."""
    aside = path.with_name(path.name + ".part")
    count = 0
    with aside.open("w", encoding="utf-8") as out:
        for conversation in conversations:
            out.write(json.dumps(conversation.to_json(), ensure_ascii=False) + "\n")
            count += 1
    aside.replace(path)
    return count


def pairs(turns: Sequence[Turn]) -> list[tuple[Turn, Turn]]:
    """Return each user turn that an assistant turn follows, with that turn."""
    return [
        (first, second)
        for first, second in pairwise(turns)
        if first.role == "user" and second.role == "assistant"
    ]
