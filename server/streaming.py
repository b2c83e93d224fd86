"""Server-sent events that never end without saying how, and work that stops with its client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
            await self._send_events(send, departure)
        finally:
            await _cancel(departure)
            await self._events.aclose()
            await self._release()

    async def _send_events(self, send: Send, departure: asyncio.Task[None]) -> None:
        pull: asyncio.Task[Mapping[str, object]] | None = None
        try:
            while True:
                pull = pull or asyncio.create_task(_next(self._events))
                await asyncio.wait(
                    {pull, departure},
                    timeout=self._ping_interval_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if departure.done():
                    self._record.error_code = "client_left"
                    return
                if not pull.done():
                    await _send(send, b": ping\n\n")
                    continue
                await _send(send, _event(encode_json(pull.result())))
                pull = None
        except StopAsyncIteration:
            await _send(send, _event(b"[DONE]"), is_last=True)
        except AppError as error:
            await self._send_error(send, error)
        except asyncio.CancelledError:
            await self._send_error(send, ServerStopping("The server is stopping."))
        except Exception:
            log.exception("id=%s failed while streaming", self._record.id)
            await self._send_error(
                send,
                InternalError(f"The server failed; its log has more under {self._record.id}."),
            )
        finally:
            if pull is not None:
                await _cancel(pull)

    async def _send_error(self, send: Send, error: AppError) -> None:
        self._record.error_code = error.code
        await _send(send, _event(encode_json(error_body(error))), is_last=True)


async def _next(events: AsyncGenerator[Mapping[str, object]]) -> Mapping[str, object]:
    # A task needs a coroutine, and `anext` gives only an awaitable. A StopAsyncIteration may
    # leave a task, unlike a StopIteration.
    return await anext(events)


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


async def _send(send: Send, body: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel `task` and wait until it has let go of what it held."""
    if task.done():
        if not task.cancelled():
            task.exception()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, AppError):
        await task
