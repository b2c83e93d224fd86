"""`mynah eval make`: a question set drafted from one's own documents, for review."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import write, write_error

if TYPE_CHECKING:
    from server.config import Settings
    from server.evaluation.authoring.drafts import Source


def make(
    context: typer.Context,
    *,
    collection: Annotated[
        str | None,
        typer.Option(
            help="Collection to draft from; by default the only one there is.", metavar="NAME"
        ),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="Folder of documents, not ingested.", metavar="DIR")
    ] = None,
    num: Annotated[int, typer.Option(help="Questions to draft.", min=1)] = 50,
    out: Annotated[
        Path, typer.Option(help="JSONL file to write; one that exists is kept.", metavar="FILE")
    ] = Path("questions.jsonl"),
    seed: Annotated[int, typer.Option(help="Of the choice among the drafts.")] = 0,
) -> None:
    """Draft questions from your documents, by rules for English; review each before you use it."""
    if docs is not None and collection is not None:
        raise typer.BadParameter("give --docs or --collection, not both", param_hint="--docs")
    if out.exists():
        raise typer.BadParameter(
            f"{out} exists, and may hold what somebody reviewed; name another file",
            param_hint="--out",
        )
    from server.commands.progress import show_count
    from server.evaluation.authoring.author import write_questions

    options: CommandContext = context.obj
    sources = _read_sources(options.load_settings(), docs, collection)
    with show_count(sys.stderr, "documents") as display:
        drafts = write_questions(
            sources, num, seed=seed, progress=lambda done, total: display(done, total, "drafting")
        )
    if not drafts:
        write_error(
            "no sentence, list or table of these documents suits the rules; nothing drafted"
        )
        raise typer.Exit(1)
    rows = [draft.to_json(f"q{number:03}") for number, draft in enumerate(drafts, 1)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("".join(lines), encoding="utf-8")
    num_answerable = sum(bool(row["answerable"]) for row in rows)
    write(
        f"Wrote {len(rows)} drafts to {out}: {num_answerable} answerable,"
        f" {len(rows) - num_answerable} that the documents most likely do not answer."
    )
    write(
        "Review them: drop what nobody would ask, correct the question, add variants to answers,"
        ' and set "reviewed" to true.'
    )


def _read_sources(settings: Settings, docs: Path | None, collection: str | None) -> list[Source]:
    """The documents of a collection, or of a folder as `ingest` would read them."""
    from server.evaluation.authoring.sources import read_collection, read_folder
    from server.evaluation.questions import QuestionSet
    from server.evaluation.session import find_source

    if docs is not None:
        sources, failures = read_folder(docs, settings.max_file_bytes)
        for failure in failures:
            write_error(failure)
        return sources
    from server.assembly import open_library

    name = find_source(settings, QuestionSet("", ()), None, collection).collection
    with open_library(settings) as library:
        return read_collection(library, str(name))
