"""`mynah chat`: a conversation in the terminal."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import typer

from models.errors import AppError
from server.commands.ask import CollectionOption, ModelOption, ModeOption, show_piece
from server.commands.context import CommandContext
from server.commands.output import readable, write, write_citations, write_error

if TYPE_CHECKING:
    import asyncio

    from models.protocols import Message
    from server.components import Services
    from server.grounding.types import AnswerEnd, GroundingScope

_HELP = "/new starts over, /quit leaves; Ctrl-C stops an answer."


def chat(
    context: typer.Context,
    collection: CollectionOption = None,
    mode: ModeOption = None,
    model: ModelOption = None,
) -> None:
    """Talk to your documents in the terminal."""
    import asyncio

    from server.commands.answering import open_services, to_scope

    options: CommandContext = context.obj
    scope = to_scope(mode.value if mode else None, collection, None)
    with open_services(options, model, scope) as services, asyncio.Runner() as runner:
        if sys.stdin.isatty():
            # Gives `input` a history and editing keys, where Python has it.
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401
            write(_HELP)
        _converse(services, scope, runner)


def _converse(services: Services, scope: GroundingScope, runner: asyncio.Runner) -> None:
    from models.protocols import Message

    messages: list[Message] = []
    while (line := _read_line()) is not None:
        if line == "/quit":
            return
        if line == "/new":
            messages.clear()
        elif line.startswith("/"):
            write(_HELP)
        elif line:
            question = Message("user", line)
            end = _take_turn(services, [*messages, question], scope, runner)
            if end is not None:
                messages += [question, Message("assistant", end.text)]


def _read_line() -> str | None:
    """The next line without the spaces around it; None at the end or after Ctrl-C."""
    try:
        return readable(input("> " if sys.stdin.isatty() else "")).strip()
    except (EOFError, KeyboardInterrupt):
        write()
        return None


def _take_turn(
    services: Services, messages: list[Message], scope: GroundingScope, runner: asyncio.Runner
) -> AnswerEnd | None:
    """One answer, shown; None if it failed or was stopped: the question is then forgotten."""
    from models.protocols import SamplingSettings
    from server.commands.answering import answer

    try:
        end = runner.run(answer(services, messages, scope, SamplingSettings(), show_piece))
    except AppError as error:
        write()
        write_error(error.message)
        return None
    except KeyboardInterrupt:
        write(" (stopped)")
        return None
    write()
    write_citations(end.report.citations)
    write()
    return end
