"""Whole prompts computed apart while others run: the same answers, and nothing left behind."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.engine import LlamaEngine, open_engine
from models.engine_settings import NUM_PASSAGE_SEQUENCES
from models.protocols import Generation, Message, SamplingSettings
from tests.models.engines import assert_nothing_leaks, no_end, text_of, wait_until_idle

WORDS = "parents receive weeks of leave and the keys of each van stay in the warehouse".split()
OPTIONS: dict[str, Any] = {
    "num_threads": 1,
    "num_slots": 4,
    "num_ctx": 3072,
    "num_cells": 6144,
    "kv_type": "f32",
    "flash_attention": False,
}
SYSTEM = Message("system", "Answer from the handbook alone.")


@pytest.fixture
def engine(wide_gguf: Path) -> Iterator[LlamaEngine]:
    engine = open_engine(wide_gguf, reuse="exact", **OPTIONS)
    yield engine
    engine.close()


def _ask(rng: random.Random, num_words: int) -> list[Message]:
    return [SYSTEM, Message("user", " ".join(rng.choices(WORDS, k=num_words)))]


def _keep_busy(engine: LlamaEngine) -> Generation:
    """A request that is under way as long as a test takes."""
    prompt = engine.prepare([Message("user", "Go on.")])
    sampling = SamplingSettings(max_tokens=2900, logit_bias=no_end(engine))
    generation = engine.generate(prompt, sampling)
    next(iter(generation))
    return generation


class Apart:
    """Counts the tokens that an engine computes on its workbench."""

    def __init__(self, engine: LlamaEngine) -> None:
        bench = engine._reuse._bench
        assert bench is not None
        self.bench, self.num_tokens, self.delay_s = bench, 0, 0.0
        decode = bench.context.decode

        def count(runs: Any) -> Any:
            time.sleep(self.delay_s)
            self.num_tokens += sum(len(run.tokens) for run in runs)
            return decode(runs)

        bench.context.decode = count  # type: ignore[method-assign]


def test_alone_a_prompt_is_computed_in_place(engine: LlamaEngine) -> None:
    apart = Apart(engine)
    text_of(
        engine.generate(engine.prepare(_ask(random.Random(1), 120)), SamplingSettings(max_tokens=4))
    )
    assert not apart.num_tokens


def test_answers_are_those_of_prompts_computed_alone(engine: LlamaEngine, wide_gguf: Path) -> None:
    rng = random.Random(2)
    # Some too short for it, one too long for the workbench, two with the same beginning.
    asks = [_ask(rng, num_words) for num_words in (120, 20, 90, 160, 900, 140)]
    asks.append([*asks[0], Message("assistant", "Yes."), Message("user", "Why? " * 150)])
    sampling = SamplingSettings(max_tokens=12, logit_bias=no_end(engine))
    plain = open_engine(wide_gguf, reuse="off", **OPTIONS)
    wanted = [text_of(plain.generate(plain.prepare(ask), sampling)) for ask in asks]
    plain.close()
    apart = Apart(engine)
    busy = _keep_busy(engine)
    running = [engine.generate(engine.prepare(ask), sampling) for ask in asks]
    assert [text_of(generation) for generation in running] == wanted
    assert apart.num_tokens > 600
    busy.cancel()
    wait_until_idle(engine)
    assert not apart.bench.is_used
    assert_nothing_leaks(engine)


def test_who_leaves_in_the_middle_leaves_nothing_behind(engine: LlamaEngine) -> None:
    rng = random.Random(3)
    apart = Apart(engine)
    apart.delay_s = 0.002
    num_bench_spare = apart.bench._spare.num_free
    sampling = SamplingSettings(max_tokens=6, logit_bias=no_end(engine))
    running = [_keep_busy(engine)]
    for _ in range(40):
        running.append(engine.generate(engine.prepare(_ask(rng, rng.randrange(5, 250))), sampling))
        if rng.random() < 0.6:
            time.sleep(rng.random() * 0.02)
            rng.choice(running[1:]).cancel()
        while engine.load.num_waiting > 8:
            time.sleep(0.002)
    for generation in running[1:]:
        text_of(generation)
    running[0].cancel()
    wait_until_idle(engine)
    assert apart.num_tokens
    assert not apart.bench.is_used
    assert apart.bench._spare.num_free == num_bench_spare
    assert_nothing_leaks(engine)
    assert engine._reuse._spare.num_free == NUM_PASSAGE_SEQUENCES
    # And the engine still answers as one that nobody has left.
    ask = _ask(rng, 120)
    assert text_of(engine.generate(engine.prepare(ask), sampling)) == text_of(
        engine.generate(engine.prepare(ask), sampling)
    )


def test_an_engine_that_reuses_nothing_has_no_workbench(wide_gguf: Path) -> None:
    for settings in ({"reuse": "off"}, {"reuse": "exact", "num_slots": 1}):
        engine = open_engine(wide_gguf, **{**OPTIONS, **settings})
        assert engine._reuse._bench is None
        engine.close()
