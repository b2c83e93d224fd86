"""Keeping a collection's vectors level with its rows, and its embedder the one that made them."""

from __future__ import annotations

import secrets
from sqlite3 import Connection

from index.errors import EmbedderMismatch
from index.store import CollectionRow, read_collection
from index.vectors import VectorIndex
from models.protocols import EmbedderIdentity

_BATCH_SIZE = 4096
# With more logged deletions than this, an index that is behind is rebuilt instead of replayed.
MAX_LOGGED_DELETIONS = 100_000


def check_embedder(row: CollectionRow, identity: EmbedderIdentity) -> None:
    """Raise `EmbedderMismatch` if the collection was embedded by another embedder."""
    if row.embedder != identity:
        raise EmbedderMismatch(
            f"The collection {row.name!r} was embedded by {_describe(row.embedder)}, but the"
            f" embedder in use is {_describe(identity)}; embed it again with:"
            f" mynah ingest --reembed --collection {row.name}",
            param="collection",
        )


def change_embedder(
    connection: Connection, row: CollectionRow, identity: EmbedderIdentity, generation: int
) -> None:
    """Record that all vectors of the collection are now of `identity`: a new lineage begins."""
    connection.execute(
        "UPDATE collections SET embedder_model = ?, embedder_dimension = ?, embedder_window = ?,"
        " vectors_key = ?, file_key = '', log_start = ? WHERE id = ?",
        (
            identity.model,
            identity.dimension,
            identity.window_tokens,
            secrets.token_hex(8),
            generation,
            row.id,
        ),
    )
    connection.execute("DELETE FROM deletions WHERE collection_id = ?", (row.id,))


def replay(connection: Connection, name: str, index: VectorIndex) -> VectorIndex:
    """The index, level with the rows that `connection` sees.

    A new one where `index` is of another lineage, of a generation that never was, or too far
    behind.
    """
    row = read_collection(connection, name)
    stamp = index.stamp
    is_known = row.log_start <= stamp.generation <= row.generation
    if stamp.key != row.vectors_key or not is_known:
        index = VectorIndex(row.vectors_key, row.embedder.dimension)
    _apply_changes(connection, row, index)
    return index


def trim_log(connection: Connection, row: CollectionRow, generation: int) -> None:
    """Forget the deletions up to `generation` once they are many."""
    (num_logged,) = connection.execute(
        "SELECT count(*) FROM deletions WHERE collection_id = ?", (row.id,)
    ).fetchone()
    if num_logged > MAX_LOGGED_DELETIONS:
        connection.execute(
            "DELETE FROM deletions WHERE collection_id = ? AND generation <= ?",
            (row.id, generation),
        )
        connection.execute(
            "UPDATE collections SET log_start = ? WHERE id = ?", (generation, row.id)
        )


def _apply_changes(connection: Connection, row: CollectionRow, index: VectorIndex) -> None:
    import numpy as np

    start = index.stamp.generation
    removed = [
        passage_id
        for (passage_id,) in connection.execute(
            "SELECT passage_id FROM deletions WHERE collection_id = ? AND generation > ?",
            (row.id, start),
        )
    ]
    empty = np.empty((0, row.embedder.dimension), dtype=np.float32)
    index.apply(removed, [], empty, start)
    cursor = connection.execute(
        "SELECT id, embedding FROM passages WHERE collection_id = ? AND generation > ?",
        (row.id, start),
    )
    while batch := cursor.fetchmany(_BATCH_SIZE):
        vectors = np.frombuffer(b"".join(blob for _, blob in batch), dtype=np.float32)
        added = [passage_id for passage_id, _ in batch]
        index.apply([], added, vectors.reshape(len(batch), -1), start)
    index.apply([], [], empty, row.generation)


def _describe(identity: EmbedderIdentity) -> str:
    return (
        f"{identity.model} ({identity.dimension} dimensions, {identity.window_tokens}-token window)"
    )
