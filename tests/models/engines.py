"""An engine that must queue and cut, and what tests ask of any engine."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from models.batch import Run
from models.context import Context
from models.engine import LlamaEngine, open_engine
from models.protocols import (
    Generation,
    GenerationUsage,
    Message,
    Prompt,
    PromptDocument,
    SamplingSettings,
)

DOCUMENT = PromptDocument("Hours", "The office opens at nine in the morning. " * 8)
GREEDY = SamplingSettings(max_tokens=24)
QUESTIONS = [f"{word} does the office open?" for word in ("When", "Where", "Why", "How", "Who")]


def random_prompts(engine: LlamaEngine, num_prompts: int) -> list[Prompt]:
    rng = random.Random(1)
    words = DOCUMENT.text.split()
    texts = (" ".join(rng.choices(words, k=rng.randrange(3, 60))) for _ in range(num_prompts))
    return [engine.prepare([Message("user", text)]) for text in texts]


def prompt_for(engine: LlamaEngine, question: str, num_documents: int = 1) -> Prompt:
    return engine.prepare([Message("user", question)], [DOCUMENT] * num_documents)


def text_of(generation: Generation) -> str:
    return "".join(delta.text for delta in generation)


def end_of(generation: Generation) -> tuple[str | None, GenerationUsage]:
    last = list(generation)[-1]
    assert last.usage is not None
    return last.finish_reason, last.usage


def wait_until_idle(engine: LlamaEngine) -> None:
    deadline = time.monotonic() + 30
    while engine.load.num_running or engine.load.num_waiting:
        assert time.monotonic() < deadline, "the engine did not become idle"
        time.sleep(0.002)


def assert_nothing_leaks(engine: LlamaEngine) -> None:
    """Every cell that llama.cpp counts belongs to a kept prefix, and none of those is promised."""
    wait_until_idle(engine)
    slots, context = engine._slots, engine._context
    assert slots.num_promised_cells == 0
    kept = slots.kept_sequences
    for sequence in range(engine._settings.num_sequences):
        node = slots.kept.ends.get(sequence)
        assert context.num_positions(sequence) == (0 if node is None else node.end)
    assert len(slots.kept.free) + len(kept) == engine._settings.num_sequences
    engine.forget_prefixes()
    deadline = time.monotonic() + 10
    while any(context.num_positions(s) for s in range(engine._settings.num_sequences)):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def watch_runs(engine: LlamaEngine) -> list[Run]:
    """What the engine computes from now on, in order, on its workbench too."""
    seen: list[Run] = []
    bench = engine._reuse._bench

    def watch(context: Context) -> None:
        decode = context.decode

        def watched(runs: Sequence[Run]) -> Any:
            seen.extend(runs)
            return decode(runs)

        context.decode = watched  # type: ignore[method-assign]

    for context in [engine._context] + ([bench.context] if bench else []):
        watch(context)
    return seen


def no_end(engine: LlamaEngine) -> dict[int, float]:
    return {int(token): -1000.0 for token in engine._model.vocabulary.eog_ids}


@contextlib.contextmanager
def crowded_engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    """Small enough that requests must wait for slots and cells, chunks smaller than prompts."""
    engine = open_engine(
        tiny_gguf, num_threads=1, num_slots=3, num_cells=1024, num_ctx=512, chunk_tokens=32,
        max_waiting=8, flash_attention=False, kv_type="f32",
    )  # fmt: skip
    try:
        yield engine
    finally:
        engine.close()
