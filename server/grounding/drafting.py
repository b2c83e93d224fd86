"""Mode answer: the model writes freely; each sentence is attributed and checked as it completes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Literal

from index.types import Hit
from models.protocols import FinishReason, Generation, GenerationUsage
from models.text.sentences import segment
from server.grounding.attribution import CitationList, find_evidence, strip_marks
from server.grounding.types import Citation, Decision, SentenceSupport, TextDelta

Unsupported = Literal["flag", "drop", "abstain"]
# A sentence is complete when another begins behind it; a mark like [2] may follow the full stop,
# and what has come of it so far is no beginning.
_BOUNDARY = re.compile(
    r"(?:[.!?…][\"'”’)]*(?:\s*\[[\d,\s]+\])*\s+(?=\S)(?!\[[\d,\s]*\]?\s*$))|\n+|[。！？]"
)
# From here on a sentence counts as backed; one altered fact holds `measure_support` at 0.4.
SUPPORT_FLOOR = 0.6


class DraftWriter:
    """Rewrites a model's draft sentence by sentence: right citations in, invented ones out."""

    def __init__(
        self,
        hits: tuple[Hit, ...],
        *,
        unsupported: Unsupported,
        refusal: str,
    ) -> None:
        self._hits = hits
        self._listed = CitationList(hits)
        self._unsupported = unsupported
        self._refusal = refusal
        self._pending = ""
        self._text = ""
        self._sentences: list[SentenceSupport] = []
        self.finish_reason: FinishReason = "stop"
        self.usage: GenerationUsage | None = None

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._text

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Citations written so far."""
        return self._listed.citations

    @property
    def sentences(self) -> tuple[SentenceSupport, ...]:
        """The written sentences with their support."""
        return tuple(self._sentences)

    @property
    def is_refusal(self) -> bool:
        """Whether the model itself said that the documents hold no answer."""
        said = " ".join(strip_marks(self._text).split()).casefold()
        return said.startswith(self._refusal.rstrip(".").casefold())

    @property
    def decision(self) -> Decision:
        """`answered` as soon as one sentence is backed by a passage."""
        if self.is_refusal:
            return "abstained"
        is_backed = any(s.support >= SUPPORT_FLOOR for s in self._sentences)
        return "answered" if is_backed else "ungrounded"

    async def write(self, generation: Generation) -> AsyncIterator[TextDelta]:
        """Whole checked sentences; with `abstain`, all of them at the end or the refusal alone."""
        held: list[str] = []
        async for delta in generation:
            self._pending += delta.text
            if delta.finish_reason is not None:
                self.finish_reason = delta.finish_reason
                self.usage = delta.usage
            for piece in self._take_complete(is_last=delta.finish_reason is not None):
                if self._unsupported == "abstain":
                    held.append(piece)
                else:
                    yield TextDelta(piece)
        if self._unsupported == "abstain":
            if not self.is_refusal and any(s.support < SUPPORT_FLOOR for s in self._sentences):
                self._replace_by_refusal()
                held = [self._text]
            for piece in held:
                yield TextDelta(piece)
        elif not self._text:
            # Every sentence was dropped: an empty answer would be no answer at all.
            self._replace_by_refusal()
            yield TextDelta(self._text)

    def _replace_by_refusal(self) -> None:
        self._text = self._refusal
        self._sentences = []
        self._listed = CitationList(self._hits)

    def _take_complete(self, *, is_last: bool) -> list[str]:
        """Pieces of text ready to be shown; what may still grow stays pending."""
        pieces: list[str] = []
        while match := _BOUNDARY.search(self._pending):
            raw, self._pending = self._pending[: match.end()], self._pending[match.end() :]
            pieces.append(self._attribute(raw))
        if is_last and self._pending:
            raw, self._pending = self._pending, ""
            pieces.append(self._attribute(raw))
        return [piece for piece in pieces if piece]

    def _attribute(self, raw: str) -> str:
        """`raw` with the citation it deserves; empty if it is dropped."""
        body = strip_marks(raw)
        claim = body.strip()
        trailing = raw[len(raw.rstrip()) :]
        if not segment(claim) or self._says_refusal(claim):
            self._text += raw
            return raw
        evidence = find_evidence(claim, self._hits)
        support = evidence.support if evidence else 0.0
        marks: tuple[int, ...] = ()
        if evidence is not None and support >= SUPPORT_FLOOR:
            citation = self._listed.add(evidence.hit, evidence.start, evidence.end)
            marks = (citation.index,)
        elif self._unsupported == "drop":
            return ""
        leading = body[: len(body) - len(body.lstrip())]
        start = len(self._text) + len(leading)
        piece = leading + claim + "".join(f" [{mark}]" for mark in marks) + trailing
        self._sentences.append(SentenceSupport(start, start + len(claim), support, marks))
        self._text += piece
        return piece

    def _says_refusal(self, claim: str) -> bool:
        return claim.casefold().startswith(self._refusal.rstrip(".").casefold())
