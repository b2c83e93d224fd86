"""Several answers to one request: how they differ, and their events as one stream."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from models.protocols import EngineLoad, GenerationUsage, SamplingSettings, TokenLogprob
from server.errors import InvalidValue
from server.grounding.types import AnswerEnd, AnswerEvent, AnswerStream

Answer = Callable[[SamplingSettings], Coroutine[Any, Any, AnswerStream]]


@dataclass(slots=True)
class Choice:
    """One complete answer; `logprobs` are those of its tokens, if they were asked for."""

    end: AnswerEnd
    logprobs: list[TokenLogprob] = field(default_factory=list)


def check_number(num_choices: int, load: EngineLoad) -> None:
    """Raise `InvalidValue` for more answers than one request may have queued.

    All of them are queued at once; half of the queue stays for others.
    """
    most = load.num_slots + load.max_waiting // 2
    if num_choices > most:
        raise InvalidValue(f"'n' can be {most} at most on this server.", param="n")


def vary(sampling: SamplingSettings, num_choices: int) -> list[SamplingSettings]:
    """The settings of each answer: the request's own first, then others with seeds made of its.

    Without a seed each answer draws one.
    """
    seed = sampling.seed
    if seed is None:
        return [sampling] * num_choices
    return [sampling, *(replace(sampling, seed=_mix(seed, i)) for i in range(1, num_choices))]


def _mix(seed: int, index: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


async def admit_all(answer: Answer, samplings: Sequence[SamplingSettings]) -> AnswerStreams:
    """Admit every answer or none: what was admitted before one is refused is closed again."""
    streams = AnswerStreams()
    try:
        for sampling in samplings:
            streams.add(await answer(sampling))
    except BaseException:
        await streams.aclose()
        raise
    return streams


class AnswerStreams:
    """The streams of one request's answers."""

    def __init__(self) -> None:
        self._streams: list[AnswerStream] = []

    def add(self, stream: AnswerStream) -> None:
        """Add the next answer."""
        self._streams.append(stream)

    def __len__(self) -> int:
        return len(self._streams)

    async def aclose(self) -> None:
        """Stop the work behind all of them."""
        for stream in self._streams:
            await stream.aclose()

    async def events(self) -> AsyncGenerator[tuple[int, AnswerEvent]]:
        """The events of all with their answer's index, as they come; closes them at its end.

        Raises what stops one of them.
        """
        try:
            if len(self._streams) == 1:
                async for event in self._streams[0]:
                    yield 0, event
                return
            async with aclosing(_merge(self._streams)) as merged:
                async for found in merged:
                    yield found
        finally:
            await self.aclose()


async def _merge(streams: Sequence[AnswerStream]) -> AsyncGenerator[tuple[int, AnswerEvent]]:
    queue: asyncio.Queue[tuple[int, AnswerEvent | BaseException | None]] = asyncio.Queue()

    async def pump(index: int, stream: AnswerStream) -> None:
        end: BaseException | None = None
        try:
            async for event in stream:
                queue.put_nowait((index, event))
        except Exception as error:
            end = error
        queue.put_nowait((index, end))

    pumps = [asyncio.create_task(pump(i, stream)) for i, stream in enumerate(streams)]
    try:
        num_running = len(pumps)
        while num_running:
            index, event = await queue.get()
            if isinstance(event, BaseException):
                raise event
            if event is None:
                num_running -= 1
            else:
                yield index, event
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def sum_usage(usages: Sequence[GenerationUsage]) -> GenerationUsage:
    """What all answers took: the prompt once, as the first found it, and every completion."""
    first = usages[0]
    return replace(
        first,
        num_prompt_tokens=max(usage.num_prompt_tokens for usage in usages),
        num_completion_tokens=sum(usage.num_completion_tokens for usage in usages),
    )
