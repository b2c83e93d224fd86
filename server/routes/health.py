"""`/healthz` (the process answers) and `/readyz` (model and index are loaded)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.components import Components
from server.replies import JsonReply

router = APIRouter()


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def get_health(request: Request) -> Response:
    """Always 200 while the process can answer."""
    return JsonReply({"status": "ok"})


@router.api_route("/readyz", methods=["GET", "HEAD"])
async def get_readiness(request: Request) -> Response:
    """200 with the load once requests can be answered, 503 with an error body before."""
    components: Components = request.app.state.components
    services = components.services.get()
    load = services.engine.load
    return JsonReply(
        {
            "status": "ready",
            "model": services.engine.info.name,
            "num_slots": load.num_slots,
            "num_running": load.num_running,
            "num_waiting": load.num_waiting,
            "max_waiting": load.max_waiting,
        }
    )
