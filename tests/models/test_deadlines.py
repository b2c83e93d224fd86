"""A request that is late ends with an error, wherever it is, and nobody else does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from models.engine import open_engine
from models.engine_settings import EngineSettings
from models.errors import DeadlineExceeded, SamplingInvalid
from models.protocols import GenerationDelta, SamplingSettings
from tests.models.cells import House, ScriptedJob
from tests.models.engines import (
    GREEDY,
    assert_nothing_leaks,
    crowded_engine,
    end_of,
    no_end,
    prompt_for,
    text_of,
)


def test_late_ones_end_in_the_queue_and_in_the_answer(tiny_gguf: Path) -> None:
    with crowded_engine(tiny_gguf) as engine:
        prompt = prompt_for(engine, "When?", 2)
        endless = SamplingSettings(max_tokens=300, logit_bias=no_end(engine))
        running = [engine.generate(prompt, endless) for _ in range(3)]
        late = SamplingSettings(max_tokens=300, logit_bias=no_end(engine), deadline_s=1e-6)
        with pytest.raises(DeadlineExceeded, match="1e-06 s"):
            text_of(engine.generate(prompt, late))
        assert [end_of(generation)[0] for generation in running] == ["length"] * 3
        assert engine.stats.requests.num_expired == 1
        assert_nothing_leaks(engine)


def test_the_engine_has_a_limit_of_its_own(tiny_gguf: Path) -> None:
    engine = open_engine(tiny_gguf, num_threads=1, deadline_s=0.2)
    prompt = prompt_for(engine, "When?")
    endless = SamplingSettings(max_tokens=900, logit_bias=no_end(engine), deadline_s=60)
    said: list[GenerationDelta] = []
    late = [engine.generate(prompt, endless) for _ in range(4)]
    with pytest.raises(DeadlineExceeded):
        said.extend(late[0])
    assert said, "what was written in time is delivered"
    for generation in late[1:]:
        with pytest.raises(DeadlineExceeded):
            list(generation)
    assert text_of(engine.generate(prompt, GREEDY))
    with pytest.raises(DeadlineExceeded):
        asyncio.run(engine.score(prompt, ["word " * 100] * 2000))
    assert_nothing_leaks(engine)
    engine.close()


def test_what_a_late_one_computed_stays_of_use() -> None:
    house = House(num_cells=200, num_sequences=8, num_slots=2, chunk_tokens=16)
    late, next_one = ScriptedJob([1] * 60, [2]), ScriptedJob([1] * 60, [2])
    house.scheduler.submit(late)
    house.step()
    late.deadline_at = late.submitted_at
    house.scheduler.submit(next_one)
    house.run_all()
    assert isinstance(late.error, DeadlineExceeded)
    assert next_one.error is None
    assert next_one.num_cached == 16
    house.assert_empty()


@pytest.mark.parametrize("limit_s", [0.0, -1.0, float("nan")])
def test_impossible_limits_are_refused(tiny_gguf: Path, limit_s: float) -> None:
    with pytest.raises(ValueError, match="deadline_s"):
        EngineSettings(path=tiny_gguf, deadline_s=limit_s)
    with crowded_engine(tiny_gguf) as engine, pytest.raises(SamplingInvalid, match="deadline_s"):
        engine.generate(prompt_for(engine, "x"), SamplingSettings(deadline_s=limit_s))
