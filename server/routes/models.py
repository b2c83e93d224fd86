"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.components import Components
from server.errors import ModelNotFound
from server.replies import JsonReply
from server.routes.routing import GROUNDED_MODEL, RAW_MODEL, list_collections, to_model_id

router = APIRouter()


@router.api_route("/v1/models", methods=["GET", "HEAD"])
async def list_models(request: Request) -> Response:
    """The models that `model` may name."""
    return JsonReply({"object": "list", "data": await _models(request)})


@router.api_route("/v1/models/{model_id:path}", methods=["GET", "HEAD"])
async def get_model(request: Request, model_id: str) -> Response:
    """One of them; ids may hold slashes."""
    for model in await _models(request):
        if model["id"] == model_id:
            return JsonReply(model)
    raise ModelNotFound(f"There is no model {model_id[:80]!r}.", param="model")


async def _models(request: Request) -> list[dict[str, object]]:
    components: Components = request.app.state.components
    collections = await list_collections(components.services.get())
    started_s: int = request.app.state.started_s
    return [
        _model(GROUNDED_MODEL, started_s),
        *(_model(to_model_id(c.name), c.created_s) for c in collections),
        _model(RAW_MODEL, started_s),
    ]


def _model(model_id: str, created_s: int) -> dict[str, object]:
    return {"id": model_id, "object": "model", "created": created_s, "owned_by": "mynah"}
