"""`mynah serve`: the API over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from server.commands.ask import ModelOption
from server.commands.context import CommandContext


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to bind.", metavar="HOST")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to bind; 0 takes a free one.", min=0, max=65535)
    ] = None,
    model: ModelOption = None,
) -> None:
    """Serve the OpenAI-compatible API until stopped."""
    options: CommandContext = context.obj
    settings = options.load_settings(host=host, port=port, model=model)

    from server.serving import run_server

    run_server(settings)
