"""A running generation as its consumer sees it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from models.errors import ModelError
from models.protocols import GenerationDelta


class DeltaStream:
    """An unbounded queue of deltas from the decode thread to one consumer.

    Implements `models.protocols.Generation`. The producer never waits for the consumer.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()
        self._deltas: deque[GenerationDelta] = deque()
        self._error: ModelError | None = None
        self._is_complete = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

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
                if self._is_ready:
                    delta = self._take()
                    if delta is None:
                        raise StopAsyncIteration
                    return delta
                loop = asyncio.get_running_loop()
                future: asyncio.Future[None] = loop.create_future()
                self._waiter = (loop, future)
            await future


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
