"""How well a GGUF expects given texts, measured through the engine."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import ContextLengthExceeded, PromptInvalid
from models.imitation.tuning.masking import Dialogue
from models.protocols import Prompt
from models.tokens import PromptTokenizer

if TYPE_CHECKING:
    from models.engine import LlamaEngine

_PIECE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Expectation:
    """A text that is to be expected behind a prompt."""

    prompt: Prompt
    text: str


@dataclass(frozen=True, slots=True)
class Perplexity:
    """`value` is exp(-mean log-likelihood of a token); `num_too_long` texts were left out."""

    value: float
    num_tokens: int
    num_too_long: int = 0


def expect_answers(tokenizer: PromptTokenizer, dialogues: Iterable[Dialogue]) -> list[Expectation]:
    """Return every answer of the dialogues behind the prompt that the engine would get."""
    found = []
    for dialogue in dialogues:
        for index, message in enumerate(dialogue.messages):
            if not index or message.role != "assistant" or not message.content.strip():
                continue
            try:
                prompt = tokenizer.prepare(dialogue.messages[:index], dialogue.documents)
            except PromptInvalid:
                continue
            found.append(Expectation(prompt, message.content))
    return found


def expect_texts(tokenizer: PromptTokenizer, texts: Iterable[str]) -> list[Expectation]:
    """Return texts in pieces of a thousand characters, each behind the start of a sequence."""
    vocabulary = tokenizer.vocabulary
    start = Prompt((vocabulary.bos_id if vocabulary.bos_id >= 0 else vocabulary.eos_id,))
    return [
        Expectation(start, text[at : at + _PIECE_CHARS])
        for text in texts
        for at in range(0, len(text), _PIECE_CHARS)
    ]


def measure(engine: LlamaEngine, expected: Sequence[Expectation]) -> Perplexity:
    """Return the perplexity of the expected texts; infinite where none could be measured."""
    return asyncio.run(_measure(engine, expected))


async def _measure(engine: LlamaEngine, expected: Sequence[Expectation]) -> Perplexity:
    logprob, num_tokens, num_too_long = 0.0, 0, 0
    for item in expected:
        try:
            (score,) = await engine.score(item.prompt, [item.text])
        except ContextLengthExceeded:
            num_too_long += 1
            continue
        logprob += score.logprob
        num_tokens += score.num_tokens
    value = math.exp(-logprob / num_tokens) if num_tokens else math.inf
    return Perplexity(value, num_tokens, num_too_long)
