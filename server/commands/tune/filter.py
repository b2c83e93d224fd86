"""`mynah tune filter`: takes out of training rows what must not be trained on."""

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


class PiiChoice(StrEnum):
    """What becomes of personal data."""

    off = "off"
    mask = "mask"
    drop = "drop"


def filter_conversations(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files of `mynah tune collect` or `import`.",
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
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--eval",
            help="File of evaluation questions; rows that hold any are dropped. Repeatable.",
            exists=True,
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None,
    rouge: Annotated[
        float | None,
        typer.Option(
            help="Drop a first question with a higher ROUGE-L to a kept one; 0.7 is usual.",
            min=0,
            max=1,
        ),
    ] = None,
    min_question_words: Annotated[
        int | None, typer.Option(help="Words of the first question at least.", min=0)
    ] = None,
    max_question_words: Annotated[
        int | None, typer.Option(help="Words of the first question at most.", min=1)
    ] = None,
    min_answer_words: Annotated[
        int, typer.Option(help="Words of every answer at least.", min=0)
    ] = 1,
    max_answer_words: Annotated[
        int | None, typer.Option(help="Words of every answer at most.", min=1)
    ] = None,
    keyword: Annotated[
        list[str] | None,
        typer.Option(help="Drop rows in which the user says this. Repeatable.", metavar="WORD"),
    ] = None,
    text_only: Annotated[
        bool,
        typer.Option("--text-only", help="Drop requests for images, files, maps and the like."),
    ] = False,
    brand_words: Annotated[
        str,
        typer.Option(
            help="Drop conversations with one of these words, as openai,chatgpt.", metavar="WORDS"
        ),
    ] = "",
    language: Annotated[
        str,
        typer.Option(help="Languages to keep, as en,de; else all.", metavar="CODES"),
    ] = "",
    language_threshold: Annotated[
        float,
        typer.Option(help="Certainty that a row is of another language, to drop it.", min=0, max=1),
    ] = 0.5,
    pii: Annotated[
        PiiChoice,
        typer.Option(help="E-mail, telephone, IBAN, card and IP numbers, keys and passwords."),
    ] = PiiChoice.mask,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep exact and near duplicates.")
    ] = False,
    near_duplicates: Annotated[
        float,
        typer.Option(
            help="Drop rows that share so much of their wording with a kept one.", min=0.5, max=0.99
        ),
    ] = 0.8,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first malformed row.")
    ] = False,
    dropped: Annotated[
        Path | None,
        typer.Option(help="File for the dropped rows with their reasons.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Drop duplicates, evaluation questions and the like from training rows; mask personal data."""
    from models.imitation.filtering.pipeline import FilterOptions, filter_files, make_rules
    from models.imitation.filtering.rules import UNDOABLE, Lengths
    from models.imitation.importing.files import write_lines
    from models.imitation.importing.report import Report

    check_outputs(out, dropped)
    options = FilterOptions(
        evaluation_paths=tuple(evaluation or ()),
        pii=pii.value,
        lengths=Lengths(min_question_words, max_question_words, min_answer_words, max_answer_words),
        keywords=(*(keyword or ()), *(UNDOABLE if text_only else ())),
        brand_words=split_words(brand_words),
        languages=split_words(language),
        language_threshold=language_threshold,
        drops_duplicates=not keep_duplicates,
        near_threshold=None if keep_duplicates else near_duplicates,
        rouge_limit=rouge,
    )
    report = Report()
    rules = make_rules(options)
    with ExitStack() as stack:
        write_line = stack.enter_context(write_lines(out))
        on_drop = stack.enter_context(open_drops(dropped))
        found = filter_files(
            files,
            rules,
            report,
            is_strict=strict,
            on_drop=on_drop,
            on_row=make_progress(sys.stderr),
        )
        for conversation in found:
            write_line(conversation.to_json())
    show_report(report, out, as_json=as_json)
