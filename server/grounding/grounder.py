"""The grounder: messages to an answer whose every sentence is traced to a passage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from index.types import Hit, Retriever
from models.protocols import Embedder, Engine, Message, SamplingSettings
from server.grounding.candidates import Candidate, CandidateRanker
from server.grounding.choice import Choice, ChoiceRules, choose, read_views, weigh_evidence
from server.grounding.conversation import Conversation, read_conversation
from server.grounding.drafting import DraftWriter, Unsupported
from server.grounding.prompt import INSTRUCTION, GroundedPrompt, build_prompt
from server.grounding.quoting import QuoteWriter
from server.grounding.streams import Clock, PlainWriter, RefusalStream, WrittenStream
from server.grounding.types import AnswerStream, DroppedPassage, GroundingScope, Mode

# GGUF metadata: what a model trained to judge puts after a sentence that answers.
VERDICT_KEY = "mynah.verdict_mark"
REFUSAL = "I could not find this in the documents."


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
        clock = Clock()
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
        clock: Clock,
    ) -> AnswerStream:
        choices = await self._choose(conversation, grounded, clock)
        if not choices:
            return RefusalStream("quote", self._rules.refusal, grounded, clock)
        writer = QuoteWriter(grounded, choices)
        generation = writer.start(self._engine, sampling)
        return WrittenStream("quote", writer, generation, grounded, clock)

    async def _choose(
        self, conversation: Conversation, grounded: GroundedPrompt, clock: Clock
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
        mark = self._engine.info.metadata.get(VERDICT_KEY, "")
        scores = await self._engine.score(grounded.prompt, [c.text + mark for c in candidates])
        clock.mark("score")
        choices = choose(query, candidates, read_views(scores, has_verdict=bool(mark)), rules)
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
        clock: Clock,
    ) -> AnswerStream:
        rules = self._rules
        ranked = await asyncio.to_thread(
            self._ranker.rank, conversation.search_query, grounded.hits
        )
        clock.mark("candidates")
        if weigh_evidence(ranked) < rules.choice.min_evidence:
            return RefusalStream("answer", rules.refusal, grounded, clock)
        generation = self._engine.generate(grounded.prompt, sampling)
        writer = DraftWriter(grounded.hits, unsupported=rules.unsupported, refusal=rules.refusal)
        return WrittenStream("answer", writer, generation, grounded, clock)

    async def _answer_bare(
        self, messages: Sequence[Message], sampling: SamplingSettings
    ) -> AnswerStream:
        clock = Clock()
        prompt = await asyncio.to_thread(self._engine.prepare, messages)
        clock.mark("prompt")
        generation = self._engine.generate(prompt, sampling)
        bare = GroundedPrompt(prompt, (), (), ())
        return WrittenStream("off", PlainWriter(), generation, bare, clock)
