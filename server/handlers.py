"""The framework's own refusals, turned into the one error body.

Errors of ours need no handler: they pass up to the gate, which sends and logs them.
"""

from __future__ import annotations

from typing import cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from server.errors import InvalidValue, MethodNotAllowed, RouteNotFound
from server.replies import JsonReply, error_reply
from server.statuses import type_of


def install_handlers(app: FastAPI) -> None:
    """Replace FastAPI's `{"detail": ...}` replies, which the official client cannot read."""
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)


def _handle_http_exception(request: Request, exc: Exception) -> Response:
    error = cast(HTTPException, exc)
    headers = dict(error.headers or {})
    target = f"{request.method} {request.url.path}"
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers=headers)
    if error.status_code == 405:
        allowed = headers.get("Allow", headers.get("allow", "other methods"))
        return error_reply(
            MethodNotAllowed(f"{target} is not served; this path takes {allowed}."),
            headers=headers,
        )
    if error.status_code == 404:
        return error_reply(RouteNotFound(f"There is nothing at {target}."), headers=headers)
    return JsonReply(
        {
            "error": {
                "message": str(error.detail),
                "type": type_of(error.status_code),
                "param": None,
                "code": None,
            }
        },
        status=error.status_code,
        headers=headers,
    )


def _handle_validation_error(request: Request, exc: Exception) -> Response:
    first = cast(RequestValidationError, exc).errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or None
    return error_reply(InvalidValue(f"{name or 'The request'}: {first['msg']}.", param=name))
