"""Several answers as one: all or none admitted, none waits for another, all let go of."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from models.errors import ModelError, QueueFull
from models.protocols import EngineLoad, GenerationUsage, SamplingSettings
from server.choices import AnswerStreams, admit_all, check_number, sum_usage, vary
from server.errors import InvalidValue
from server.grounding.types import AnswerEnd, GroundingScope, TextDelta
from tests.server.scripted import PIECES, ScriptedGrounder

PLAIN = SamplingSettings(temperature=1.0)
NUM_EVENTS = len(PIECES) + 1


async def streams_of(*grounders: ScriptedGrounder) -> AnswerStreams:
    waiting = iter(grounders)

    async def answer(sampling: SamplingSettings) -> Any:
        return await next(waiting).answer([], GroundingScope(), sampling)

    return await admit_all(answer, [PLAIN] * len(grounders))


@pytest.mark.parametrize("num", [1, 2, 5])
async def test_every_answer_comes_whole_and_in_its_order(num: int) -> None:
    streams = await streams_of(*(ScriptedGrounder(delay_s=0.001) for _ in range(num)))
    found: dict[int, list[Any]] = {}
    async for index, event in streams.events():
        found.setdefault(index, []).append(event)
    assert sorted(found) == list(range(num))
    for events in found.values():
        assert tuple(e.text for e in events[:-1] if isinstance(e, TextDelta)) == PIECES
        assert isinstance(events[-1], AnswerEnd)


async def test_a_slow_answer_holds_no_other_up() -> None:
    streams = await streams_of(ScriptedGrounder(delay_s=0.2), ScriptedGrounder())
    indexes = [index async for index, _ in streams.events()]
    assert indexes == [1] * NUM_EVENTS + [0] * NUM_EVENTS


async def test_one_refused_lets_go_of_those_admitted() -> None:
    good = ScriptedGrounder(is_endless=True)
    closed: list[bool] = []

    async def answer(sampling: SamplingSettings) -> Any:
        if closed:
            raise QueueFull(1, 1.0)
        stream = await good.answer([], GroundingScope(), sampling)
        close = stream.aclose

        async def noting() -> None:
            closed.append(True)
            await close()

        stream = _Noting(stream, noting)
        closed.append(False)
        return stream

    with pytest.raises(QueueFull):
        await admit_all(answer, [PLAIN, PLAIN])
    assert closed == [False, True]


class _Noting:
    def __init__(self, stream: Any, aclose: Any) -> None:
        self._stream = stream
        self.aclose = aclose

    def __aiter__(self) -> Any:
        return self._stream.__aiter__()


async def test_one_that_fails_ends_all() -> None:
    endless = ScriptedGrounder(is_endless=True, delay_s=0.001)
    failing = ScriptedGrounder(failure=ModelError("It broke."))
    streams = await streams_of(endless, failing)
    with pytest.raises(ModelError, match="It broke"):
        async for _ in streams.events():
            pass
    assert endless.closed.is_set()
    assert failing.closed.is_set()


async def test_leaving_early_stops_all() -> None:
    grounders = [ScriptedGrounder(is_endless=True, delay_s=0.001) for _ in range(3)]
    streams = await streams_of(*grounders)
    async with aclosing(streams.events()) as events:
        async for _ in events:
            await asyncio.sleep(0.02)
            break
    assert all(grounder.closed.is_set() for grounder in grounders)


def test_seeds_are_made_of_the_requests_and_differ() -> None:
    seeded = SamplingSettings(seed=7)
    seeds = [sampling.seed for sampling in vary(seeded, 128)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 128
    assert seeds[:5] == [sampling.seed for sampling in vary(seeded, 5)]
    assert seeds[1] != vary(SamplingSettings(seed=8), 2)[1].seed
    assert [sampling.seed for sampling in vary(PLAIN, 3)] == [None] * 3


def test_one_request_leaves_half_of_the_queue() -> None:
    load = EngineLoad(num_slots=4, num_running=0, num_waiting=0, max_waiting=9)
    check_number(8, load)
    with pytest.raises(InvalidValue, match="8 at most"):
        check_number(9, load)


def test_the_prompt_is_counted_once() -> None:
    usages = [GenerationUsage(40, cached, 9, 0.5, 3.0, 5.0) for cached in (8, 39)]
    usage = sum_usage(usages)
    assert (usage.num_prompt_tokens, usage.num_cached_tokens) == (40, 8)
    assert usage.num_completion_tokens == 18
