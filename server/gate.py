"""What every request passes first: an id, access, a bound on its size, and its line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import AppError
from server.access import OPEN_PATHS, AccessRules
from server.errors import InternalError, RequestTooLarge, ServerStopping
from server.replies import error_reply

log = logging.getLogger("mynah.request")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CORS_METHODS = "GET, HEAD, POST, DELETE, OPTIONS"


@dataclass(slots=True)
class RequestRecord:
    """What is known of one request; routes fill in what the log line shows. Times in ms."""

    id: str
    method: str
    path: str
    started_s: float = field(default_factory=time.perf_counter)
    key_name: str | None = None
    model: str | None = None
    num_prompt_tokens: int | None = None
    num_completion_tokens: int | None = None
    queue_ms: float | None = None
    first_token_ms: float | None = None
    status: int | None = None
    error_code: str | None = None
    prompt: str | None = None

    @property
    def elapsed_ms(self) -> float:
        """Time since the request came in."""
        return (time.perf_counter() - self.started_s) * 1000

    def line(self) -> str:
        """`name=value` pairs; text of the client stands as JSON, so it cannot forge a line."""
        values: dict[str, object] = {
            "id": self.id,
            "key": self.key_name,
            "model": None if self.model is None else json.dumps(self.model[:100]),
            "tokens_in": self.num_prompt_tokens,
            "tokens_out": self.num_completion_tokens,
            "queue_ms": _round(self.queue_ms),
            "first_token_ms": _round(self.first_token_ms),
            "total_ms": _round(self.elapsed_ms),
            "status": self.status,
            "error": self.error_code,
            "method": self.method,
            "path": json.dumps(self.path[:200]),
        }
        if self.prompt is not None:
            values["prompt"] = self.prompt
        return " ".join(f"{k}={'-' if v is None else v}" for k, v in values.items())


class RequestGate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, access: AccessRules, max_request_bytes: int) -> None:
        self._app = app
        self._access = access
        self._max_request_bytes = max_request_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = RequestRecord(_request_id(headers), scope["method"], scope["path"])
        scope.setdefault("state", {})["record"] = record
        sender = _Sender(send, record, self._cors_headers(headers))
        try:
            await self._serve(scope, headers, receive, sender)
        except asyncio.CancelledError:
            # uvicorn cancels what still runs when its time to stop is over.
            await sender.fail(ServerStopping("The server is stopping."), scope, receive)
        except AppError as error:
            await sender.fail(error, scope, receive)
        except ClientDisconnect:
            record.error_code = "client_left"
        except Exception:
            log.exception("id=%s failed", record.id)
            await sender.fail(_internal_error(record), scope, receive)
        finally:
            # Health checks come every few seconds and tell nothing.
            is_check = record.path in OPEN_PATHS
            log.log(logging.DEBUG if is_check else logging.INFO, record.line())

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, send: _Sender) -> None:
        record = send.record
        is_preflight = "access-control-request-method" in headers and record.method == "OPTIONS"
        if is_preflight and self._access.is_foreign_but_allowed(headers.get("origin")):
            await Response(status_code=204)(scope, receive, send)
            return
        record.key_name = self._access.admit(record.path, headers)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_request_bytes:
            raise self._too_large()
        await self._app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Receive) -> Receive:
        num_bytes = 0

        async def receive_bounded() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_request_bytes:
                raise self._too_large()
            return message

        return receive_bounded

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body is larger than {self._max_request_bytes} bytes.")

    def _cors_headers(self, headers: Headers) -> dict[str, str]:
        origin = headers.get("origin")
        if origin is None or not self._access.is_foreign_but_allowed(origin):
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-allow-methods": _CORS_METHODS,
            "access-control-allow-headers": headers.get(
                "access-control-request-headers", "authorization, content-type"
            ),
            "access-control-expose-headers": "x-request-id, openai-processing-ms, retry-after",
            "access-control-max-age": "600",
            "vary": "origin",
        }


class _Sender:
    """Adds the headers of every reply and notes the status."""

    def __init__(self, send: Send, record: RequestRecord, headers: dict[str, str]) -> None:
        self.record = record
        self._send = send
        self._headers = headers

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.record.id
            headers["openai-processing-ms"] = str(round(self.record.elapsed_ms))
            headers["x-content-type-options"] = "nosniff"
            for name, value in self._headers.items():
                headers[name] = value
        await self._send(message)

    async def fail(self, error: AppError, scope: Scope, receive: Receive) -> None:
        """Send the error's reply, unless another has begun: a stream ends itself."""
        self.record.error_code = error.code
        if self.record.status is None:
            await error_reply(error)(scope, receive, self)


def _internal_error(record: RequestRecord) -> InternalError:
    return InternalError(f"The server failed on this request; its log has more under {record.id}.")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
