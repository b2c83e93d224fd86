"""Keeping a collection's vectors level with its rows, and its embedder the one that made them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from sqlite3 import Connection

from index.documents import read_embeddings
from index.errors import EmbedderMismatch
from index.layouts import MAX_FLAT, POINTS_PER_LIST, Batch, Layout, Sample, choose_num_lists
from index.store import CollectionRow, read_collection
from index.vectors import VectorIndex, VectorStamp
from models.protocols import EmbedderIdentity

log = logging.getLogger("mynah.index")

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


def replay(
    connection: Connection, name: str, index: VectorIndex, max_flat: int = MAX_FLAT
) -> VectorIndex:
    """The index, level with the rows that `connection` sees.

    A new one where `index` is of another lineage, of a generation that never was, or too far
    behind.
    """
    row = read_collection(connection, name)
    stamp = index.stamp
    is_known = row.log_start <= stamp.generation <= row.generation
    if stamp.key != row.vectors_key or not is_known or not index.num_vectors:
        return build_vectors(connection, row, max_flat)
    _apply_changes(connection, row, index)
    return index


def build_vectors(
    connection: Connection, row: CollectionRow, max_flat: int = MAX_FLAT
) -> VectorIndex:
    """A new index over the collection's rows, in the layout that their number asks for.

    Takes about a minute for each million vectors and core; nothing but the index is held of them.
    """
    (num_vectors,) = connection.execute(
        "SELECT count(*) FROM passages WHERE collection_id = ?", (row.id,)
    ).fetchone()
    stamp = VectorStamp(row.vectors_key, row.generation, row.embedder.dimension)
    sample = None
    if Layout().is_outgrown(num_vectors, max_flat):
        sample = _draw_sample(connection, row, num_vectors)
    index = VectorIndex.build(stamp, sample, _read_batches(connection, row, -1))
    if sample is not None:
        layout = index.layout
        log.info(
            "vectors of %s: %d in %d lists, %d probed, recall@10 %.3f of exact search",
            row.name,
            num_vectors,
            layout.num_lists,
            layout.num_probes,
            layout.recall,
        )
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
    for added, vectors in _read_batches(connection, row, start):
        index.apply([], added, vectors, start)
    index.apply([], [], empty, row.generation)


def _read_batches(connection: Connection, row: CollectionRow, start: int) -> Iterator[Batch]:
    """Ids and vectors of the passages added behind the generation `start`."""
    import numpy as np

    cursor = connection.execute(
        "SELECT id, embedding FROM passages WHERE collection_id = ? AND generation > ?",
        (row.id, start),
    )
    while batch := cursor.fetchmany(_BATCH_SIZE):
        vectors = np.frombuffer(b"".join(blob for _, blob in batch), dtype=np.float32)
        yield [passage_id for passage_id, _ in batch], vectors.reshape(len(batch), -1)


def _draw_sample(connection: Connection, row: CollectionRow, num_vectors: int) -> Sample:
    """Vectors to learn lists from, evenly spaced over the collection."""
    import numpy as np

    num_drawn = min(num_vectors, POINTS_PER_LIST * choose_num_lists(num_vectors))
    cursor = connection.execute(
        "SELECT id FROM passages WHERE collection_id = ? ORDER BY id", (row.id,)
    )
    ids = np.fromiter((id_ for (id_,) in cursor), dtype=np.int64, count=num_vectors)
    chosen = ids[np.linspace(0, num_vectors - 1, num_drawn, dtype=np.int64)].tolist()
    training = np.empty((num_drawn, row.embedder.dimension), dtype=np.float32)
    for first in range(0, num_drawn, _BATCH_SIZE):
        _, vectors = read_embeddings(connection, chosen[first : first + _BATCH_SIZE])
        training[first : first + len(vectors)] = vectors
    return Sample(training, num_vectors)


def _describe(identity: EmbedderIdentity) -> str:
    return (
        f"{identity.model} ({identity.dimension} dimensions, {identity.window_tokens}-token window)"
    )
