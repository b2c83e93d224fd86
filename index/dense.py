"""Vectors to passages: the cosine similarities that are ranked, exact in every layout."""

from __future__ import annotations

from index.documents import read_embeddings
from index.layouts import WIDENING
from index.selection import Selection
from index.store import Store
from index.vectors import VectorIndex
from models.protocols import Vectors

# Beyond this depth fewer spare candidates do.
_NUM_SPARE = 60


def search_vectors(
    store: Store, index: VectorIndex, vector: Vectors, depth: int, selection: Selection | None
) -> list[tuple[int, float]]:
    """Passage ids with their cosine similarity to the unit `vector`, best first, ties by id.

    `selection` holds the ids that may be found, None all. An index of codes proposes more than
    `depth` candidates, which are then compared by the vectors that SQLite keeps.
    """
    if index.is_exact:
        return index.search(vector, depth, selection)
    num_candidates = min(depth * WIDENING, depth + _NUM_SPARE)
    found = [id_ for id_, _ in index.search(vector, num_candidates, selection)]
    with store.reading() as connection:
        ids, vectors = read_embeddings(connection, found)
    if not ids:
        return []
    scores = (vectors @ vector).tolist()
    return sorted(zip(ids, scores, strict=True), key=lambda hit: (-hit[1], hit[0]))[:depth]
