"""The values and protocols of collecting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from models.imitation.collecting.teacher import TeacherReply, TeacherRequest
from models.imitation.conversations import SourcePassage

StopReason = Literal["num_rows", "max_requests", "max_tokens", "fruitless"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and the number of its request, counted over all runs from 0."""

    number: int
    reply: TeacherReply


@dataclass(frozen=True, slots=True)
class Draft:
    """A row as a mode makes it: `answer` wrote it, `asked_before` led to it."""

    instruction: str
    response: str
    answer: Answer
    seed_ids: tuple[str, ...]
    asked_before: tuple[int, ...] = ()
    passages: tuple[SourcePassage, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop; requests and tokens are counted over all runs of one file, None is no limit.

    The tokens of an answer are not known beforehand, so a request is sent only if it stays within
    `max_tokens` at its longest.
    """

    num_rows: int
    max_requests: int | None = None
    max_tokens: int | None = None

    def exceeded_by(self, num_requests: int, num_tokens: int) -> StopReason | None:
        """The limit that so many would break, if one would."""
        if self.max_requests is not None and num_requests > self.max_requests:
            return "max_requests"
        if self.max_tokens is not None and num_tokens > self.max_tokens:
            return "max_tokens"
        return None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. Requests are those answered, over all runs."""

    num_rows: int
    num_requests: int
    num_tokens: int
    num_retries: int
    num_dropped: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run left: `dropped` counts what the teacher wrote and a filter refused."""

    stopped_by: StopReason
    num_rows: int
    num_requests: int
    num_requests_now: int
    num_tokens: int
    num_retries: int
    dropped: Mapping[str, int]


class Asking(Protocol):
    """What a mode may do during a run."""

    @property
    def num_wanted(self) -> int:
        """Rows still missing."""
        ...

    def ask(self, requests: Sequence[TeacherRequest]) -> list[Answer]:
        """The answers in order; at the end of a budget fewer, and the next call ends the run."""
        ...

    def drop(self, reason: str) -> None:
        """Count something the teacher wrote that becomes no row."""
        ...


class Mode(Protocol):
    """A way to turn seeds into rows."""

    name: str
    prompt_version: str

    @property
    def plan(self) -> Mapping[str, Any]:
        """What a resumed run must share with the one before, besides name and version."""
        ...

    def drafts(self, run: Asking) -> Iterator[Draft]:
        """Rows without end; the run stops it."""
        ...
