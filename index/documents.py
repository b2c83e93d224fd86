"""Rows of documents and passages: written, read and deleted inside a caller's transaction."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence

from index.errors import DocumentNotFound
from index.filters import check_attributes, kind_of
from index.fts import add_words, remove_words
from index.store import CollectionRow
from index.types import Document, DocumentDraft, Passage
from models.protocols import Vectors

_DOCUMENT_COLUMNS = (
    "d.id, c.name, d.path, d.media_type, d.content_hash, d.size_bytes, d.num_passages,"
    " d.created_s, d.title, d.page_starts, d.attributes"
)
_FROM_DOCUMENTS = "FROM documents d JOIN collections c ON c.id = d.collection_id"
_PASSAGE_COLUMNS = (
    "p.id, p.document_id, p.ordinal, p.start_offset, p.end_offset, p.headings, p.page,"
    " p.num_tokens, p.text"
)
# Between the headings of one column value: no letter or digit, so FTS5 splits there.
_HEADING_SEPARATOR = "\x1f"


def insert_document(
    connection: sqlite3.Connection,
    collection: CollectionRow,
    draft: DocumentDraft,
    vectors: Vectors,
    generation: int,
) -> str:
    """Id of the new document; `vectors` has one row of float32 for each passage of the draft.

    Raises `FilterInvalid` for an attribute that could not be compared.
    """
    document_id = "doc_" + secrets.token_hex(12)
    connection.execute(
        "INSERT INTO documents(id, collection_id, path, media_type, content_hash, size_bytes,"
        " num_passages, created_s, title, page_starts, attributes)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}')",
        (
            document_id,
            collection.id,
            draft.path,
            draft.media_type,
            draft.content_hash,
            draft.size_bytes,
            len(draft.passages),
            int(time.time()),
            draft.title,
            json.dumps(draft.page_starts),
        ),
    )
    write_attributes(connection, collection.id, document_id, draft.attributes)
    connection.execute("INSERT INTO document_texts VALUES(?, ?)", (document_id, draft.text))
    insert_passages(
        connection, collection, document_id, draft, vectors=vectors, generation=generation
    )
    return document_id


def insert_passages(
    connection: sqlite3.Connection,
    collection: CollectionRow,
    document_id: str,
    draft: DocumentDraft,
    *,
    vectors: Vectors,
    generation: int,
) -> None:
    """Write the draft's passages with their vectors and words under an existing document row."""
    name = " ".join(part for part in (draft.path, draft.title) if part)
    connection.executemany(
        "INSERT INTO passages(document_id, collection_id, generation, ordinal, start_offset,"
        " end_offset, page, num_tokens, headings, name, text, embedding)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                document_id,
                collection.id,
                generation,
                ordinal,
                passage.start,
                passage.end,
                passage.page,
                passage.num_tokens,
                _HEADING_SEPARATOR.join(passage.headings),
                name,
                draft.text[passage.start : passage.end],
                vectors[ordinal].tobytes(),
            )
            for ordinal, passage in enumerate(draft.passages)
        ),
    )
    connection.execute(
        "UPDATE documents SET num_passages = ?, first_passage = coalesce("
        "(SELECT min(id) FROM passages WHERE document_id = documents.id), 0) WHERE id = ?",
        (len(draft.passages), document_id),
    )
    add_words(connection, document_id)


def write_attributes(
    connection: sqlite3.Connection,
    collection_id: int,
    document_id: str,
    attributes: Mapping[str, str | float | bool],
) -> None:
    """Give a document these attributes in the place of those it had. Raises `FilterInvalid`."""
    check_attributes(attributes)
    connection.execute(
        "UPDATE documents SET attributes = ? WHERE id = ?",
        (json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True), document_id),
    )
    connection.execute("DELETE FROM document_attributes WHERE document_id = ?", (document_id,))
    connection.executemany(
        "INSERT INTO document_attributes VALUES(?, ?, ?, ?, ?)",
        (
            (collection_id, key, kind_of(value), value, document_id)
            for key, value in attributes.items()
        ),
    )


def remove_passages(
    connection: sqlite3.Connection, collection: CollectionRow, document_id: str, generation: int
) -> None:
    """Delete a document's passages, words and embeddings, and log their ids for the vectors."""
    remove_words(connection, document_id)
    connection.execute(
        "INSERT INTO deletions SELECT ?, ?, id FROM passages WHERE document_id = ?",
        (collection.id, generation, document_id),
    )
    connection.execute("DELETE FROM passages WHERE document_id = ?", (document_id,))


def remove_document(
    connection: sqlite3.Connection, collection: CollectionRow, document_id: str, generation: int
) -> None:
    """Delete a document with its text, passages, words and embeddings."""
    remove_passages(connection, collection, document_id, generation)
    connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))


