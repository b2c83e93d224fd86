"""A running generation as its consumer sees it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain

from models.errors import ModelError
from models.protocols import GenerationDelta

# Nobody sees text come in smaller steps than this. To wake the event loop and to encode and send an
# event takes as long as a small model takes for a tenth of a token.
_PAUSE_S = 0.02


class DeltaStream:
    """An unbounded queue of deltas from the decode thread to one consumer.

    Implements `models.protocols.Generation`. The producer never waits for the consumer. An
    asynchronous consumer gets the first delta and the end at once, and between them what came
    within 20 ms as one.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()
        self._deltas: deque[GenerationDelta] = deque()
        self._error: ModelError | None = None
        self._is_complete = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        # The asynchronous consumer is not woken for less than the end before then.
        self._rests_until_s = 0.0

    def cancel(self) -> None:
        """Ask the engine to stop. Idempotent, from any thread."""
        self._cancel()

    def put(self, delta: GenerationDelta) -> None:
        """Hand over the next delta; one with `finish_reason` is the last."""
        with self._changed:
            if not self._is_complete:
                self._deltas.append(delta)
                self._is_complete = delta.finish_reason is not None
                self._wake()

    def fail(self, error: ModelError) -> None:
        """End with an error, behind the deltas that are there already."""
        with self._changed:
            if not self._is_complete:
                self._error, self._is_complete = error, True
                self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if not self._is_complete and time.monotonic() < self._rests_until_s:
            # Its own timer wakes it.
            return
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, future = waiter
            try:
                loop.call_soon_threadsafe(_set_done, future)
            except RuntimeError:
                # The consumer's event loop is closed: nobody will read the rest.
                self._cancel()

    def _take(self) -> GenerationDelta | None:
        """The next delta if there is one, None at the end; called with the lock held."""
        if self._deltas:
            return self._deltas.popleft()
        if self._error is not None:
            raise self._error
        return None

    @property
    def _is_ready(self) -> bool:
        return bool(self._deltas) or self._is_complete

    def __iter__(self) -> Iterator[GenerationDelta]:
        return self

    def __next__(self) -> GenerationDelta:
        with self._changed:
            self._changed.wait_for(lambda: self._is_ready)
            delta = self._take()
        if delta is None:
            raise StopIteration
        return delta

    def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        return self

    async def __anext__(self) -> GenerationDelta:
        while True:
            with self._changed:
                now_s = time.monotonic()
                rest_s = self._rests_until_s - now_s
                if self._is_complete or (self._deltas and rest_s <= 0):
                    delta = self._take_all()
                    if delta is None:
                        raise StopAsyncIteration
                    self._rests_until_s = now_s + _PAUSE_S
                    return delta
                loop = asyncio.get_running_loop()
                future: asyncio.Future[None] = loop.create_future()
                self._waiter = (loop, future)
            if rest_s > 0:
                timer = loop.call_later(rest_s, _set_done, future)
                try:
                    await future
                finally:
                    timer.cancel()
            else:
                await future

    def _take_all(self) -> GenerationDelta | None:
        """The deltas that are there as one; as `_take` otherwise."""
        if len(self._deltas) < 2:
            return self._take()
        deltas = list(self._deltas)
        self._deltas.clear()
        return GenerationDelta(
            "".join(delta.text for delta in deltas),
            deltas[-1].finish_reason,
            deltas[-1].usage,
            tuple(chain.from_iterable(delta.logprobs for delta in deltas)),
        )


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
