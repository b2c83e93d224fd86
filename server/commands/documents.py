"""`mynah documents`, `mynah delete` and `mynah collections`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from server.commands.context import CommandContext
from server.commands.output import printable, write, write_json, write_table

if TYPE_CHECKING:
    from index.collection import Library
    from index.types import CollectionInfo, Document

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_documents(
    context: typer.Context,
    collection: Annotated[
        str | None, typer.Option(help="Only this collection.", metavar="NAME")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the documents that were ingested."""
    with _open_library(context) as library:
        documents = library.documents(collection)
    if as_json:
        write_json([_to_json(document) for document in documents])
    elif not documents:
        write("There are no documents; add some with `mynah ingest PATH`.")
    else:
        rows = [(d.id, d.collection, d.num_passages, d.size_bytes, d.path) for d in documents]
        write_table(("ID", "COLLECTION", "PASSAGES", "BYTES", "PATH"), rows)


def delete_documents(
    context: typer.Context,
    documents: Annotated[
        list[str] | None,
        typer.Argument(help="Ids; with --collection also paths.", show_default=False),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="The collection that holds them.", metavar="NAME")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete the whole collection.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete documents or a whole collection."""
    if everything == bool(documents) or (everything and collection is None):
        raise typer.BadParameter("give documents to delete, or --collection NAME --all")
    with _open_library(context) as library:
        if everything and collection is not None:
            deleted = library.documents(collection)
            library.delete_collection(collection)
        else:
            deleted = library.delete(collection, documents or [])
    if as_json:
        write_json([_to_json(document) for document in deleted])
        return
    for document in deleted:
        write(printable(f"Deleted {document.collection}/{document.path}."))
    if everything:
        write(f"Deleted the collection {collection}.")


def list_collections(context: typer.Context, as_json: AsJson = False) -> None:
    """List the collections with their sizes."""
    with _open_library(context) as library:
        collections = library.collections()
    if as_json:
        write_json(
            [
                {
                    "name": c.name,
                    "num_documents": c.num_documents,
                    "num_passages": c.num_passages,
                    "embedder_model": c.embedder_model,
                    "created_s": c.created_s,
                    "layout": c.layout,
                    "recall": c.recall,
                }
                for c in collections
            ]
        )
    elif not collections:
        write("There are no collections; `mynah ingest PATH` makes one.")
    else:
        rows = [
            (c.name, c.num_documents, c.num_passages, c.embedder_model, _describe_vectors(c))
            for c in collections
        ]
        write_table(("COLLECTION", "DOCUMENTS", "PASSAGES", "EMBEDDER", "VECTORS"), rows)


@contextmanager
def _open_library(context: typer.Context) -> Iterator[Library]:
    from server.assembly import open_library

    options: CommandContext = context.obj
    with open_library(options.load_settings()) as library:
        yield library


def _to_json(document: Document) -> dict[str, object]:
    return {
        "id": document.id,
        "collection": document.collection,
        "path": document.path,
        "title": document.title,
        "media_type": document.media_type,
        "size_bytes": document.size_bytes,
        "num_passages": document.num_passages,
        "num_pages": len(document.page_starts) or None,
        "created_s": document.created_s,
        "attributes": dict(document.attributes),
    }


def _describe_vectors(collection: CollectionInfo) -> str:
    if collection.recall is None:
        return collection.layout
    return f"{collection.layout}, recall {collection.recall:.3f}"
