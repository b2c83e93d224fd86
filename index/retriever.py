"""Query to hits: vectors and words searched side by side, and what they find looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sqlite3 import Connection

from index import documents as rows
from index.collection import Library
from index.common import CommonWords
from index.dense import search_vectors
from index.diversity import SpreadRules, spread
from index.duplicates import collapse
from index.filters import Filter
from index.fts import search_words
from index.fusion import Ranked, fuse_scores, merge, stretch
from index.pool import PooledPassage, read_section
from index.ranking import RankingRules, score_pool
from index.reading import ReadingRules, weigh_read
from index.replay import check_embedder
from index.selections import Selections
from index.store import read_collection, read_collections
from index.types import Hit, RankingOptions, Section
from models.caching import remember
from models.protocols import Embedder, Reader, Reranker, Vectors
from models.text.words import find_words

# What a cross-encoder's score counts beside that of the signals.
_RERANKER_WEIGHT = 0.7


class HybridRetriever:
    """A `Retriever` over FAISS and FTS5.

    A hit's score lies in 0..1 and is near 1.0 if it leads in everything. It orders the hits of one
    query and says little of how near the best one is; `dense_score` does.
    """

    def __init__(
        self,
        library: Library,
        embedder: Embedder,
        rules: RankingRules | None = None,
        *,
        options: RankingOptions | None = None,
        spread_rules: SpreadRules | None = None,
        reranker: Reranker | None = None,
        reader: Reader | None = None,
        reading_rules: ReadingRules | None = None,
    ) -> None:
        """`options` are those of a search that brings none; `reranker` scores the pool's best.

        A `reader` reads the best sentences of the first of them, where meaning takes part and the
        query stands alone.
        """
        self._library = library
        self._embedder = remember(embedder)
        self._rules = rules or RankingRules()
        self._options = options or RankingOptions()
        self._spread_rules = spread_rules or SpreadRules()
        self._reranker = reranker
        self._common = CommonWords()
        self._reader = reader
        self._reading_rules = reading_rules or ReadingRules()

    def search(
        self,
        query: str,
        *,
        context: str = "",
        collections: Sequence[str] | None = None,
        max_hits: int = 6,
        ranking: RankingOptions | None = None,
        filters: Filter | None = None,
    ) -> list[Hit]:
        """Best hits first, at most `max_hits`; None searches every collection.

        With `filters`, passages of other documents are left out before anything is ranked.
        Passages deleted by any process before the call are never among them. Hits that repeat a
        better one are collapsed into it, and a document with many hits makes room for others.
        Raises `CollectionNotFound`, `EmbedderMismatch`, `RerankerUnavailable`, what the reader
        raises or a storage error.
        """
        names = self._searched(collections)
        if not query.strip() or not names or max_hits < 1:
            return []
        options = ranking or self._options
        depth = max(self._rules.depth, max_hits)
        chosen = self._library.select(names, filters)
        vector = self._embed(query, context) if options.embedding_weight else None
        dense = self._search_vectors(vector, chosen, depth) if vector is not None else []
        text: Ranked = []
        with self._library.store.reading() as connection:
            if options.text_weight:
                asked = f"{query} {context}"
                text = search_words(connection, asked, chosen.united, depth, self._common)
            fused = fuse_scores(
                [(options.embedding_weight, dense), (options.text_weight, text)], depth
            )
            # Twice what is wanted: some of it may repeat the rest.
            num_read = max(self._rules.pool_size, 2 * max_hits)
            best = sorted(fused, key=lambda id_: (-fused[id_], id_))[:num_read]
            pool = _read_pool(connection, {id_: fused[id_] for id_ in best}, dense, text, depth)
        hits = self._rank(query, context, pool, vector, options)
        hits = [hit for hit in hits if hit.score >= options.score_threshold]
        words = {item.passage.id: item.words for item in pool}
        return spread(collapse(hits, words), self._spread_rules)[:max_hits]

    def read_section(self, hit: Hit) -> Section:
        """The hit's passage and its neighbours under the same headings, as `Retriever` says."""
        with self._library.store.reading() as connection:
            return read_section(connection, hit.passage)

    def _rank(
        self,
        query: str,
        context: str,
        pool: Sequence[PooledPassage],
        vector: Vectors | None,
        options: RankingOptions,
    ) -> list[Hit]:
        """Hits of the whole pool: its first ones looked into, the rest behind them as fused."""
        num_read = 0 if options.ranker == "none" else self._rules.pool_size
        best, rest = pool[:num_read], pool[num_read:]
        scores = score_pool(
            query,
            context,
            best,
            self._embedder.encode,
            vector=vector,
            options=options,
            rules=self._rules,
        )
        if self._reranker is not None and best:
            asked = f"{context} {query}".strip()
            read = self._reranker.score(asked, [item.passage.text for item in best])
            scores = [
                (1 - _RERANKER_WEIGHT) * score + _RERANKER_WEIGHT * own
                for score, own in zip(scores, read, strict=True)
            ]
        # What points back to an earlier question is no question that can be read by itself.
        if self._reader is not None and vector is not None and best and not context:
            scores = weigh_read(
                query,
                best,
                scores,
                encode=self._embedder.encode,
                reader=self._reader,
                rules=self._reading_rules,
            )
        ceiling = min(scores, default=1.0)
        scored = [*zip(best, scores, strict=True)]
        scored += [(item, item.fused * ceiling) for item in rest]
        scored.sort(key=lambda pair: (-pair[1], pair[0].passage.id))
        return [item.to_hit(score, rank) for rank, (item, score) in enumerate(scored, start=1)]

    def _embed(self, query: str, context: str) -> Vectors:
        """The unit vector of a question; with a context, halfway to both of them together."""
        import numpy as np

        if not context:
            alone: Vectors = self._embedder.encode([query])[0]
            return alone
        own, both = self._embedder.encode([query, f"{context} {query}"])
        mixed = own + both
        unit: Vectors = mixed / np.linalg.norm(mixed)
        return unit

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

    def _search_vectors(self, vector: Vectors, chosen: Selections, depth: int) -> Ranked:
        library = self._library
        found = [
            search_vectors(library.store, library.vectors(name), vector, depth, selection)
            for name, selection in chosen.by_collection.items()
        ]
        return merge(found, depth)


def _read_pool(
    connection: Connection, fused: Mapping[int, float], dense: Ranked, text: Ranked, depth: int
) -> list[PooledPassage]:
    """The passages of the fused scores, in their order, as far as they are still there."""
    passages = rows.read_passages(connection, list(fused))
    documents = rows.read_documents_by_id(
        connection, list({passage.document_id for passage in passages.values()})
    )
    cosines = dict(dense)
    ranks = {id_: rank for rank, (id_, _) in enumerate(text, start=1)}
    shares = stretch(dense, depth), stretch(text, depth)
    return [
        PooledPassage(
            passage=passages[id_],
            document=documents[passages[id_].document_id],
            fused=fused[id_],
            dense_score=cosines.get(id_),
            bm25_rank=ranks.get(id_),
            meaning_share=shares[0].get(id_, 0.0),
            words_share=shares[1].get(id_, 0.0),
            words=find_words(passages[id_].text),
        )
        for id_ in fused
        if id_ in passages
    ]
