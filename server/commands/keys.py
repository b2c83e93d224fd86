"""`mynah keys`: make, list and delete API keys."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import write, write_json, write_table

if TYPE_CHECKING:
    from server.auth import ApiKey, KeyStore

app = typer.Typer(
    help="Create, list and delete API keys.", add_completion=False, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(help="What to call the key.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create_key(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Create an API key and show it, this once."""
    secret, key = _open_store(context).create(name)
    if as_json:
        write_json({"key": secret, **_to_json(key)})
        return
    write(secret)
    typer.echo("Keep it: only its hash is stored, so it cannot be shown again.", err=True)


@app.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List the API keys by name and first characters."""
    keys = _open_store(context).list()
    if as_json:
        write_json([_to_json(key) for key in keys])
    elif not keys:
        write("There are no API keys; create one with `mynah keys create NAME`.")
    else:
        rows = [(k.name, f"{k.prefix}...", _to_date(k.created_s)) for k in keys]
        write_table(("NAME", "KEY", "CREATED"), rows)


@app.command("delete")
def delete_key(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Delete an API key; a running server refuses it from then on."""
    key = _open_store(context).delete(name)
    if as_json:
        write_json({"deleted": True, **_to_json(key)})
    else:
        write(f"Deleted the key {key.name}.")


def _open_store(context: typer.Context) -> KeyStore:
    from server.auth import KeyStore

    options: CommandContext = context.obj
    return KeyStore(options.load_settings().keys_path)


def _to_json(key: ApiKey) -> dict[str, object]:
    return {"name": key.name, "prefix": key.prefix, "created_s": key.created_s}


def _to_date(time_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))
