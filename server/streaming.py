"""Server-sent events that never end without saying how, and work that stops with its client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import AppError
from server.errors import InternalError, ServerStopping
from server.gate import RequestRecord
from server.replies import encode_json, error_body

log = logging.getLogger("mynah.request")

Result = TypeVar("Result")

CLIENT_LEFT_STATUS = 499
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    # Tells nginx not to collect the events.
    "x-accel-buffering": "no",
}


class ClientLeft(Exception):
    """The connection was closed while the answer was being made."""


async def wait_for_departure(receive: Receive) -> None:
    """Return when the client has closed its connection. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def run_for_client(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client leaves (`ClientLeft`)."""
    task = asyncio.create_task(work)
    departure = asyncio.create_task(wait_for_departure(request.receive))
    try:
        await asyncio.wait({task, departure}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft
    finally:
        await _cancel(task)
        await _cancel(departure)


class EventStream(Response):
    """Sends each object of `events` as one event, then `[DONE]`; an error as the last event.

    While nothing comes for `ping_interval_s`, a comment keeps proxies from closing the
    connection. `events` is closed as soon as the client leaves, and `release` is awaited: an
    async generator that was never started does not run its own clean-up.
    """

    def __init__(
        self,
        events: AsyncGenerator[Mapping[str, object]],
        record: RequestRecord,
        ping_interval_s: float,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(headers=_HEADERS)
        self._events = events
        self._release = release
        self._record = record
        self._ping_interval_s = ping_interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""
        headers = [h for h in self.raw_headers if h[0] != b"content-length"]
        departure = asyncio.create_task(wait_for_departure(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._serve(_Outlet(send), departure)
        finally:
            await _cancel(departure)
            await self._events.aclose()
            await self._release()

    async def _serve(self, outlet: _Outlet, departure: asyncio.Task[None]) -> None:
        """Wait for the end of either side; events pass by in a task that waits for nothing else.

        A task for each event would take longer than all else that is done for one.
        """
        pump = asyncio.create_task(self._pump(outlet))
        try:
            while not (pump.done() or departure.done()):
                await asyncio.wait(
                    {pump, departure},
                    timeout=outlet.silent_until(self._ping_interval_s),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not (pump.done() or departure.done()):
                    await outlet.ping(self._ping_interval_s)
            if pump.done():
                await pump
            else:
                self._record.error_code = "client_left"
        except asyncio.CancelledError:
            await _cancel(pump)
            await self._send_error(outlet, ServerStopping("The server is stopping."))
        finally:
            await _cancel(pump)

    async def _pump(self, outlet: _Outlet) -> None:
        try:
            async for event in self._events:
                await outlet.send(_event(encode_json(event)))
            await outlet.send(_event(b"[DONE]"), is_last=True)
        except AppError as error:
            await self._send_error(outlet, error)
        except Exception:
            log.exception("id=%s failed while streaming", self._record.id)
            await self._send_error(
                outlet,
                InternalError(f"The server failed; its log has more under {self._record.id}."),
            )

    async def _send_error(self, outlet: _Outlet, error: AppError) -> None:
        self._record.error_code = error.code
        await outlet.send(_event(encode_json(error_body(error))), is_last=True)


class _Outlet:
    """The body of a reply, written by one at a time; nothing follows its last part."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lock = asyncio.Lock()
        self._is_over = False
        self._sent_at = time.monotonic()

    def silent_until(self, interval_s: float) -> float:
        """Seconds until nothing has been sent for `interval_s`."""
        return max(0.0, self._sent_at + interval_s - time.monotonic())

    async def ping(self, interval_s: float) -> None:
        """Send a comment if nothing has been sent for so long, and nothing is about to be."""
        if not self._lock.locked() and not self.silent_until(interval_s):
            await self.send(b": ping\n\n")

    async def send(self, body: bytes, *, is_last: bool = False) -> None:
        """Send a part; waits for a client that is slow to read."""
        async with self._lock:
            if not self._is_over:
                self._is_over = is_last
                message = {"type": "http.response.body", "body": body, "more_body": not is_last}
                await self._send(message)
            self._sent_at = time.monotonic()


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has let go of what it held."""
    if task.done():
        if not task.cancelled():
            task.exception()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, AppError):
        await task
