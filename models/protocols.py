"""The protocols of the layer that computes, and the values that cross them.

Everything above depends on these, never on llama.cpp or sentence-transformers, so that tests and
later back-ends may put small implementations of their own in place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from models.stats import EngineStats

FinishReason = Literal["stop", "length", "cancelled"]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `content` is data and is never parsed for control tokens."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class PromptDocument:
    """A passage as the chat template's `documents` variable sees it.

    `owner` names the document it was taken from: what is kept of the passage goes with it.
    """

    title: str
    text: str
    owner: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Block:
    """Where a passage's title and text stand among a prompt's tokens: `[start, end)`."""

    start: int
    end: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids ready to prefill: scaffold parsed for control tokens, content never.

    `blocks` are its passages in order. A passage's tokens depend on nothing around them.
    """

    tokens: tuple[int, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Number of token ids."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How one request samples. Defaults decode greedily until the model ends its turn.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 switch those filters off.
    `seed` None draws one. `max_tokens` None means: what is left of the context.
    `copy_bias` is added to the logits of what follows, in the prompt, the longest run of tokens
    that the answer ends with. `outline` holds the first words of each of the answer's sentences:
    the model goes on from them, and its answer ends with the last one's citation mark or line.
    `grammar` is GBNF with a `root` rule. `stop` strings are cut off the text, also when they span
    several tokens. Before `min_tokens` neither they nor the model end the answer.
    `num_top_logprobs` asks for every token's log-probability, and for those of so many others
    that were likeliest; None asks for none. Text that a grammar forces is then sampled token by
    token too, because a token that was never computed for has no probability.
    Past `deadline_s`, the wait in the queue included, the generation ends with
    `DeadlineExceeded`; an engine may have a shorter limit of its own.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    grammar: str | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    copy_bias: float = 0.0
    outline: tuple[str, ...] = ()
    deadline_s: float | None = None
    min_tokens: int = 0
    num_top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token's bytes, which may be part of a character, and its natural-log probability.

    `name` is what the vocabulary calls a token that writes nothing, such as the end of the turn.
    """

    piece: bytes
    logprob: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, its natural-log probability, and the tokens that were likeliest."""

    token: int
    piece: bytes
    logprob: float
    top: tuple[TokenChance, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class GenerationUsage:
    """What one generation took; times in milliseconds."""

    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class GenerationDelta:
    """The next piece of text: whole UTF-8 characters only, possibly empty.

    The last delta alone has `finish_reason` and `usage`. `logprobs`, where they were asked for, are
    those of the tokens that this text ends: all deltas together have those of every token shown.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: GenerationUsage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """Natural-log likelihood of a continuation given its prompt, summed over its tokens.

    `last_logprob` is that of its last token alone, given all before it.
    """

    logprob: float
    num_tokens: int
    last_logprob: float = 0.0

    @property
    def mean_logprob(self) -> float:
        """Log-likelihood per token; 0.0 for an empty continuation."""
        return self.logprob / self.num_tokens if self.num_tokens else 0.0


@runtime_checkable
class Generation(Protocol):
    """A running generation: iterate it (from a thread or a coroutine) or cancel it.

    Iteration raises the `ModelError` that stopped the generation, if one did. Leaving an
    iteration early does not cancel: call `cancel` (idempotent, from any thread).
    """

    def __iter__(self) -> Iterator[GenerationDelta]: ...
    def __aiter__(self) -> AsyncIterator[GenerationDelta]: ...
    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the loaded GGUF says about itself."""

    name: str
    architecture: str
    num_parameters: int
    size_bytes: int
    num_ctx: int
    num_ctx_train: int
    num_vocab: int
    has_documents_template: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is."""

    num_slots: int
    num_running: int
    num_waiting: int
    max_waiting: int


class Engine(Protocol):
    """Runs one GGUF for many requests at once. All methods may be called from any thread."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def load(self) -> EngineLoad: ...

    @property
    def stats(self) -> EngineStats: ...

    def prepare(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Render the chat template and tokenise it segment by segment.

        Where the template has no use for `documents`, they are put in front of the first user
        message as text. Raises `PromptInvalid` if the template refuses the messages.
        """
        ...

    def num_tokens(self, text: str) -> int:
        """Number of tokens of `text` as content (no special-token parsing)."""
        ...

    def generate(self, prompt: Prompt, sampling: SamplingSettings) -> Generation:
        """Queue a generation and return at once.

        Raises `QueueFull`, `ContextLengthExceeded` (also when `max_tokens` does not fit behind
        the prompt), `GrammarInvalid` or `EngineStopped`.
        """
        ...

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[ContinuationScore]:
        """Score texts as parallel continuations of one shared, once-prefilled prompt.

        One `ContinuationScore` for each, in order. Cancelling the awaiting task stops the work.
        Raises as `generate` does.
        """
        ...

    def close(self) -> None:
        """Stop the decode thread and free the model; running generations fail. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """Vectors may be compared only if they come from embedders of the same identity."""

    model: str
    dimension: int
    window_tokens: int


class Embedder(Protocol):
    """Text to unit vectors. Implementations load their weights at first use, not at import."""

    @property
    def identity(self) -> EmbedderIdentity: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """L2-normalised float32 vectors of shape `(len(texts), dimension)`, in order."""
        ...

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, special tokens included, without truncation."""
        ...


class Reranker(Protocol):
    """Question and passage to a score, read together."""

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the question, 0..1, in order."""
        ...


class Reader(Protocol):
    """Question and sentence to how surely the one answers the other, read together."""

    def read(self, question: str, sentences: Sequence[str]) -> list[float]:
        """Log odds that each sentence answers, against that none of them does, in order."""
        ...
