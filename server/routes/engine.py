"""`GET /v1/engine`: what the engine is doing, in counts; behind the API keys as all of `/v1` is."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.components import Components
from server.replies import JsonReply

router = APIRouter()


@router.api_route("/v1/engine", methods=["GET", "HEAD"])
async def get_engine(request: Request) -> Response:
    """Queue, slots, cells, reuse of beginnings and rates; no text and no token of any request."""
    components: Components = request.app.state.components
    engine = components.services.get().engine
    return JsonReply({"object": "engine", "model": engine.info.name, **asdict(engine.stats)})
