"""The HTTP application."""

from __future__ import annotations

import time

from fastapi import FastAPI

from server.components import Components
from server.gate import RequestGate
from server.handlers import install_handlers
from server.routes import chat, engine, health, models


def create_app(components: Components) -> FastAPI:
    """The application over `components`. Nothing is loaded here."""
    # FastAPI's documentation pages load scripts from elsewhere; Mynah works offline.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.components = components
    app.state.started_s = int(time.time())
    app.add_middleware(
        RequestGate,
        access=components.access,
        max_request_bytes=components.max_request_bytes,
    )
    install_handlers(app)
    for module in (health, models, engine, chat):
        app.include_router(module.router)
    return app
