"""The application behind the page: one HTML file and four calls."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.imitation.judging.judgements import Choice
from server.access import AccessRules
from server.errors import InvalidValue
from server.gate import RequestGate
from server.handlers import install_handlers
from server.judging.desk import Desk
from server.replies import JsonReply
from server.schemas.parsing import read_body

# The page itself holds nothing of the comparison, and must load to ask for a key.
PAGE_PATHS = frozenset({"/"})
MAX_REQUEST_BYTES = 16 * 1024
_PAGE = Path(__file__).parent / "page.html"
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class JudgementBody(BaseModel):
    """Body of `POST /api/judgements`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rater: str
    item: str
    choice: Choice


class UndoBody(BaseModel):
    """Body of `POST /api/undo`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rater: str


class _PlainHeaders:
    """ASGI middleware that makes all replies alike, and takes off how long each one took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_plain(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                del headers["openai-processing-ms"]
                headers.update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_plain)


def create_judging_app(desk: Desk, access: AccessRules) -> FastAPI:
    """The application over `desk`; `access` should leave `PAGE_PATHS` open."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(RequestGate, access=access, max_request_bytes=MAX_REQUEST_BYTES)
    app.add_middleware(_PlainHeaders)
    install_handlers(app)
    page = _PAGE.read_text(encoding="utf-8")
    policy = {"content-security-policy": make_policy(page)}

    @app.api_route("/", methods=["GET", "HEAD"])
    async def get_page() -> Response:
        return Response(page, media_type="text/html", headers=policy)

    @app.get("/api/state")
    async def get_state(rater: str) -> Response:
        return JsonReply(await run_in_threadpool(desk.read_state, rater))

    @app.post("/api/judgements")
    async def create_judgement(request: Request) -> Response:
        body = await read_body(request, JudgementBody)
        state = await run_in_threadpool(desk.judge, body.rater, body.item, body.choice)
        return JsonReply(state)

    @app.post("/api/undo")
    async def undo(request: Request) -> Response:
        body = await read_body(request, UndoBody)
        return JsonReply(await run_in_threadpool(desk.undo, body.rater))

    @app.get("/api/export")
    async def export(rater: str, format: str = "json") -> Response:
        if format not in ("json", "csv"):
            raise InvalidValue("'format' must be json or csv.", param="format")
        name = f"judgements.{format}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        if format == "csv":
            table = await run_in_threadpool(desk.export_csv, rater)
            return Response(table, media_type="text/csv", headers=headers)
        return JsonReply(await run_in_threadpool(desk.export, rater), headers=headers)

    return app


def make_policy(page: str) -> str:
    """A content security policy that admits the page's own style and script and nothing else."""
    sources = {
        kind: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        )
        for kind in ("style", "script")
    }
    return (
        f"default-src 'none'; style-src {sources['style']}; script-src {sources['script']};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
