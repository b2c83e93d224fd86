"""What the engine says about itself is what it did."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine import LlamaEngine
from models.protocols import SamplingSettings
from models.stats import EngineStats, Meter
from tests.models.cells import House, ScriptedJob
from tests.models.engines import (
    GREEDY,
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


@given(st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 50)), min_size=20, max_size=200))
def test_a_rate_is_what_came_in_the_last_seconds(steps: list[tuple[float, int]]) -> None:
    now, total = 0.0, 0
    history = [(0.0, 0)]
    meter = Meter(lambda: now)
    for passed_s, num_new in steps:
        now, total = now + passed_s, total + num_new
        meter.note(total, 2 * total)
        history.append((now, total))
    rates = meter.rates(total, 2 * total)
    assert rates.decode_tokens_per_s == pytest.approx(2 * rates.prefill_tokens_per_s)
    # The window begins at a sample at most ten seconds and one step ago.
    starts = [(time, num) for time, num in history if time >= now - 10 - 3 - 0.25]
    possible = [(total - num) / max(now - time, 0.25) for time, num in starts]
    assert min(possible) - 1e-6 <= rates.prefill_tokens_per_s <= max(possible) + 1e-6


def test_rates_fall_to_nothing_when_nothing_is_done() -> None:
    now = 0.0
    meter = Meter(lambda: now)
    for _ in range(20):
        now += 0.5
        meter.note(int(now * 100), 0)
    assert meter.rates(1000, 0).prefill_tokens_per_s == pytest.approx(100, rel=0.1)
    now += 60
    meter.note(1000, 0)
    now += 11
    assert meter.rates(1000, 0).prefill_tokens_per_s == 0


def test_counts_add_up(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?", 2)
    for _ in range(3):
        text_of(engine.generate(prompt, GREEDY))
    endless = SamplingSettings(max_tokens=200, logit_bias=no_end(engine))
    cancelled = engine.generate(prompt, endless)
    next(iter(cancelled))
    cancelled.cancel()
    assert end_of(cancelled)[0] == "cancelled"
    asyncio.run(engine.score(prompt, ["nine", "ten o'clock"]))
    wait_until_idle(engine)
    stats = engine.stats
    assert dataclasses.asdict(stats.requests) == {
        "num_finished": 4, "num_cancelled": 1, "num_failed": 0, "num_expired": 0,
    }  # fmt: skip
    assert (stats.num_waiting, stats.num_slots, stats.slots) == (0, 3, ())
    assert (stats.prefixes.num_lookups, stats.prefixes.num_hits) == (5, 4)
    assert stats.prefixes.num_reused == 4 * (prompt.num_tokens - 1)
    assert stats.cells.num_promised == stats.cells.num_used == 0
    assert 0 < stats.cells.num_kept <= stats.cells.max_kept == 512
    assert stats.rates.prefill_tokens_per_s > 0
    assert stats.rates.decode_tokens_per_s > 0


def test_slots_are_shown_while_they_work(engine: LlamaEngine) -> None:
    prompt = prompt_for(engine, "When?", 2)
    endless = SamplingSettings(max_tokens=200, logit_bias=no_end(engine))
    generations = [engine.generate(prompt, endless) for _ in range(5)]
    for generation in generations[:3]:
        next(iter(generation))
    stats = engine.stats
    for generation in generations:
        generation.cancel()
    assert stats.num_waiting == 2
    assert [slot.activity for slot in stats.slots] == ["answering"] * 3
    assert len({slot.sequence for slot in stats.slots}) == 3
    for slot in stats.slots:
        assert slot.num_prompt_tokens == prompt.num_tokens
        assert prompt.num_tokens <= slot.num_computed_tokens <= slot.num_cells
    assert [slot.num_cached_tokens for slot in stats.slots] == [0, *[prompt.num_tokens - 1] * 2]
    assert prompt.num_tokens < stats.cells.num_used <= stats.cells.num_promised
    # The beginning is counted once.
    assert stats.cells.num_promised == prompt.num_tokens - 1 + 3 * 201


def _assert_is_truthful(stats: EngineStats, house: House) -> None:
    assert stats.cells.num_used <= stats.cells.num_promised
    assert stats.cells.num_used + stats.cells.num_kept == house.cells.num_used


@settings(deadline=None)
@given(st.data())
def test_used_cells_are_counted_as_the_cache_counts_them(data: st.DataObject) -> None:
    house = House(num_cells=60, num_sequences=10, num_slots=4, chunk_tokens=6)
    for _ in range(data.draw(st.integers(1, 20))):
        if data.draw(st.booleans()):
            prompt = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=20))
            house.scheduler.submit(ScriptedJob(prompt, data.draw(st.lists(st.just(7), max_size=9))))
        house.step()
        _assert_is_truthful(house.scheduler.stats, house)
    house.run_all()
    _assert_is_truthful(house.scheduler.stats, house)


def test_one_that_is_held_back_says_so() -> None:
    house = House(num_cells=200, num_sequences=8, num_slots=2, chunk_tokens=16)
    for _ in range(2):
        house.scheduler.submit(ScriptedJob([1] * 60, [2]))
    house.step()
    activities = [slot.activity for slot in house.scheduler.stats.slots]
    assert activities == ["prefilling", "waiting"]
    house.run_all()


def test_what_others_have_just_filled_is_counted_once() -> None:
    house = House(num_cells=60, num_sequences=10, num_slots=4, chunk_tokens=6)
    for prompt, answer in (([0, 1, *[0] * 11], [7]), ([0, 0, 0], []), ([0, 0, 0], [])):
        house.scheduler.submit(ScriptedJob(prompt, answer))
        house.step()
        _assert_is_truthful(house.scheduler.stats, house)
