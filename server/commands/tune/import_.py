"""`mynah tune import`: conversations of other formats as training rows, and back."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.commands.tune.rows import (
    check_outputs,
    make_progress,
    open_drops,
    show_report,
    split_words,
)


class FormatChoice(StrEnum):
    """The formats that are read."""

    auto = "auto"
    sharegpt = "sharegpt"
    alpaca = "alpaca"
    openai = "openai"
    mynah = "mynah"


class ExportChoice(StrEnum):
    """The formats that are written."""

    mynah = "mynah"
    openai = "openai"


class MarkupChoice(StrEnum):
    """How ShareGPT answers are kept."""

    auto = "auto"
    html = "html"
    markdown = "markdown"


class OversizedChoice(StrEnum):
    """What becomes of a question and answer that alone are too long."""

    truncate = "truncate"
    drop = "drop"


def import_conversations(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="JSON or JSON Lines files, also packed as .gz or .xz.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="JSON Lines file to write.", metavar="FILE", show_default=False),
    ],
    *,
    format_: Annotated[
        FormatChoice, typer.Option("--format", help="Format of the files; auto looks at each.")
    ] = FormatChoice.auto,
    export: Annotated[
        ExportChoice,
        typer.Option(help="Format to write; openai: `messages` for other tools."),
    ] = ExportChoice.mynah,
    markup: Annotated[
        MarkupChoice, typer.Option(help="How ShareGPT answers are kept.")
    ] = MarkupChoice.auto,
    source: Annotated[
        str | None, typer.Option(help="Where the rows come from; else the row's, or the file.")
    ] = None,
    row_license: Annotated[
        str | None,
        typer.Option("--license", help="Licence of the rows; else the row's, or unknown."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help='Model that wrote the answers, "people" for none; else the row\'s, or unknown.'
        ),
    ] = None,
    brand_words: Annotated[
        str,
        typer.Option(
            help="Drop conversations with one of these words, as openai,chatgpt.", metavar="WORDS"
        ),
    ] = "",
    min_chars: Annotated[
        int | None,
        typer.Option(
            help="Characters a conversation has at least; 16 for ShareGPT, else 0.", min=0
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Split conversations into pieces of so many tokens.", min=16),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="GGUF, tokenizer.json or its folder that counts tokens; else an estimate.",
            exists=True,
            metavar="PATH",
        ),
    ] = None,
    oversized: Annotated[
        OversizedChoice,
        typer.Option(help="A question and answer that alone have more than --max-tokens."),
    ] = OversizedChoice.truncate,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first malformed row.")
    ] = False,
    dropped: Annotated[
        Path | None,
        typer.Option(help="File for the dropped rows with their reasons.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn ShareGPT, Alpaca or OpenAI files into training rows; what is dropped is counted."""
    from models.imitation.importing.counting import open_counter
    from models.imitation.importing.files import write_lines
    from models.imitation.importing.importer import ImportOptions, import_files
    from models.imitation.importing.openai_messages import to_row
    from models.imitation.importing.report import Report

    check_outputs(out, dropped)
    if tokenizer is not None and max_tokens is None:
        raise typer.BadParameter("--tokenizer counts for --max-tokens, which is not given")
    report = Report()
    with ExitStack() as stack:
        options = ImportOptions(
            format=format_.value,
            markup=markup.value,
            source=source,
            license=row_license,
            teacher=teacher,
            brand_words=split_words(brand_words),
            min_chars=min_chars,
            max_tokens=max_tokens,
            count_tokens=stack.enter_context(open_counter(tokenizer)),
            oversized=oversized.value,
            is_strict=strict,
        )
        write_line = stack.enter_context(write_lines(out))
        on_drop = stack.enter_context(open_drops(dropped))
        found = import_files(files, options, report, on_drop, make_progress(sys.stderr))
        for conversation in found:
            if export is ExportChoice.openai:
                report.changed["passages left out"] += len(conversation.passages)
                write_line(to_row(conversation))
            else:
                write_line(conversation.to_json())
    show_report(report, out, as_json=as_json)
