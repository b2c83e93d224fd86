"""The grounder: messages to an answer whose every sentence is traced to a passage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from index.types import Hit, Retriever
from models.protocols import (
    Embedder,
    Engine,
    Generation,
    GenerationUsage,
    Message,
    SamplingSettings,
)
from server.grounding.candidates import Candidate, CandidateRanker
from server.grounding.choice import Choice, ChoiceRules, choose, weigh_evidence
from server.grounding.conversation import Conversation, read_conversation
from server.grounding.drafting import DraftWriter, Unsupported
from server.grounding.prompt import INSTRUCTION, GroundedPrompt, build_prompt
from server.grounding.quoting import QuoteWriter
from server.grounding.types import (
    AnswerEnd,
    AnswerEvent,
    AnswerStream,
    DroppedPassage,
    GroundingReport,
    GroundingScope,
    Mode,
    TextDelta,
)

REFUSAL = "I could not find this in the documents."
_NO_USAGE = GenerationUsage(0, 0, 0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class GroundingRules:
    """How answers are grounded unless a request says otherwise.

    `num_found` passages are searched, `max_passages` of them enter the prompt. `answer_tokens` is
    kept free in the context for answers whose length the request leaves open, `quote_tokens` for
    quotes, which are short whatever the request allows. `is_instructed` says whether the model
    needs to be told what to do (a model tuned for this task does not).
    """

    mode: Mode = "quote"
    num_found: int = 12
    max_passages: int = 6
    answer_tokens: int = 512
    quote_tokens: int = 320
    unsupported: Unsupported = "flag"
    is_instructed: bool = True
    refusal: str = REFUSAL
    choice: ChoiceRules = field(default_factory=ChoiceRules)


class GroundingService:
    """Answers over one engine and one retriever; safe for many requests at once."""

    def __init__(
        self,
        engine: Engine,
        retriever: Retriever,
        embedder: Embedder,
        rules: GroundingRules | None = None,
    ) -> None:
        self._engine = engine
        self._retriever = retriever
        self._rules = rules or GroundingRules()
        self._ranker = CandidateRanker(embedder)

    async def answer(
        self, messages: Sequence[Message], scope: GroundingScope, sampling: SamplingSettings
    ) -> AnswerStream:
        """The answer's stream, as the `Grounder` protocol says."""
        mode = scope.mode or self._rules.mode
        if mode == "off":
            return await self._answer_bare(messages, sampling)
        conversation = read_conversation(messages)
        clock = _Clock()
        hits = await asyncio.to_thread(self._search, conversation, scope)
        clock.mark("search")
        limit = scope.max_passages or self._rules.max_passages
        wanted = sampling.max_tokens or self._rules.answer_tokens
        reserve = min(wanted, self._rules.quote_tokens) if mode == "quote" else wanted
        grounded = await asyncio.to_thread(self._build, conversation, hits[:limit], reserve)
        surplus = tuple(DroppedPassage(hit.passage.id, "max_passages") for hit in hits[limit:])
        grounded = replace(grounded, dropped=grounded.dropped + surplus)
        clock.mark("prompt")
        if mode == "quote":
            return await self._quote(conversation, grounded, sampling, clock)
        return await self._draft(conversation, grounded, sampling, clock)

    def _search(self, conversation: Conversation, scope: GroundingScope) -> list[Hit]:
        wanted = max(self._rules.num_found, scope.max_passages or 0)
        return self._retriever.search(
            conversation.search_query, collections=scope.collections, max_hits=wanted
        )

    def _build(
        self, conversation: Conversation, hits: Sequence[Hit], num_answer_tokens: int
    ) -> GroundedPrompt:
        instruction = INSTRUCTION.format(refusal=self._rules.refusal)
        return build_prompt(
            self._engine,
            conversation.messages,
            hits,
            num_answer_tokens=num_answer_tokens,
            instruction=instruction if self._rules.is_instructed else None,
        )

    async def _quote(
        self,
        conversation: Conversation,
        grounded: GroundedPrompt,
        sampling: SamplingSettings,
        clock: _Clock,
    ) -> AnswerStream:
        choices = await self._choose(conversation, grounded, clock)
        if not choices:
            return _Stream(self._abstain("quote", grounded, clock))
        writer = QuoteWriter(grounded, choices)
        generation = writer.start(self._engine, sampling)

        async def write() -> AsyncIterator[AnswerEvent]:
            async for delta in writer.write(generation):
                yield delta
            clock.mark("decode")
            yield AnswerEnd(
                writer.text,
                writer.finish_reason,
                writer.usage or _NO_USAGE,
                GroundingReport(
                    mode="quote",
                    decision="answered",
                    citations=writer.citations,
                    sentences=writer.sentences,
                    kept=grounded.kept,
                    dropped=grounded.dropped,
                    timing_ms=clock.timing_ms,
                ),
            )

        return _Stream(write(), generation)

    async def _choose(
        self, conversation: Conversation, grounded: GroundedPrompt, clock: _Clock
    ) -> list[Choice]:
        """The sentences to quote; none if the evidence is too weak."""
        rules = self._rules.choice
        query = conversation.search_query
        ranked = await asyncio.to_thread(self._ranker.rank, query, grounded.hits)
        clock.mark("candidates")
        if weigh_evidence(ranked) < rules.min_evidence:
            return []
        room = self._engine.info.num_ctx - grounded.prompt.num_tokens
        candidates = [c for c in ranked if self._measure(c) <= room][: rules.max_candidates]
        if not candidates:
            return []
        scores = await self._engine.score(grounded.prompt, [c.text for c in candidates])
        clock.mark("score")
        choices = choose(query, candidates, scores, rules)
        while len(choices) > 1 and sum(self._measure(c.candidate) for c in choices) > room:
            choices.pop()
        return choices

    def _measure(self, candidate: Candidate) -> int:
        """Tokens that quoting may take: a grammar lets a model spell in more than the tokenizer."""
        return 12 + self._engine.num_tokens(candidate.text) * 4 // 3

    async def _draft(
        self,
        conversation: Conversation,
        grounded: GroundedPrompt,
        sampling: SamplingSettings,
        clock: _Clock,
    ) -> AnswerStream:
        query = conversation.search_query
        ranked = await asyncio.to_thread(self._ranker.rank, query, grounded.hits)
        clock.mark("candidates")
        if weigh_evidence(ranked) < self._rules.choice.min_evidence:
            return _Stream(self._abstain("answer", grounded, clock))
        generation = self._engine.generate(grounded.prompt, sampling)
        writer = DraftWriter(
            grounded.hits, unsupported=self._rules.unsupported, refusal=self._rules.refusal
        )

        async def write() -> AsyncIterator[AnswerEvent]:
            async for delta in writer.write(generation):
                yield delta
            clock.mark("decode")
            has_answer = writer.is_supported
            yield AnswerEnd(
                writer.text,
                writer.finish_reason,
                writer.usage or _NO_USAGE,
                GroundingReport(
                    mode="answer",
                    decision="abstained"
                    if writer.is_refusal
                    else "answered"
                    if has_answer
                    else "ungrounded",
                    citations=writer.citations,
                    sentences=writer.sentences,
                    kept=grounded.kept,
                    dropped=grounded.dropped,
                    timing_ms=clock.timing_ms,
                ),
            )

        return _Stream(write(), generation)

    async def _abstain(
        self, mode: Mode, grounded: GroundedPrompt, clock: _Clock
    ) -> AsyncIterator[AnswerEvent]:
        yield TextDelta(self._rules.refusal)
        yield AnswerEnd(
            self._rules.refusal,
            "stop",
            _NO_USAGE,
            GroundingReport(
                mode=mode,
                decision="abstained",
                kept=grounded.kept,
                dropped=grounded.dropped,
                timing_ms=clock.timing_ms,
            ),
        )

    async def _answer_bare(
        self, messages: Sequence[Message], sampling: SamplingSettings
    ) -> AnswerStream:
        prompt = await asyncio.to_thread(self._engine.prepare, messages)
        generation = self._engine.generate(prompt, sampling)

        async def write() -> AsyncIterator[AnswerEvent]:
            text = ""
            async for delta in generation:
                text += delta.text
                if delta.text:
                    yield TextDelta(delta.text)
                if delta.finish_reason is not None:
                    report = GroundingReport(mode="off", decision="ungrounded")
                    yield AnswerEnd(text, delta.finish_reason, delta.usage or _NO_USAGE, report)

        return _Stream(write(), generation)


class _Clock:
    """Milliseconds between marks, by name."""

    def __init__(self) -> None:
        self.timing_ms: dict[str, float] = {}
        self._last_s = time.perf_counter()

    def mark(self, name: str) -> None:
        now_s = time.perf_counter()
        self.timing_ms[name] = (now_s - self._last_s) * 1000
        self._last_s = now_s


class _Stream:
    """An `AnswerStream` over an async generator and the generation behind it."""

    def __init__(
        self, events: AsyncIterator[AnswerEvent], generation: Generation | None = None
    ) -> None:
        self._events = events
        self._generation = generation

    async def __aiter__(self) -> AsyncIterator[AnswerEvent]:
        try:
            async for event in self._events:
                yield event
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Stop the generation; harmless after the end."""
        if self._generation is not None:
            self._generation.cancel()
