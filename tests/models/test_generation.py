"""A stream of deltas crosses from the decode thread to threads and event loops."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.generation import DeltaStream
from models.protocols import GenerationDelta, GenerationUsage, TokenLogprob

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
    stream.put(DELTAS[0])
    assert await anext(stream) == DELTAS[0]
    stream.put(DELTAS[1])
    stream.put(DELTAS[2])
    # What came meanwhile comes as one.
    assert [delta async for delta in stream] == [GenerationDelta("b", "stop", USAGE)]
    assert [delta async for delta in stream] == []


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 2)), max_size=12), st.booleans())
def test_a_coroutine_gets_all_that_was_said(said: list[tuple[str, int]], fails: bool) -> None:
    stream, _ = _stream()
    deltas = [
        GenerationDelta(text, logprobs=(TokenLogprob(i, text.encode(), -1.0),) * num)
        for i, (text, num) in enumerate(said)
    ]

    def work() -> None:
        for delta in deltas:
            stream.put(delta)
            time.sleep(0.001)
        if fails:
            stream.fail(ModelError("broken"))
        else:
            stream.put(DELTAS[2])

    async def read() -> list[GenerationDelta]:
        got: list[GenerationDelta] = []
        try:
            async for delta in stream:
                got += [delta]
        except ModelError:
            assert fails
        return got

    thread = threading.Thread(target=work)
    thread.start()
    got = asyncio.run(read())
    thread.join()
    assert "".join(delta.text for delta in got) == "".join(text for text, _ in said)
    assert [p for delta in got for p in delta.logprobs] == [p for d in deltas for p in d.logprobs]
    assert fails or (got[-1].finish_reason, got[-1].usage) == ("stop", USAGE)


async def test_a_coroutine_is_not_woken_for_each_token() -> None:
    stream, _ = _stream()

    def work() -> None:
        for _ in range(100):
            stream.put(GenerationDelta("a"))
            time.sleep(0.001)
        stream.put(DELTAS[2])

    thread = threading.Thread(target=work)
    started = time.monotonic()
    thread.start()
    got = [delta async for delta in stream]
    elapsed_s = time.monotonic() - started
    thread.join()
    # The first and the last come at once.
    assert len(got) <= 3 + elapsed_s / 0.02
    assert got[0].text == "a"


async def test_a_reader_that_gave_up_may_come_back() -> None:
    stream, _ = _stream()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(aiter(stream)), 0.01)
    thread = _produce(stream)
    assert "".join([delta.text async for delta in stream]) == "ab"
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
