"""`mynah ask`: one question, one answer with its citations."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import (
    answer_json,
    printable,
    readable,
    write,
    write_citations,
    write_json,
)


class ModeChoice(StrEnum):
    """The grounding modes, as `--mode` takes them."""

    quote = "quote"
    answer = "answer"
    off = "off"


CollectionOption = Annotated[
    str | None, typer.Option(help="Search this collection only.", metavar="NAME")
]
ModeOption = Annotated[
    ModeChoice | None, typer.Option(help="How to answer; the setting says by default.")
]
ModelOption = Annotated[
    Path | None,
    typer.Option(help="GGUF file to load, or the name of a registered model.", metavar="MODEL"),
]


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="What to ask.", show_default=False)],
    *,
    collection: CollectionOption = None,
    mode: ModeOption = None,
    model: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask one question and show where the answer stands."""
    if not question.strip():
        raise typer.BadParameter("the question is empty")
    import asyncio

    from models.protocols import Message, SamplingSettings
    from server.commands.answering import answer, open_services, to_scope

    options: CommandContext = context.obj
    scope = to_scope(mode.value if mode else None, collection, None)
    with open_services(options, model, scope) as services:
        end = asyncio.run(
            answer(
                services,
                [Message("user", readable(question))],
                scope,
                SamplingSettings(),
                (lambda _: None) if as_json else show_piece,
            )
        )
    if as_json:
        write_json(answer_json(end))
        return
    write()
    if end.report.citations:
        write()
        write_citations(end.report.citations)


def show_piece(text: str) -> None:
    """Write a piece of an answer as soon as it is there."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()
