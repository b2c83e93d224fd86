"""Refused, cancelled, failed or closed: one request ends, the engine and the cells do not."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.batch import Run
from models.context import DecodeFailed
from models.engine import LlamaEngine, open_engine
from models.errors import (
    ContextLengthExceeded,
    EngineStopped,
    GrammarInvalid,
    ModelError,
    PromptInvalid,
    QueueFull,
    SamplingInvalid,
)
from models.generation import DeltaStream
from models.protocols import (
    Message,
    Prompt,
    SamplingSettings,
)
from tests.models.engines import (
    GREEDY,
    QUESTIONS,
    assert_nothing_leaks,
    crowded_engine,
    end_of,
    no_end,
    prompt_for,
    text_of,
    wait_until_idle,
)


@pytest.fixture
def engine(tiny_gguf: Path) -> Iterator[LlamaEngine]:
    with crowded_engine(tiny_gguf) as engine:
        yield engine


def test_what_never_fits_is_refused_with_its_numbers(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    num_answer = 512 - prompt.num_tokens + 1
    with pytest.raises(ContextLengthExceeded) as caught:
        engine.generate(prompt, SamplingSettings(max_tokens=num_answer))
    numbers = (prompt.num_tokens, num_answer, 512)
    error = caught.value
    assert (error.num_prompt_tokens, error.num_answer_tokens, error.num_ctx) == numbers
    assert all(str(number) in error.message for number in numbers)
    with pytest.raises(ContextLengthExceeded):
        engine.generate(Prompt((1,) * 512), SamplingSettings())
    with pytest.raises(ContextLengthExceeded):
        asyncio.run(engine.score(prompt, ["word " * 512]))


def test_bad_requests_are_refused_before_they_wait(tiny_engine: LlamaEngine) -> None:
    prompt = prompt_for(tiny_engine, "When?")
    for bad in (Prompt(()), Prompt((1, 10**6)), Prompt((-1,))):
        with pytest.raises(PromptInvalid):
            tiny_engine.generate(bad, GREEDY)
    with pytest.raises(GrammarInvalid):
        tiny_engine.generate(prompt, SamplingSettings(grammar="root ::= ("))
    with pytest.raises(SamplingInvalid):
        tiny_engine.generate(prompt, SamplingSettings(logit_bias={10**6: 1.0}))
    assert tiny_engine.load.num_waiting == 0


def test_the_queue_is_bounded(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    endless = SamplingSettings(max_tokens=400, logit_bias=no_end(engine))
    running: list[DeltaStream] = []

    def submit_many() -> None:
        running.extend(engine.generate(prompt, endless) for _ in range(40))

    with pytest.raises(QueueFull) as caught:
        submit_many()
    assert 8 <= len(running) <= 11
    assert caught.value.retry_after_s >= 1
    assert engine.load.max_waiting == 8
    for generation in running:
        generation.cancel()
    assert {end_of(generation)[0] for generation in running} <= {"cancelled"}
    assert end_of(engine.generate(prompt, SamplingSettings(max_tokens=2)))[0] == "length"
    assert_nothing_leaks(engine)


def test_cancelling_in_the_queue_in_prefill_and_in_decode(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?", 4)
    endless = SamplingSettings(max_tokens=64, logit_bias=no_end(engine))
    generations = [engine.generate(prompt, endless) for _ in range(6)]
    next(iter(generations[0]))
    for generation in reversed(generations):
        generation.cancel()
        generation.cancel()
    for generation in generations:
        reason, usage = end_of(generation)
        assert reason == "cancelled"
        assert usage.num_completion_tokens < 64
    assert_nothing_leaks(engine)


@pytest.mark.parametrize("num_steps", [150, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_random_walk_leaks_no_cell(engine: LlamaEngine, num_steps: int) -> None:
    rng = random.Random(1)
    prompts = [prompt_for(engine, question, rng.randrange(4)) for question in QUESTIONS]
    open_generations: list[DeltaStream] = []
    scores: list[Any] = []
    loop = asyncio.new_event_loop()
    for _ in range(num_steps):
        step = rng.random()
        if step < 0.5:
            sampling = SamplingSettings(
                max_tokens=rng.choice([0, 1, 3, 30]), temperature=rng.choice([0.0, 1.0])
            )
            try:
                open_generations.append(engine.generate(rng.choice(prompts), sampling))
            except QueueFull:
                continue
        elif step < 0.75 and open_generations:
            open_generations.pop(rng.randrange(len(open_generations))).cancel()
        elif step < 0.85:
            texts = [rng.choice(QUESTIONS) for _ in range(rng.randrange(1, 20))]
            scores.append(loop.create_task(engine.score(rng.choice(prompts), texts)))
            loop.run_until_complete(asyncio.sleep(0))
        elif step < 0.9 and scores:
            scores.pop(rng.randrange(len(scores))).cancel()
        elif step < 0.93:
            engine.forget_prefixes()
        elif open_generations:
            list(open_generations.pop(0))
    for generation in open_generations:
        assert list(generation)[-1].finish_reason is not None
    for outcome in loop.run_until_complete(asyncio.gather(*scores, return_exceptions=True)):
        assert isinstance(outcome, list | QueueFull | asyncio.CancelledError)
    loop.close()
    assert_nothing_leaks(engine)


def test_a_slow_reader_holds_nobody_up(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    unread = engine.generate(prompt, GREEDY)
    assert text_of(engine.generate(prompt, GREEDY))
    wait_until_idle(engine)
    assert text_of(unread)


def test_a_failed_step_fails_its_requests_and_no_others(
    engine: LlamaEngine, caplog: pytest.LogCaptureFixture
) -> None:
    decode = engine._context.decode

    def failing(runs: Sequence[Run]) -> Any:
        raise DecodeFailed(-3)

    prompt = prompt_for(engine, "When?")
    engine._context.decode = failing  # type: ignore[method-assign]
    with caplog.at_level(logging.CRITICAL), pytest.raises(ModelError, match="could not compute"):
        text_of(engine.generate(prompt, GREEDY))
    engine._context.decode = decode  # type: ignore[method-assign]
    assert text_of(engine.generate(prompt, GREEDY))
    assert_nothing_leaks(engine)


def test_an_impossible_grammar_fails_its_request_alone(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?")
    banned = {
        engine._model.vocabulary.tokenize(letter, parse_special=False)[0]: float("-inf")
        for letter in "ab"
    }
    # One letter alone would be forced, whatever the bias says.
    bad = SamplingSettings(grammar='root ::= "a" | "b"', logit_bias=banned, max_tokens=4)
    good, failing = engine.generate(prompt, GREEDY), engine.generate(prompt, bad)
    with pytest.raises(ModelError, match="leaves no token"):
        text_of(failing)
    assert text_of(good)
    assert_nothing_leaks(engine)


def test_when_the_thread_dies_nobody_waits_for_ever(
    engine: LlamaEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def dying(runs: Sequence[Run]) -> Any:
        raise MemoryError("no memory")

    prompt = prompt_for(engine, "When?")
    with engine._changed:
        engine._context.decode = dying  # type: ignore[method-assign]
        generations = [engine.generate(prompt, GREEDY) for _ in range(6)]
    with caplog.at_level(logging.CRITICAL):
        for generation in generations:
            with pytest.raises(EngineStopped, match="no memory"):
                text_of(generation)
    with pytest.raises(EngineStopped):
        engine.generate(prompt, GREEDY)
    with pytest.raises(EngineStopped):
        asyncio.run(engine.score(prompt, ["a"]))


def test_closing_fails_what_runs_and_refuses_what_comes(tiny_gguf: Path) -> None:
    engine = open_engine(tiny_gguf, num_threads=1)
    prompt = prompt_for(engine, "When?")
    endless = SamplingSettings(max_tokens=900, logit_bias=no_end(engine))
    generation = engine.generate(prompt, endless)
    next(iter(generation))
    closers = [threading.Thread(target=engine.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    with pytest.raises(EngineStopped, match="closed"):
        list(generation)
    for closer in closers:
        closer.join()
    engine.close()
    for call in (
        lambda: engine.generate(prompt, GREEDY),
        lambda: engine.num_tokens("x"),
        lambda: engine.prepare([Message("user", "x")]),
    ):
        with pytest.raises(EngineStopped):
            call()
