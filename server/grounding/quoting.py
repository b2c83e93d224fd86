"""Mode quote: the model chooses among sentences of the passages and can say nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.protocols import Engine, Generation, SamplingSettings
from server.grounding.attribution import CitationList
from server.grounding.choice import Choice
from server.grounding.grammar import OPENERS, QuotedSentence, build_grammar
from server.grounding.neutral import neutralise
from server.grounding.prompt import GroundedPrompt
from server.grounding.streams import EchoWriter
from server.grounding.types import Citation, Decision, SentenceSupport


@dataclass(frozen=True, slots=True)
class PlannedQuote:
    """A sentence as the answer will hold it, with its citation."""

    sentence: QuotedSentence
    citation: Citation


class QuoteWriter(EchoWriter):
    """Lets the engine write the chosen sentences under a grammar, and keeps count of them."""

    decision: Decision = "answered"

    def __init__(
        self, grounded: GroundedPrompt, choices: Sequence[Choice], *, has_live_links: bool = False
    ) -> None:
        """`has_live_links`: links and images in the sentences stay Markdown."""
        super().__init__()
        self._prompt = grounded.prompt
        listed = CitationList(grounded.hits)
        self._planned: list[PlannedQuote] = []
        for choice in choices:
            candidate = choice.candidate
            citation = listed.add(candidate.hit, candidate.start, candidate.end)
            text = candidate.text if has_live_links else neutralise(candidate.text).strip()
            if text:
                self._planned.append(PlannedQuote(QuotedSentence(text, citation.index), citation))

    def start(self, engine: Engine, sampling: SamplingSettings) -> Generation:
        """Queue the generation; raises what `Engine.generate` raises."""
        grammar = build_grammar([planned.sentence for planned in self._planned])
        # The grammar ends the answer, so a generous limit of the request needs no room beyond this.
        room = engine.info.num_ctx - self._prompt.num_tokens
        limit = min(sampling.max_tokens or room, room)
        return engine.generate(self._prompt, replace(sampling, grammar=grammar, max_tokens=limit))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """Citations of the sentences that were written, whole or in part."""
        return tuple(planned.citation for planned, _, _ in self._locate())

    @property
    def sentences(self) -> tuple[SentenceSupport, ...]:
        """The written sentences; each is a quote, so its support is 1."""
        return tuple(
            SentenceSupport(start, end, 1.0, (planned.citation.index,))
            for planned, start, end in self._locate()
        )

    def _locate(self) -> list[tuple[PlannedQuote, int, int]]:
        """Each planned sentence that the text reached, with its span in the text."""
        opener = max((o for o in OPENERS if self.text.startswith(o)), key=len)
        position = len(opener)
        found: list[tuple[PlannedQuote, int, int]] = []
        for planned in self._planned:
            if position >= len(self.text):
                break
            end = min(position + len(planned.sentence.text), len(self.text))
            found.append((planned, position, end))
            position += len(planned.sentence.cited_text) + 1
        return found
