"""The values of a grounded answer, as the routes and the command line see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from index.filters import Filter
from index.types import RankingOptions
from models.protocols import (
    FinishReason,
    GenerationUsage,
    Message,
    PromptDocument,
    SamplingSettings,
    TokenLogprob,
)

Mode = Literal["quote", "answer", "off"]
Decision = Literal["answered", "abstained", "ungrounded"]


@dataclass(frozen=True, slots=True)
class GroundingScope:
    """What one request searches and how it answers.

    `collections` None means all that exist; `mode` None means the server's setting, and so does
    `min_evidence`, the chance of an answer (0..1) below which it is refused; `ranking` None means
    the retriever's own. `filters` leave documents out before anything is ranked. `documents` are
    passages that the request brings along, for mode `off`.
    """

    mode: Mode | None = None
    collections: tuple[str, ...] | None = None
    max_passages: int | None = None
    min_evidence: float | None = None
    ranking: RankingOptions | None = None
    filters: Filter | None = None
    documents: tuple[PromptDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage as numbered in an answer; `quote` is `text[start:end]` of its document."""

    index: int
    document: str
    filename: str
    path: str
    collection: str
    page: int | None
    heading: str | None
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SentenceSupport:
    """A sentence `[start, end)` of the answer's text and how far its citations back it (0..1)."""

    start: int
    end: int
    support: float
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeptPassage:
    """A passage that stood in the prompt."""

    id: int
    score: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class DroppedPassage:
    """A passage that was found but left out, and why (`budget`, `max_passages`)."""

    id: int
    reason: str


@dataclass(frozen=True, slots=True)
class GroundingReport:
    """The `grounding` object of a reply (DESIGN.md gives its JSON).

    `evidence` is the chance (0..1) that the documents hold the answer, None in mode `off`.
    """

    mode: Mode
    decision: Decision
    evidence: float | None = None
    citations: tuple[Citation, ...] = ()
    sentences: tuple[SentenceSupport, ...] = ()
    kept: tuple[KeptPassage, ...] = ()
    dropped: tuple[DroppedPassage, ...] = ()
    timing_ms: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The object as it stands in the reply, JSON types only."""
        return {
            "mode": self.mode,
            "decision": self.decision,
            "evidence": None if self.evidence is None else round(self.evidence, 3),
            "citations": [
                {
                    "index": c.index,
                    "document": c.document,
                    "filename": c.filename,
                    "path": c.path,
                    "collection": c.collection,
                    "page": c.page,
                    "heading": c.heading,
                    "quote": c.quote,
                    "start": c.start,
                    "end": c.end,
                }
                for c in self.citations
            ],
            "sentences": [
                {
                    "start": s.start,
                    "end": s.end,
                    "support": round(s.support, 3),
                    "citations": list(s.citations),
                }
                for s in self.sentences
            ],
            "passages": {
                "kept": [
                    {"id": str(p.id), "score": round(p.score, 4), "num_tokens": p.num_tokens}
                    for p in self.kept
                ],
                "dropped": [{"id": str(p.id), "reason": p.reason} for p in self.dropped],
            },
            "timing_ms": {name: round(value, 1) for name, value in self.timing_ms.items()},
        }


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text, with its tokens' probabilities if they were asked for.

    Only the bare model's text has tokens that are its own.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerEnd:
    """The last event of every answer; `text` is the whole text that the deltas carried."""

    text: str
    finish_reason: FinishReason
    usage: GenerationUsage
    report: GroundingReport


AnswerEvent = TextDelta | AnswerEnd


class AnswerStream(Protocol):
    """Events of one answer: text deltas, then exactly one `AnswerEnd`.

    `aclose` (also called when the consuming task is cancelled) stops the work behind it.
    """

    def __aiter__(self) -> AsyncIterator[AnswerEvent]: ...
    async def aclose(self) -> None: ...


class Grounder(Protocol):
    """Messages to a grounded answer."""

    async def answer(
        self,
        messages: Sequence[Message],
        scope: GroundingScope,
        sampling: SamplingSettings,
    ) -> AnswerStream:
        """Admit the request and return its stream.

        Errors of admission (`QueueFull`, `ContextLengthExceeded`, `CollectionNotFound`, ...) are
        raised here, before the first event, so that they become a status and not a broken stream.
        """
        ...
