"""JSON and error replies, written so that no text a document may hold can break them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from models.errors import AppError, QueueFull
from server.errors import NotReady, RequestTooLarge
from server.statuses import status_of, type_of

# The official client repeats 409 and every status from 500 on. Repeating helps only where the
# cause passes by itself.
_PASSING_STATUSES = frozenset({429, 503})


def encode_json(value: object) -> bytes:
    """Compact UTF-8 JSON of `value`.

    A lone surrogate (from a file name that is not UTF-8) becomes its JSON escape, because UTF-8
    cannot carry it.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


class JsonReply(Response):
    """A JSON body with its status and headers."""

    media_type = "application/json"

    def __init__(
        self, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(encode_json(value), status, headers)


def error_body(error: AppError) -> dict[str, dict[str, str | None]]:
    """The body of every failed reply and of the event that ends a failed stream."""
    return {
        "error": {
            "message": error.message,
            "type": type_of(status_of(error)),
            "param": error.param,
            "code": error.code,
        }
    }


def error_headers(error: AppError) -> dict[str, str]:
    """Headers that tell a client whether and when to try again."""
    status = status_of(error)
    if isinstance(error, QueueFull):
        return {"retry-after": str(max(1, round(error.retry_after_s)))}
    if isinstance(error, NotReady):
        return {"retry-after": "1"}
    if isinstance(error, RequestTooLarge):
        # What is left of the body will not be read, so the connection cannot be used again.
        return {"connection": "close"}
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if (status >= 500 or status == 409) and status not in _PASSING_STATUSES:
        return {"x-should-retry": "false"}
    return {}


def error_reply(error: AppError, *, headers: Mapping[str, str] | None = None) -> JsonReply:
    """The reply for `error`: status, body and retry headers, with `headers` added."""
    return JsonReply(
        error_body(error),
        status=status_of(error),
        headers={**error_headers(error), **(headers or {})},
    )
