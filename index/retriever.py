"""Query to hits: vectors and words searched side by side, the two lists fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from index import documents as rows
from index.collection import Library
from index.dense import search_vectors
from index.filters import Filter
from index.fts import search_words
from index.replay import check_embedder
from index.selections import Selections
from index.store import read_collection, read_collections
from index.types import Hit
from models.protocols import Embedder

Ranked = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class RankingWeights:
    """How the two ranked lists, vectors and words, become one.

    `fusion` "scores" adds the weighted scores, each list's own stretched to 0..1 (0 is the score
    at rank `depth`); "ranks" is reciprocal rank fusion with the constant `rrf_k` (Cormack, Clarke
    and Buettcher, 2009). Over real handbooks "scores" put the right passage first more often.
    """

    dense: float = 0.5
    text: float = 0.5
    depth: int = 100
    fusion: Literal["scores", "ranks"] = "scores"
    rrf_k: float = 20.0


class HybridRetriever:
    """A `Retriever` over FAISS and FTS5.

    A hit's score is 1.0 if it leads both lists. It orders the hits of one query and says nothing
    of how near the best one is; `dense_score` does.
    """

    def __init__(
        self, library: Library, embedder: Embedder, weights: RankingWeights | None = None
    ) -> None:
        self._library = library
        self._embedder = embedder
        self._weights = weights or RankingWeights()

    def search(
        self,
        query: str,
        *,
        collections: Sequence[str] | None = None,
        max_hits: int = 6,
        filters: Filter | None = None,
    ) -> list[Hit]:
        """Best hits first, at most `max_hits`; None searches every collection.

        With `filters`, passages of other documents are left out before anything is ranked.
        Passages deleted by any process before the call are never among them. Raises
        `CollectionNotFound`, `EmbedderMismatch` or a storage error.
        """
        names = self._searched(collections)
        if not query.strip() or not names or max_hits < 1:
            return []
        weights = self._weights
        depth = max(weights.depth, max_hits)
        chosen = self._library.select(names, filters)
        dense = self._search_vectors(query, chosen, depth) if weights.dense else []
        with self._library.store.reading() as connection:
            text = search_words(connection, query, chosen.united, depth) if weights.text else []
            lists = [(weights.dense, dense), (weights.text, text)]
            if weights.fusion == "ranks":
                scores = fuse_ranks(lists, weights.rrf_k)
            else:
                scores = fuse_scores(lists, depth)
            ranked = sorted(scores, key=lambda id_: (-scores[id_], id_))
            # Twice what is wanted: some may have been deleted since the vectors were searched.
            passages = rows.read_passages(connection, ranked[: 2 * max_hits])
            best = [passages[id_] for id_ in ranked if id_ in passages][:max_hits]
            documents = rows.read_documents_by_id(connection, [p.document_id for p in best])
        dense_scores = dict(dense)
        bm25_ranks = {id_: rank for rank, (id_, _) in enumerate(text, start=1)}
        return [
            Hit(
                passage=passage,
                document=documents[passage.document_id],
                score=scores[passage.id],
                rank=rank,
                dense_score=dense_scores.get(passage.id),
                bm25_rank=bm25_ranks.get(passage.id),
            )
            for rank, passage in enumerate(best, start=1)
        ]

    def _searched(self, collections: Sequence[str] | None) -> list[str]:
        """Names to search, each once, all of them embedded by this embedder."""
        with self._library.store.reading() as connection:
            if collections is None:
                found = read_collections(connection)
            else:
                found = [read_collection(connection, name) for name in dict.fromkeys(collections)]
        for row in found:
            check_embedder(row, self._embedder.identity)
        return [row.name for row in found]

    def _search_vectors(self, query: str, chosen: Selections, depth: int) -> Ranked:
        vector = self._embedder.encode([query])[0]
        library = self._library
        found = [
            search_vectors(library.store, library.vectors(name), vector, depth, selection)
            for name, selection in chosen.by_collection.items()
        ]
        return _merge(found, depth)


def fuse_scores(lists: Sequence[tuple[float, Ranked]], depth: int) -> dict[int, float]:
    """Weighted mean of the lists' scores, each stretched to 0..1: id to score in 0..1.

    sum(w * (s - low) / (high - low)) / sum(w), where high is a list's best score and low its
    score at rank `depth`. In a shorter list low is at most 0, the score of what it lacks.
    """
    total = sum(weight for weight, _ in lists) or 1.0
    fused: dict[int, float] = {}
    for weight, ranked in lists:
        if not ranked:
            continue
        high, low = ranked[0][1], ranked[-1][1]
        if len(ranked) < depth:
            low = min(low, 0.0)
        for id_, score in ranked:
            share = (score - low) / (high - low) if high > low else 1.0
            fused[id_] = fused.get(id_, 0.0) + weight / total * share
    return fused


def fuse_ranks(lists: Sequence[tuple[float, Ranked]], rrf_k: float) -> dict[int, float]:
    """Reciprocal rank fusion of the lists: id to score in 0..1.

    sum(w / (k + rank)), divided by what a leader of every list would get.
    """
    best_possible = (sum(weight for weight, _ in lists) or 1.0) / (rrf_k + 1)
    fused: dict[int, float] = {}
    for weight, ranked in lists:
        for rank, (id_, _) in enumerate(ranked, start=1):
            fused[id_] = fused.get(id_, 0.0) + weight / (rrf_k + rank) / best_possible
    return fused


def _merge(found: Sequence[Ranked], depth: int) -> Ranked:
    """Several collections' lists as one, best score first."""
    return sorted((hit for ranked in found for hit in ranked), key=lambda h: (-h[1], h[0]))[:depth]
