"""Small real implementations of the protocols of `models`, for tests of everything above."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np

from models.errors import ContextLengthExceeded, ModelError, QueueFull
from models.kvstore import KvStats
from models.protocols import (
    ContinuationScore,
    EmbedderIdentity,
    EngineLoad,
    GenerationDelta,
    GenerationUsage,
    Message,
    ModelInfo,
    Prompt,
    PromptDocument,
    SamplingSettings,
    Vectors,
)
from models.stats import CellCounts, EngineStats, PrefixCounts, Rates, RequestCounts

Script = Sequence[str] | Callable[[str], str]


class ScriptedEngine:
    """An engine that says what it is told to, a word at a time.

    `script`: texts said in turn (the last ones again from the first), or a function from the
    prompt's text to the answer. A token is a word with the space before it. `score_text(prompt,
    continuation)` is a log-likelihood; by default the fewer words of the continuation stand in
    the prompt, the lower. `messages`, `documents`, `sampling` and `prompt_texts` keep what was
    asked for last.
    """

    def __init__(
        self,
        script: Script = ("I have nothing to say.",),
        *,
        score_text: Callable[[str, str], float] | None = None,
        num_ctx: int = 4096,
        word_delay_s: float = 0.0,
        queue_is_full: bool = False,
        fail_after_words: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._answers = script if callable(script) else _in_turn(script)
        self._score_text = score_text or _word_overlap
        self._num_ctx = num_ctx
        self._word_delay_s = word_delay_s
        self.queue_is_full = queue_is_full
        self.fail_after_words = fail_after_words
        self.messages: tuple[Message, ...] = ()
        self.documents: tuple[PromptDocument, ...] = ()
        self.sampling: SamplingSettings | None = None
        self.generations: list[ScriptedGeneration] = []
        self.prompt_texts: list[str] = []
        self.is_closed = False
        self._metadata = dict(metadata or {})

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            name="scripted",
            architecture="script",
            num_parameters=0,
            size_bytes=0,
            num_ctx=self._num_ctx,
            num_ctx_train=self._num_ctx,
            num_vocab=1 << 20,
            has_documents_template=True,
            metadata=self._metadata,
        )

    @property
    def load(self) -> EngineLoad:
        num_running = sum(generation.is_running for generation in self.generations)
        return EngineLoad(num_slots=4, num_running=num_running, num_waiting=0, max_waiting=8)

    @property
    def stats(self) -> EngineStats:
        """It has no cells and shares nothing; its requests are its generations."""
        load = self.load
        return EngineStats(
            num_waiting=load.num_waiting,
            max_waiting=load.max_waiting,
            num_slots=load.num_slots,
            slots=(),
            cells=CellCounts(0, 0, 0, 0, 0, 0),
            prefixes=PrefixCounts(),
            requests=RequestCounts(num_finished=len(self.generations) - load.num_running),
            rates=Rates(0.0, 0.0),
        )

    @property
    def passage_stats(self) -> KvStats:
        """It keeps no states of passages."""
        return KvStats(0, 0, 0, 0, 0, 0, is_on=False)

    def prepare(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        self.messages, self.documents = tuple(messages), tuple(documents)
        parts = [f"{document.title}\n{document.text}" for document in documents]
        parts += [f"{message.role}: {message.content}" for message in messages]
        self.prompt_texts.append("\n".join(parts))
        # The first id names the prompt's text; the rest only has the right length.
        num_tokens = max(self.num_tokens(self.prompt_texts[-1]), 1)
        return Prompt((len(self.prompt_texts) - 1, *range(1, num_tokens)))

    def num_tokens(self, text: str) -> int:
        return len(_words(text))

    def generate(self, prompt: Prompt, sampling: SamplingSettings) -> ScriptedGeneration:
        self.sampling = sampling
        self._check(prompt, sampling.max_tokens or 1)
        answer = self._answers(self.prompt_texts[prompt.tokens[0]])
        generation = ScriptedGeneration(
            answer, prompt, sampling, self._word_delay_s, self.fail_after_words
        )
        self.generations.append(generation)
        return generation

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        self._check(prompt, 1)
        await asyncio.sleep(0)
        text = self.prompt_texts[prompt.tokens[0]]
        return [
            ContinuationScore(self._score_text(text, continuation), self.num_tokens(continuation))
            for continuation in continuations
        ]

    def close(self) -> None:
        self.is_closed = True

    def _check(self, prompt: Prompt, num_answer_tokens: int) -> None:
        if self.queue_is_full:
            raise QueueFull(8, 3.0)
        if prompt.num_tokens + num_answer_tokens > self._num_ctx:
            raise ContextLengthExceeded(prompt.num_tokens, num_answer_tokens, self._num_ctx)


class ScriptedGeneration:
    """Says its words as they are asked for; obeys `stop`, `max_tokens` and `cancel`."""

    def __init__(
        self,
        answer: str,
        prompt: Prompt,
        sampling: SamplingSettings,
        word_delay_s: float,
        fail_after_words: int | None,
    ) -> None:
        self._deltas = self._say(answer, prompt, sampling, fail_after_words)
        self._word_delay_s = word_delay_s
        self.is_cancelled = False
        self.is_running = True

    def cancel(self) -> None:
        self.is_cancelled = True

    def __iter__(self) -> Iterator[GenerationDelta]:
        return self._deltas

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        for delta in self._deltas:
            await asyncio.sleep(self._word_delay_s)
            yield delta

    def _say(
        self, answer: str, prompt: Prompt, sampling: SamplingSettings, fail_after: int | None
    ) -> Iterator[GenerationDelta]:
        cuts = [place for stop in sampling.stop if stop and (place := answer.find(stop)) >= 0]
        words = _words(answer[: min(cuts)] if cuts else answer)
        limit = len(words) if sampling.max_tokens is None else sampling.max_tokens
        num_said = 0
        try:
            for word in words[:limit]:
                if self.is_cancelled:
                    break
                if num_said == fail_after:
                    raise ModelError("The scripted engine fails here, as it was told to.")
                num_said += 1
                yield GenerationDelta(word)
            usage = GenerationUsage(prompt.num_tokens, 0, num_said, 0.1, 1.0, float(num_said))
            if self.is_cancelled:
                yield GenerationDelta("", "cancelled", usage)
            else:
                yield GenerationDelta("", "length" if limit < len(words) else "stop", usage)
        finally:
            self.is_running = False


def _in_turn(texts: Sequence[str]) -> Callable[[str], str]:
    turns = cycle(texts)
    return lambda _prompt_text: next(turns)


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _word_overlap(prompt_text: str, continuation: str) -> float:
    """The negated number of words of the continuation that the prompt lacks."""
    known = set(re.findall(r"\w+", prompt_text.lower()))
    return -float(sum(word not in known for word in re.findall(r"\w+", continuation.lower())))


class HashingEmbedder:
    """A bag of words: each word adds a fixed +1 or -1 to a few places, so texts that share words
    are near each other. Deterministic over processes.

    A token is a run of up to four word characters or one other mark; two special tokens are added.
    """

    def __init__(
        self, dimension: int = 64, window_tokens: int = 256, model: str = "hashing"
    ) -> None:
        self.identity = EmbedderIdentity(model, dimension, window_tokens)
        self.num_encoded = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.num_encoded += len(texts)
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=16).digest()
                for place in range(0, 16, 4):
                    index = int.from_bytes(digest[place : place + 3], "little")
                    sign = 1.0 if digest[place + 3] % 2 else -1.0
                    vectors[row, index % self.identity.dimension] += sign
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        return [2 + len(re.findall(r"\w{1,4}|[^\w\s]", text)) for text in texts]
