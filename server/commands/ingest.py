"""`mynah ingest`: files and folders into a collection."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import printable, write, write_error, write_json

if TYPE_CHECKING:
    from index.collection import Library
    from ingest.pipeline import IngestSummary
    from models.protocols import Embedder
    from server.config import Settings

DEFAULT_COLLECTION = "default"


def ingest(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders.", metavar="PATH...", show_default=False),
    ] = None,
    *,
    collection: Annotated[
        str, typer.Option(help="Collection to add to.", metavar="NAME")
    ] = DEFAULT_COLLECTION,
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="Give the documents an attribute to filter by.", metavar="KEY=VALUE"),
    ] = None,
    reembed: Annotated[
        bool, typer.Option("--reembed", help="First embed the collection anew.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add files and folders to a collection."""
    if not paths and not reembed:
        raise typer.BadParameter("give at least one file or folder", param_hint="PATH")
    attributes = _read_attributes(attribute)
    from server.assembly import make_embedder, open_library

    options: CommandContext = context.obj
    settings = options.load_settings()
    embedder = make_embedder(settings)
    with open_library(settings, embedder) as library:
        if reembed:
            _reembed(collection, library, embedder, as_json=as_json and not paths)
        if not paths:
            return
        summary = _ingest(paths, collection, library, embedder, settings, attributes=attributes)
    if as_json:
        write_json(_to_json(collection, summary))
    else:
        _write_summary(collection, summary)
    if summary.failed or not _num_documents(summary):
        raise typer.Exit(1)


def _read_attributes(given: list[str] | None) -> dict[str, str | float | bool] | None:
    """`KEY=VALUE` pairs; a value that JSON reads as a number or boolean is one."""
    if not given:
        return None
    attributes: dict[str, str | float | bool] = {}
    for pair in given:
        key, mark, text = pair.partition("=")
        if not key or not mark:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--attribute")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        attributes[key] = value if isinstance(value, int | float | bool) else text
    return attributes


def _ingest(
    paths: list[Path],
    collection: str,
    library: Library,
    embedder: Embedder,
    settings: Settings,
    *,
    attributes: dict[str, str | float | bool] | None,
) -> IngestSummary:
    from ingest.pipeline import IngestSettings
    from ingest.pipeline import ingest as run_ingest
    from server.commands.progress import show_ingest

    with show_ingest(sys.stderr) as show:
        try:
            return run_ingest(
                paths,
                collection,
                library,
                embedder,
                progress=show,
                settings=IngestSettings(
                    max_file_bytes=settings.max_file_bytes, attributes=attributes
                ),
            )
        except KeyboardInterrupt:
            write_error("stopped; what was committed is in, the same command takes in the rest")
            raise


def _reembed(collection: str, library: Library, embedder: Embedder, *, as_json: bool) -> None:
    from ingest.reembed import reembed
    from server.commands.progress import show_reembed

    with show_reembed(sys.stderr) as show:
        num_passages = reembed(collection, library, embedder, progress=show)
    model = embedder.identity.model
    if as_json:
        write_json({"collection": collection, "model": model, "num_passages": num_passages})
    else:
        write(f"Embedded the {num_passages} passages of {collection} with {model}.")


def _write_summary(collection: str, summary: IngestSummary) -> None:
    for path, note in summary.notes:
        write(printable(f"Note: {path}: {note}"))
    num_new, num_old = len(summary.added) + len(summary.updated), len(summary.unchanged)
    if num_new:
        write(
            f"Added {len(summary.added)}, updated {len(summary.updated)}, unchanged {num_old}"
            f" documents of {collection}: {summary.num_passages} passages"
            f" in {summary.elapsed_s:.1f} s."
        )
    elif num_old:
        write(f"Nothing to do: all {num_old} documents are in {collection} already, unchanged.")
    elif not summary.failed:
        write_error("found no file of a known kind there")
    if summary.failed:
        num_files = num_new + num_old + len(summary.failed)
        write_error(f"{len(summary.failed)} of {num_files} files are not in:")
        for failed in summary.failed:
            reason = failed.error.message
            line = reason if failed.path in reason else f"{failed.path}: {reason}"
            sys.stderr.write(f"  {printable(line)}\n")


def _num_documents(summary: IngestSummary) -> int:
    return len(summary.added) + len(summary.updated) + len(summary.unchanged)


def _to_json(collection: str, summary: IngestSummary) -> dict[str, object]:
    return {
        "collection": collection,
        "added": summary.added,
        "updated": summary.updated,
        "unchanged": summary.unchanged,
        "failed": [
            {"path": f.path, "code": f.error.code, "message": f.error.message}
            for f in summary.failed
        ],
        "notes": [{"path": path, "note": note} for path, note in summary.notes],
        "num_passages": summary.num_passages,
        "elapsed_s": round(summary.elapsed_s, 3),
    }
