"""The engine over real llama.cpp: many requests at once, each as if it were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from models.engine import LlamaEngine, open_engine
from models.protocols import (
    Engine,
    Generation,
    Message,
    Prompt,
    SamplingSettings,
)
from tests.gguf_factory import CHAT_FORMATS, write_tiny_gguf
from tests.models.engines import (
    DOCUMENT,
    GREEDY,
    QUESTIONS,
    assert_nothing_leaks,
    crowded_engine,
    end_of,
    no_end,
    prompt_for,
    random_prompts,
    text_of,
    watch_runs,
)


@pytest.fixture
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    with crowded_engine(tiny_gguf) as engine:
        yield engine


def test_first_come_first_served(tiny_gguf: Path) -> None:
    engine = open_engine(tiny_gguf, num_threads=1, num_slots=1)
    prompts = [prompt_for(engine, question) for question in QUESTIONS]
    generations = [engine.generate(prompt, GREEDY) for prompt in prompts]
    waits = [end_of(generation)[1].queue_ms for generation in generations]
    assert waits == sorted(waits)
    engine.close()


def test_it_is_an_engine(tiny_engine: LlamaEngine) -> None:
    engine: Engine = tiny_engine
    info = engine.info
    assert (info.name, info.architecture) == ("tiny", "llama")
    assert (info.num_ctx, info.num_ctx_train, info.num_vocab) == (1024, 1024, 417)
    assert info.has_documents_template
    assert info.metadata["llama.block_count"] == "2"
    assert engine.num_tokens("") == 0
    assert engine.num_tokens("<|end|>") > 1
    generation = engine.generate(prompt_for(tiny_engine, "x"), SamplingSettings(max_tokens=1))
    assert isinstance(generation, Generation)
    assert end_of(generation)[0] == "length"


@pytest.mark.parametrize("weights", ["F32", "Q8_0"])
def test_batched_text_is_the_text_alone(tmp_path: Path, weights: Literal["F32", "Q8_0"]) -> None:
    """Token for token, with the settings under which attention rounds alike in any company.

    With f16 cells or flash attention the logits of these chaotic weights differ in the second
    decimal, and a near tie may then fall the other way.
    """
    path = write_tiny_gguf(tmp_path / "model.gguf", weights=weights)
    engine = open_engine(path, num_threads=1, chunk_tokens=64, flash_attention=False, kv_type="f32")
    prompts = random_prompts(engine, 24)
    alone = [text_of(engine.generate(prompt, GREEDY)) for prompt in prompts]
    engine.forget_prefixes()
    together = [engine.generate(prompt, GREEDY) for prompt in prompts]
    assert [text_of(generation) for generation in together] == alone
    assert len(set(alone)) == len(prompts)
    assert_nothing_leaks(engine)
    engine.close()


def test_the_same_seed_gives_the_same_text(tiny_engine: LlamaEngine) -> None:
    prompt = prompt_for(tiny_engine, "When?")

    def say(seed: int | None) -> str:
        sampling = SamplingSettings(max_tokens=24, temperature=0.9, top_p=0.95, seed=seed)
        return text_of(tiny_engine.generate(prompt, sampling))

    assert say(5) == say(5)
    assert len({say(seed) for seed in range(4)}) > 1


def test_a_repeated_beginning_is_not_computed_again(engine: LlamaEngine) -> None:
    first, second = prompt_for(engine, "When?", 2), prompt_for(engine, "Where?", 2)
    text = text_of(engine.generate(second, GREEDY))
    engine.forget_prefixes()
    _, cold = end_of(engine.generate(first, GREEDY))
    generation = engine.generate(second, GREEDY)
    deltas = list(generation)
    usage = deltas[-1].usage
    assert usage is not None
    assert cold.num_cached_tokens == 0
    shared = next(
        i for i, (a, b) in enumerate(zip(first.tokens, second.tokens, strict=False)) if a != b
    )
    assert usage.num_cached_tokens == shared
    assert "".join(delta.text for delta in deltas) == text
    assert_nothing_leaks(engine)


def test_usage_counts_and_times(tiny_engine: LlamaEngine) -> None:
    prompt = prompt_for(tiny_engine, "How many?")
    reason, usage = end_of(tiny_engine.generate(prompt, SamplingSettings(max_tokens=5)))
    assert reason == "length"
    assert (usage.num_prompt_tokens, usage.num_completion_tokens) == (prompt.num_tokens, 5)
    assert usage.queue_ms >= 0
    assert usage.prefill_ms > 0
    assert usage.decode_ms > 0
    reason, usage = end_of(tiny_engine.generate(prompt, SamplingSettings(max_tokens=0)))
    assert (reason, usage.num_completion_tokens) == ("length", 0)


def test_a_stop_string_may_span_tokens(tiny_engine: LlamaEngine) -> None:
    prompt = prompt_for(tiny_engine, "When?")
    text = text_of(tiny_engine.generate(prompt, GREEDY))
    for start in range(2, len(text) - 6, 5):
        stop = text[start : start + 5]
        generation = tiny_engine.generate(prompt, SamplingSettings(max_tokens=24, stop=(stop,)))
        deltas = list(generation)
        assert "".join(delta.text for delta in deltas) == text[: text.index(stop)]
        assert deltas[-1].finish_reason == "stop"


def test_without_a_limit_the_context_is_the_limit(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    reason, usage = end_of(engine.generate(prompt, SamplingSettings()))
    assert usage.num_prompt_tokens + usage.num_completion_tokens <= 512
    assert reason == "stop" or usage.num_prompt_tokens + usage.num_completion_tokens == 512


def test_a_grammar_shapes_the_answer_in_every_language(tiny_engine: LlamaEngine) -> None:
    grammar = 'root ::= ("Öffnet" | "九点开门" | "<|user|>") " [" [1-9] "]"'
    for seed in range(6):
        sampling = SamplingSettings(grammar=grammar, temperature=1.0, seed=seed, max_tokens=60)
        deltas = list(tiny_engine.generate(prompt_for(tiny_engine, "When?"), sampling))
        text = "".join(delta.text for delta in deltas)
        assert text[:-4] in ("Öffnet", "九点开门", "<|user|>")
        assert text[-4:-2] == " ["
        assert deltas[-1].finish_reason == "stop"


def test_a_running_stream_waits_for_one_chunk_at_most(engine: LlamaEngine) -> None:
    seen = watch_runs(engine)
    endless = SamplingSettings(max_tokens=60, logit_bias=no_end(engine))
    stream = engine.generate(prompt_for(engine, "When?", 0), endless)
    next(iter(stream))
    long = engine.generate(prompt_for(engine, "Where?", 4), SamplingSettings(max_tokens=2))
    assert end_of(long)[0] == end_of(stream)[0] == "length"
    said = [run.job.stream is stream for run in seen]  # type: ignore[attr-defined]
    first, last = said.index(True), len(said) - said[::-1].index(True)
    waits = [0]
    for run, is_said in zip(seen[first:last], said[first:last], strict=True):
        if is_said:
            waits.append(0)
        else:
            waits[-1] += len(run.tokens)
    assert sum(wait > 0 for wait in waits) >= 8
    assert max(waits) <= 32


async def test_generations_can_be_read_from_coroutines(engine: LlamaEngine) -> None:
    async def read(prompt: Prompt) -> tuple[int, str | None]:
        deltas = [delta async for delta in engine.generate(prompt, GREEDY)]
        assert deltas[-1].usage is not None
        return deltas[-1].usage.num_completion_tokens, deltas[-1].finish_reason

    ends = await asyncio.gather(*(read(prompt_for(engine, question)) for question in QUESTIONS))
    assert all(reason in ("stop", "length") and 0 < num <= 24 for num, reason in ends)


@pytest.mark.parametrize("chat", CHAT_FORMATS)
def test_every_chat_format_answers(tmp_path: Path, chat: str) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", chat=chat, weights="Q8_0")
    engine = open_engine(path, num_threads=1, num_cells=512)
    messages = [Message("system", "Be brief."), Message("user", "When?")]
    prompt = engine.prepare(messages, [DOCUMENT])
    assert end_of(engine.generate(prompt, SamplingSettings(max_tokens=4)))[1].num_prompt_tokens > 50
    engine.close()
