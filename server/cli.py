"""The command `mynah`. Imports of weight stand inside the commands: `--help` must be quick."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from models.errors import AppError
from server.commands import ask, calibrate, chat, documents, ingest, keys, models, serve
from server.commands.context import CommandContext
from server.commands.evaluate.app import app as eval_app
from server.commands.output import printable, write_error
from server.commands.tune.app import app as tune_app
from server.commands.tune_engine import tune_engine

app = typer.Typer(
    name="mynah",
    help="Answers from your own documents, with the passages that support them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"mynah {version('mynah')}")
        raise typer.Exit


@app.callback()
def _read_options(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of database, vectors and keys.", metavar="DIR")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file (TOML).", metavar="FILE")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    context.obj = CommandContext(data_dir, config)


app.command("ingest")(ingest.ingest)
app.command("documents")(documents.list_documents)
app.command("delete")(documents.delete_documents)
app.command("collections")(documents.list_collections)
app.command("ask")(ask.ask)
app.command("chat")(chat.chat)
app.command("serve")(serve.serve)
app.command("calibrate")(calibrate.calibrate)
app.command("tune-engine")(tune_engine)
app.add_typer(eval_app, name="eval")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(tune_app, name="tune")


def main() -> None:
    """Run the command line; leaves the process with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command: 0 done, 1 failed, 2 wrong usage, 3 a limit missed, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold bytes that are not text; showing it must not fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(arguments or ["--help"], prog_name="mynah", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _leave_broken_pipe()
    except SystemExit as exit_:
        # Typer leaves in this way when the reader of our output has gone.
        _leave_broken_pipe()
        return exit_.code if isinstance(exit_.code, int) else 1
    except TyperException as error:
        write_error(error.format_message())
        return error.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("MYNAH_DEBUG"):
            raise
        if isinstance(error, AppError):
            write_error(error.message)
        else:
            write_error(
                f"internal error: {type(error).__name__}: {printable(str(error))}"
                " (MYNAH_DEBUG=1 shows where)"
            )
        return 1


def _leave_broken_pipe() -> int:
    """Point standard output at nothing, so that Python's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
