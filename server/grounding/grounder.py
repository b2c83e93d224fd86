"""The grounder: messages to an answer whose every sentence is traced to a passage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.types import Hit, Retriever
from models.protocols import Embedder, Engine, Generation, Message, SamplingSettings
from models.text.excerpts import EXCERPTS, PASSAGES_KEY
from models.text.plain import read_plain
from server.grounding.abstention import Abstention, Signals, default_abstention, read_signals
from server.grounding.candidates import Candidate, CandidateRanker
from server.grounding.choice import READ_RULES, Choice, ChoiceRules, choose
from server.grounding.conversation import Conversation, read_conversation
from server.grounding.drafting import DraftWriter
from server.grounding.lists import join_lists
from server.grounding.marks import strip_marks
from server.grounding.neighbours import widen_hits
from server.grounding.passages import PassageReader
from server.grounding.prompt import (
    INSTRUCTION,
    NO_PROMPT,
    GroundedPrompt,
    build_prompt,
    show_excerpts,
    show_whole,
)
from server.grounding.quoting import QuoteWriter
from server.grounding.rewrite import rewrite_searches, split_question
from server.grounding.rules import GroundingRules
from server.grounding.searching import search_all
from server.grounding.streams import Clock, PlainWriter, RefusalStream, Writer, WrittenStream
from server.grounding.types import AnswerStream, DroppedPassage, GroundingScope

# Turns that rows of the bundled model held: two exchanges and the question.
_NUM_TURNS_READ = 5
# Enough to tell one sentence from the others.
_NUM_OPENING_WORDS = 4


@dataclass(frozen=True, slots=True)
class _Case:
    """A question with all that is known before its answer is begun."""

    conversation: Conversation
    grounded: GroundedPrompt
    ranked: Sequence[Candidate]
    signals: Signals


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
        self._ranker = CandidateRanker(embedder, reader=self._rules.reader)
        own = ChoiceRules() if self._rules.reader is None else READ_RULES
        self._choice = self._rules.choice or own
        self._abstention = self._rules.abstention or default_abstention(
            reads_excerpts=self._reads_excerpts, has_reader=self._rules.reader is not None
        )
        self._reader = PassageReader()
        self._refusal_opening = self._find_refusal_opening() if self._reads_excerpts else -1

    async def answer(
        self, messages: Sequence[Message], scope: GroundingScope, sampling: SamplingSettings
    ) -> AnswerStream:
        """The answer's stream, as the `Grounder` protocol says."""
        mode = scope.mode or self._rules.mode
        if mode == "off":
            return await self._answer_bare(messages, scope, sampling)
        clock = Clock()
        conversation = read_conversation(messages)
        if conversation.courtesy is not None:
            return RefusalStream(mode, conversation.courtesy, NO_PROMPT, clock, "ungrounded")
        # Without a wish, a small context leaves most of itself to the question and the passages.
        default = min(self._rules.answer_tokens, self._engine.info.num_ctx // 4)
        wanted = sampling.max_tokens or default
        reserve = min(wanted, self._rules.quote_tokens) if mode == "quote" else wanted
        case = await self._prepare(conversation, scope, reserve, clock)
        evidence = self._abstention.weigh(case.signals)
        floor = self._abstention.min_evidence if scope.min_evidence is None else scope.min_evidence
        if not case.ranked or evidence < floor:
            return RefusalStream(mode, self._rules.refusal, case.grounded, clock, evidence=evidence)
        choices: list[Choice] = []
        if mode == "quote" or (self._reads_excerpts and self._rules.is_guided):
            choices = await self._choose(case, clock, are_quoted=mode == "quote")
        if mode == "answer":
            generation, writer = self._draft(case.grounded, sampling, choices)
        elif choices:
            writer = QuoteWriter(case.grounded, choices, has_live_links=self._rules.has_live_links)
            generation = writer.start(self._engine, sampling)
        else:
            return RefusalStream(mode, self._rules.refusal, case.grounded, clock, evidence=evidence)
        return WrittenStream(mode, writer, generation, case.grounded, clock, evidence=evidence)

    async def read_signals(self, messages: Sequence[Message], scope: GroundingScope) -> Signals:
        """What speaks for an answer to the conversation's question, without answering it."""
        conversation = read_conversation(messages)
        case = await self._prepare(conversation, scope, self._rules.quote_tokens, Clock())
        return case.signals

    async def _prepare(
        self, conversation: Conversation, scope: GroundingScope, reserve: int, clock: Clock
    ) -> _Case:
        """Everything that is known before an answer is begun; `reserve` tokens stay free for it."""
        if self._rules.rewrites_by_model:
            searches = await rewrite_searches(
                self._engine, conversation.searches, conversation.messages
            )
            conversation = replace(conversation, searches=searches)
            clock.mark("rewrite")
        hits = await asyncio.to_thread(self._search, conversation, scope)
        clock.mark("search")
        limit = scope.max_passages or self._rules.max_passages
        surplus = tuple(DroppedPassage(hit.passage.id, "max_passages") for hit in hits[limit:])
        hits = hits[:limit]
        ranked = await asyncio.to_thread(self._ranker.rank, conversation.search_query, hits)
        clock.mark("candidates")
        grounded = await asyncio.to_thread(self._build, conversation, hits, ranked, reserve)
        grounded = replace(grounded, dropped=grounded.dropped + surplus)
        clock.mark("prompt")
        refusal = await self._score_refusal(grounded, clock)
        signals = read_signals(conversation.search_query, ranked, refusal)
        return _Case(conversation, grounded, ranked, signals)

    @property
    def abstention(self) -> Abstention:
        """When it refuses."""
        return self._abstention

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

    async def _score_refusal(self, grounded: GroundedPrompt, clock: Clock) -> float | None:
        """Natural logarithm of the chance of a refusal by a model that was trained to refuse.

        It is read off one batch behind the prompt, whose prefill the answer uses again.
        """
        if not self._reads_excerpts or not grounded.hits:
            return None
        (score,) = await self._engine.score(grounded.prompt, [self._rules.refusal])
        clock.mark("refusal")
        return score.logprob

    def _search(self, conversation: Conversation, scope: GroundingScope) -> list[Hit]:
        wanted = max(self._rules.num_found, scope.max_passages or 0)
        return search_all(
            self._retriever,
            conversation.searches,
            collections=scope.collections,
            max_hits=wanted,
            ranking=scope.ranking,
            filters=scope.filters,
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

        def build(hits: Sequence[Hit]) -> GroundedPrompt:
            return build_prompt(
                self._engine,
                conversation.messages,
                show_whole(hits),
                num_answer_tokens=num_answer_tokens,
                instruction=instruction if self._rules.is_instructed else None,
            )

        grounded = build(hits)
        room = self._engine.info.num_ctx - num_answer_tokens - grounded.prompt.num_tokens
        room = min(room, self._rules.neighbour_tokens)
        if grounded.dropped or not grounded.hits or room <= 0:
            return grounded
        measure = self._engine.num_tokens
        widened = build(widen_hits(hits, self._retriever.read_section, measure, room))
        # The texts were measured one by one; where they take more together, they stay narrow.
        return grounded if widened.dropped else widened

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

    async def _choose(self, case: _Case, clock: Clock, *, are_quoted: bool) -> list[Choice]:
        """The sentences that answer; where they are quoted, short lists are quoted whole."""
        grounded = case.grounded
        rules = self._choice.for_parts(len(split_question(case.conversation.question)))
        room = self._engine.info.num_ctx - grounded.prompt.num_tokens
        read = {hit.passage.id for hit in grounded.hits}
        fitting = [c for c in case.ranked if c.hit.passage.id in read and self._measure(c) <= room]
        candidates = fitting[: rules.max_candidates]
        if not candidates:
            return []
        # As they stand in the prompt.
        texts = [read_plain(c.text) if self._reads_excerpts else c.text for c in candidates]
        scores = await self._engine.score(grounded.prompt, texts)
        clock.mark("score")
        choices = choose(
            case.conversation.search_query,
            candidates,
            [score.mean_logprob for score in scores],
            rules,
        )
        if are_quoted:
            choices = join_lists(choices, candidates)
        while len(choices) > 1 and sum(self._measure(c.candidate) for c in choices) > room:
            choices.pop()
        return choices

    def _measure(self, candidate: Candidate) -> int:
        """Tokens that quoting may take: a grammar lets a model spell in more than the tokenizer."""
        return 12 + self._engine.num_tokens(candidate.text) * 4 // 3

    def _draft(
        self, grounded: GroundedPrompt, sampling: SamplingSettings, choices: Sequence[Choice]
    ) -> tuple[Generation, Writer]:
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
        return generation, writer

    async def _answer_bare(
        self, messages: Sequence[Message], scope: GroundingScope, sampling: SamplingSettings
    ) -> AnswerStream:
        clock = Clock()
        prompt = await asyncio.to_thread(self._engine.prepare, messages, scope.documents)
        clock.mark("prompt")
        generation = self._engine.generate(prompt, sampling)
        bare = replace(NO_PROMPT, prompt=prompt)
        return WrittenStream("off", PlainWriter(), generation, bare, clock)


def _open(sentence: str) -> str:
    return " ".join(read_plain(sentence).split()[:_NUM_OPENING_WORDS])