def find_document(
    connection: sqlite3.Connection, key: str, collection: str | None = None
) -> Document | None:
    """The document whose id, or whose path in `collection`, is `key`; None if there is none."""
    clause, values = "d.id = ?", [key]
    if collection is not None:
        clause, values = "c.name = ? AND (d.id = ? OR d.path = ?)", [collection, key, key]
    # An id wins over a path that happens to look like one.
    row = connection.execute(
        f"SELECT {_DOCUMENT_COLUMNS} {_FROM_DOCUMENTS} WHERE {clause}"
        " ORDER BY d.id = ? DESC LIMIT 1",
        [*values, key],
    ).fetchone()
    return _document(row) if row else None


def read_document(
    connection: sqlite3.Connection, key: str, collection: str | None = None
) -> Document:
    """As `find_document`, but raises `DocumentNotFound` where there is none."""
    document = find_document(connection, key, collection)
    if document is None:
        place = f" in the collection {collection!r}" if collection is not None else ""
        raise DocumentNotFound(f"There is no document {key!r}{place}.", param="document")
    return document


def read_documents(
    connection: sqlite3.Connection, collection: str | None, after: str, max_documents: int
) -> list[Document]:
    """Documents in the order of collection and path, behind `after` (a path) in one collection."""
    clause, values = "1", []
    if collection is not None:
        clause, values = "c.name = ? AND d.path > ?", [collection, after]
    rows = connection.execute(
        f"SELECT {_DOCUMENT_COLUMNS} {_FROM_DOCUMENTS} WHERE {clause}"
        " ORDER BY c.name, d.path LIMIT ?",
        [*values, max_documents],
    )
    return [_document(row) for row in rows]


def read_documents_by_id(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Document]:
    """The documents of these ids that exist, by id."""
    rows = connection.execute(
        f"SELECT {_DOCUMENT_COLUMNS} {_FROM_DOCUMENTS} WHERE d.id IN ({_marks(ids)})",
        list(ids),
    )
    return {document.id: document for document in map(_document, rows)}


def read_text(connection: sqlite3.Connection, document_id: str) -> str:
    """A document's whole text. Raises `DocumentNotFound`."""
    row = connection.execute(
        "SELECT text FROM document_texts WHERE document_id = ?", (document_id,)
    ).fetchone()
    if row is None:
        raise DocumentNotFound(f"There is no document {document_id!r}.", param="document")
    return str(row[0])


def read_passages(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Passage]:
    """The passages of these ids that exist, by id."""
    rows = connection.execute(
        f"SELECT {_PASSAGE_COLUMNS} FROM passages p WHERE p.id IN ({_marks(ids)})",  # noqa: S608
        list(ids),
    )
    return {passage.id: passage for passage in map(_passage, rows)}


def read_embeddings(
    connection: sqlite3.Connection, ids: Sequence[int]
) -> tuple[list[int], Vectors]:
    """Those of the ids that exist, and their vectors: float32 of shape `(num_ids, dimension)`."""
    import numpy as np

    rows = connection.execute(
        f"SELECT id, embedding FROM passages WHERE id IN ({_marks(ids)})",  # noqa: S608
        list(ids),
    ).fetchall()
    vectors = np.frombuffer(b"".join(blob for _, blob in rows), dtype=np.float32)
    return [id_ for id_, _ in rows], vectors.reshape(len(rows), -1 if rows else 0)


def iterate_passages(connection: sqlite3.Connection, document_id: str) -> Iterator[Passage]:
    """A document's passages in order."""
    rows = connection.execute(
        f"SELECT {_PASSAGE_COLUMNS} FROM passages p WHERE p.document_id = ? ORDER BY p.ordinal",  # noqa: S608
        (document_id,),
    )
    return map(_passage, rows)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _document(row: tuple[object, ...]) -> Document:
    *values, page_starts, attributes = row
    id_, collection, path, media_type, content_hash, size, num_passages, created, title = values
    return Document(
        id=str(id_),
        collection=str(collection),
        path=str(path),
        media_type=str(media_type),
        content_hash=str(content_hash),
        size_bytes=int(str(size)),
        num_passages=int(str(num_passages)),
        created_s=int(str(created)),
        title=None if title is None else str(title),
        page_starts=tuple(json.loads(str(page_starts))),
        attributes=json.loads(str(attributes)),
    )


def _passage(row: tuple[int, str, int, int, int, str, int | None, int, str]) -> Passage:
    id_, document_id, ordinal, start, end, headings, page, num_tokens, text = row
    return Passage(
        id=id_,
        document_id=document_id,
        ordinal=ordinal,
        start=start,
        end=end,
        headings=tuple(headings.split(_HEADING_SEPARATOR)) if headings else (),
        page=page,
        num_tokens=num_tokens,
        text=text,
    )
