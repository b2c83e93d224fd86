"""A stream of deltas crosses from the decode thread to threads and event loops."""

from __future__ import annotations

import asyncio
import threading

import pytest

from models.errors import ModelError
from models.generation import DeltaStream
from models.protocols import GenerationDelta, GenerationUsage

USAGE = GenerationUsage(1, 0, 2, 0.0, 0.0, 0.0)
DELTAS = [GenerationDelta("a"), GenerationDelta("b"), GenerationDelta("", "stop", USAGE)]


def _stream() -> tuple[DeltaStream, list[int]]:
    cancelled: list[int] = []
    return DeltaStream(lambda: cancelled.append(1)), cancelled


def _produce(stream: DeltaStream, pause_s: float = 0.003) -> threading.Thread:
    def work() -> None:
        for delta in DELTAS:
            threading.Event().wait(pause_s)
            stream.put(delta)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_thread_reads_everything_once() -> None:
    stream, _ = _stream()
    thread = _produce(stream)
    assert list(stream) == DELTAS
    assert list(stream) == []
    thread.join()


async def test_a_coroutine_reads_everything_once() -> None:
    stream, _ = _stream()
    thread = _produce(stream)
    assert [delta async for delta in stream] == DELTAS
    assert [delta async for delta in stream] == []
    thread.join()


async def test_a_reader_that_gave_up_may_come_back() -> None:
    stream, _ = _stream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(aiter(stream)), 0.01)
    thread = _produce(stream)
    assert [delta async for delta in stream] == DELTAS
    thread.join()


def test_an_error_comes_behind_what_was_said() -> None:
    stream, _ = _stream()
    stream.put(DELTAS[0])
    stream.fail(ModelError("broken"))
    stream.put(DELTAS[1])
    reader = iter(stream)
    assert next(reader) == DELTAS[0]
    with pytest.raises(ModelError, match="broken"):
        next(reader)


def test_the_end_is_the_end() -> None:
    stream, _ = _stream()
    stream.put(DELTAS[2])
    stream.fail(ModelError("too late"))
    assert list(stream) == DELTAS[2:]


def test_a_closed_event_loop_cancels() -> None:
    stream, cancelled = _stream()

    async def give_up() -> None:
        task = asyncio.ensure_future(anext(aiter(stream)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(give_up())
    stream.put(DELTAS[0])
    assert cancelled == [1]
