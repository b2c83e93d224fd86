"""Mode answer: the model writes freely; each sentence is attributed and checked as it completes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from index.types import Hit
from models.protocols import FinishReason, Generation, GenerationUsage
from models.text.lines import read_fence
from models.text.sentences import Sentence, SentenceStream
from server.grounding.attribution import Attribution, Attributor, CitationList
from server.grounding.marks import read_marks, strip_marks
from server.grounding.neutral import clean_fence, find_seam, neutralise
from server.grounding.passages import PassageReader
from server.grounding.reading import read_text
from server.grounding.support import SUPPORT_FLOOR
from server.grounding.types import Citation, Decision, SentenceSupport, TextDelta

__all__ = ["SUPPORT_FLOOR", "DraftWriter", "Unsupported"]

Unsupported = Literal["flag", "drop", "abstain"]


class DraftWriter:
    """Rewrites a model's draft sentence by sentence: right citations in, invented ones out."""

    def __init__(
        self,
        hits: tuple[Hit, ...],
        *,
        unsupported: Unsupported,
        refusal: str,
        has_live_links: bool = False,
        reader: PassageReader | None = None,
    ) -> None:
        """`has_live_links`: links and images of the draft stay Markdown, instead of plain words."""
        self._hits = hits
        self._attributor = Attributor(hits, reader)
        self._listed = CitationList(hits)
        self._unsupported = unsupported
        self._refusal = refusal
        self._has_live_links = has_live_links
        self._stream = SentenceStream(at_marks=True)
        # How much of the draft was looked at.
        self._position = 0
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
        return self._says_refusal(" ".join(strip_marks(self._text).split()))

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
            if delta.finish_reason is not None:
                self.finish_reason = delta.finish_reason
                self.usage = delta.usage
            for piece in self._take(delta.text, is_last=delta.finish_reason is not None):
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

    def _take(self, text: str, *, is_last: bool) -> list[str]:
        """Pieces of text ready to be shown; what may still grow stays pending."""
        # One by one, because the stream tells the fence around the sentence that it gave last.
        pieces = [self._write_sentence(sentence) for sentence in self._stream.feed(text)]
        if is_last:
            pieces += [self._write_sentence(sentence) for sentence in self._stream.finish()]
            rest = self._stream.text[self._position :]
            if rest and (self._text or rest.strip()):
                pieces.append(self._append(self._clean_markup(rest)))
            self._position = len(self._stream.text)
        return [piece for piece in pieces if piece]

    def _write_sentence(self, sentence: Sentence) -> str:
        """A sentence behind the markup before it, with the citations it deserves; "" if dropped."""
        draft = self._stream.text
        lead = draft[self._position : sentence.start]
        raw = draft[sentence.start : sentence.end]
        self._position = sentence.end
        if sentence.kind == "code":
            body = claim = raw
        else:
            claim = strip_marks(raw)
            body = claim if self._has_live_links else neutralise(claim)
        lead = self._clean_markup(lead)
        if sentence.kind == "heading" or self._says_refusal(claim) or _leads_in(claim):
            return self._append(lead + find_seam(lead[-1:], body) + body)
        found = self._attributor.attribute(claim, read_marks(raw))
        if found.support < SUPPORT_FLOOR and self._unsupported == "drop":
            return self._append(lead) if "```" in lead or "~~~" in lead else ""
        if sentence.kind == "code" and not self._is_surely_code():
            body = neutralise(raw)
        return self._append_cited(lead, body, sentence, found)

    def _append_cited(self, lead: str, body: str, sentence: Sentence, found: Attribution) -> str:
        marks: tuple[int, ...] = ()
        if found.support >= SUPPORT_FLOOR:
            listed = [self._listed.add(e.hit, e.start, e.end).index for e in found.evidence]
            marks = tuple(dict.fromkeys(listed))
        written = "".join(f" [{mark}]" for mark in marks)
        if sentence.kind == "code":
            shown = body
        elif sentence.kind == "row" and body.endswith("|"):
            shown = f"{body[:-1].rstrip()}{written} |"
        else:
            shown = body + written
        piece = lead + find_seam(lead[-1:], body) + shown
        start = len(self._text) + len(find_seam(self._text[-1:], piece)) + len(piece) - len(shown)
        length = len(shown) if sentence.kind == "row" else len(body)
        self._sentences.append(SentenceSupport(start, start + length, found.support, marks))
        return self._append(piece)

    def _append(self, piece: str) -> str:
        piece = find_seam(self._text[-1:], piece) + piece
        self._text += piece
        return piece

    def _clean_markup(self, markup: str) -> str:
        """What stands between sentences: list markers, fences, rules, blank lines."""
        if self._has_live_links:
            return markup
        return "".join(
            clean_fence(line) if read_fence(line.rstrip("\r\n")) else neutralise(line)
            for line in markup.splitlines(keepends=True)
        )

    def _is_surely_code(self) -> bool:
        """Whether any renderer takes the line for code: its fence stands at the line's beginning.

        A fence that is indented may belong to a list item that has ended.
        """
        fence = self._stream.fence
        return self._has_live_links or (fence is not None and fence.indent == 0)

    def _says_refusal(self, claim: str) -> bool:
        return claim.casefold().startswith(self._refusal.rstrip(".").casefold())


def _leads_in(claim: str) -> bool:
    """Whether a sentence only announces what follows: "You need:"."""
    if not claim.rstrip().endswith(":"):
        return False
    read = read_text(claim)
    return not read.quantities and not read.names
