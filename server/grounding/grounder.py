"""The grounder: messages to an answer whose every sentence is traced to a passage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from index.types import Hit, Retriever
from models.protocols import Embedder, Engine, Message, SamplingSettings
from models.text.excerpts import EXCERPTS, PASSAGES_KEY
from server.grounding.candidates import Candidate, CandidateRanker
from server.grounding.choice import Choice, ChoiceRules, choose, weigh_evidence
from server.grounding.conversation import Conversation, read_conversation
from server.grounding.drafting import DraftWriter, Unsupported
from server.grounding.marks import strip_marks
from server.grounding.passages import PassageReader
from server.grounding.prompt import (
    INSTRUCTION,
    GroundedPrompt,
    build_prompt,
    show_excerpts,
    show_whole,
)
from server.grounding.quoting import QuoteWriter
from server.grounding.streams import Clock, PlainWriter, RefusalStream, WrittenStream
from server.grounding.types import AnswerStream, DroppedPassage, GroundingScope, Mode

REFUSAL = "I could not find this in the documents."
# Turns that rows of the bundled model held: two exchanges and the question.
_NUM_TURNS_READ = 5
# Enough to tell one sentence from the others.
_NUM_OPENING_WORDS = 4


@dataclass(frozen=True, slots=True)
class GroundingRules:
    """How answers are grounded unless a request says otherwise.

    `num_found` passages are searched, `max_passages` of them enter the prompt. `answer_tokens` is
    kept free in the context for answers whose length the request leaves open, `quote_tokens` for
    quotes, which are short whatever the request allows. `is_instructed` says whether the model
    needs to be told what to do (a model tuned for this task does not). `copy_bias` keeps a model
    that reads excerpts on the sentence that it has begun to repeat; with `is_guided` its answer
    begins as the best sentence does. `has_live_links` leaves links and images of documents as
    Markdown; otherwise they are shown as plain words.
    """

    mode: Mode = "quote"
    num_found: int = 12
    max_passages: int = 6
    answer_tokens: int = 512
    quote_tokens: int = 320
    unsupported: Unsupported = "flag"
    has_live_links: bool = False
    is_instructed: bool = True
    copy_bias: float = 12.0
    is_guided: bool = True
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
        self._reader = PassageReader()
        self._refusal_opening = self._find_refusal_opening() if self._reads_excerpts else -1

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
        surplus = tuple(DroppedPassage(hit.passage.id, "max_passages") for hit in hits[limit:])
        hits = hits[:limit]
        ranked = await asyncio.to_thread(self._ranker.rank, conversation.search_query, hits)
        clock.mark("candidates")
        # Without a wish, a small context leaves most of itself to the question and the passages.
        default = min(self._rules.answer_tokens, self._engine.info.num_ctx // 4)
        wanted = sampling.max_tokens or default
        reserve = min(wanted, self._rules.quote_tokens) if mode == "quote" else wanted
        grounded = await asyncio.to_thread(self._build, conversation, hits, ranked, reserve)
        grounded = replace(grounded, dropped=grounded.dropped + surplus)
        clock.mark("prompt")
        if weigh_evidence(ranked) < self._rules.choice.min_evidence:
            return RefusalStream(mode, self._rules.refusal, grounded, clock)
        if await self._refuses(grounded, clock):
            return RefusalStream(mode, self._rules.refusal, grounded, clock)
        if mode == "quote":
            return await self._quote(conversation, grounded, ranked, sampling, clock)
        choices: list[Choice] = []
        if self._reads_excerpts and self._rules.is_guided:
            choices = await self._choose(conversation, grounded, ranked, clock)
        return self._draft(grounded, sampling, clock, choices)

    @property
    def _reads_excerpts(self) -> bool:
        """Whether the model was trained on excerpts, and so to refuse where they hold no answer."""
        return self._engine.info.metadata.get(PASSAGES_KEY) == EXCERPTS

    def _find_refusal_opening(self) -> int:
        """The token that a refusal begins with: where it differs from another answer's prompt."""
        refusal, other = (
            self._engine.prepare(
                [Message("user", "?"), Message("assistant", text)], add_generation_prompt=False
            ).tokens
            for text in (self._rules.refusal, self._rules.refusal[::-1])
        )
        return next(a for a, b in zip(refusal, other, strict=False) if a != b)

    async def _refuses(self, grounded: GroundedPrompt, clock: Clock) -> bool:
        """Whether a model that was trained to refuse would rather do so than answer.

        The chance of the whole refusal is read off one batch behind the prompt, whose prefill the
        answer uses again.
        """
        if not self._reads_excerpts or not grounded.hits:
            return False
        (score,) = await self._engine.score(grounded.prompt, [self._rules.refusal])
        clock.mark("refusal")
        return math.exp(score.logprob) > self._rules.choice.max_refusal_chance

    def _search(self, conversation: Conversation, scope: GroundingScope) -> list[Hit]:
        wanted = max(self._rules.num_found, scope.max_passages or 0)
        return self._retriever.search(
            conversation.search_query, collections=scope.collections, max_hits=wanted
        )

    def _build(
        self,
        conversation: Conversation,
        hits: Sequence[Hit],
        ranked: Sequence[Candidate],
        num_answer_tokens: int,
    ) -> GroundedPrompt:
        if self._reads_excerpts:
            return self._build_excerpts(conversation, hits, ranked, num_answer_tokens)
        instruction = INSTRUCTION.format(refusal=self._rules.refusal)
        return build_prompt(
            self._engine,
            conversation.messages,
            show_whole(hits),
            num_answer_tokens=num_answer_tokens,
            instruction=instruction if self._rules.is_instructed else None,
        )

    def _build_excerpts(
        self,
        conversation: Conversation,
        hits: Sequence[Hit],
        ranked: Sequence[Candidate],
        num_answer_tokens: int,
    ) -> GroundedPrompt:
        """The prompt that the bundled model was trained on: excerpts, and the last turns alone."""
        shown = show_excerpts(ranked)
        turns = [m for m in conversation.messages if m.role in ("user", "assistant")]
        grounded = build_prompt(
            self._engine,
            [replace(m, content=strip_marks(m.content)) for m in turns[-_NUM_TURNS_READ:]],
            shown,
            num_answer_tokens=num_answer_tokens,
            instruction=None,
        )
        read = {item.hit.passage.id for item in shown}
        unread = tuple(
            DroppedPassage(hit.passage.id, "excerpt") for hit in hits if hit.passage.id not in read
        )
        return replace(grounded, dropped=grounded.dropped + unread)

    async def _quote(
        self,
        conversation: Conversation,
        grounded: GroundedPrompt,
        ranked: Sequence[Candidate],
        sampling: SamplingSettings,
        clock: Clock,
    ) -> AnswerStream:
        choices = await self._choose(conversation, grounded, ranked, clock)
        if not choices:
            return RefusalStream("quote", self._rules.refusal, grounded, clock)
        writer = QuoteWriter(grounded, choices, has_live_links=self._rules.has_live_links)
        generation = writer.start(self._engine, sampling)
        return WrittenStream("quote", writer, generation, grounded, clock)

    async def _choose(
        self,
        conversation: Conversation,
        grounded: GroundedPrompt,
        ranked: Sequence[Candidate],
        clock: Clock,
    ) -> list[Choice]:
        """The sentences to quote."""
        rules = self._rules.choice
        room = self._engine.info.num_ctx - grounded.prompt.num_tokens
        read = {hit.passage.id for hit in grounded.hits}
        fitting = [c for c in ranked if c.hit.passage.id in read and self._measure(c) <= room]
        candidates = fitting[: rules.max_candidates]
        if not candidates:
            return []
        scores = await self._engine.score(grounded.prompt, [c.text for c in candidates])
        clock.mark("score")
        choices = choose(
            conversation.search_query,
            candidates,
            [score.mean_logprob for score in scores],
            rules,
        )
        while len(choices) > 1 and sum(self._measure(c.candidate) for c in choices) > room:
            choices.pop()
        return choices

    def _measure(self, candidate: Candidate) -> int:
        """Tokens that quoting may take: a grammar lets a model spell in more than the tokenizer."""
        return 12 + self._engine.num_tokens(candidate.text) * 4 // 3

    def _draft(
        self,
        grounded: GroundedPrompt,
        sampling: SamplingSettings,
        clock: Clock,
        choices: Sequence[Choice],
    ) -> AnswerStream:
        """A free answer; with `choices` it has a sentence for each, begun with its first words.

        Which sentences answer is what a small model knows least; retrieval and the model choose
        them together, as in mode quote, and the model writes each on from its first words.
        """
        rules = self._rules
        if self._reads_excerpts:
            # Whether to refuse was decided already, by the whole refusal and not by its first word.
            bias = {**sampling.logit_bias, self._refusal_opening: -100.0}
            outline = tuple(_open(choice.candidate.text) for choice in choices)
            sampling = replace(
                sampling, copy_bias=rules.copy_bias, logit_bias=bias, outline=outline
            )
        generation = self._engine.generate(grounded.prompt, sampling)
        writer = DraftWriter(
            grounded.hits,
            unsupported=rules.unsupported,
            refusal=rules.refusal,
            has_live_links=rules.has_live_links,
            reader=self._reader,
        )
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


def _open(sentence: str) -> str:
    return " ".join(sentence.split()[:_NUM_OPENING_WORDS])
