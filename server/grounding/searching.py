"""The searches of one question, run and merged into one list of hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from index.filters import Filter
from index.types import Hit, RankingOptions, Retriever
from server.grounding.rewrite import SearchPart

# What a hit of one part of a question is worth beside a hit of the whole question.
_PART_WEIGHT = 0.9


def search_all(
    retriever: Retriever,
    searches: Sequence[SearchPart],
    *,
    collections: Sequence[str] | None,
    max_hits: int,
    ranking: RankingOptions | None = None,
    filters: Filter | None = None,
) -> list[Hit]:
    """The best hits of all searches, at most `max_hits`. Raises what `Retriever.search` raises."""
    found = [
        retriever.search(
            part.text,
            context=part.context,
            collections=collections,
            max_hits=max_hits,
            ranking=ranking,
            filters=filters,
        )
        for part in searches
    ]
    return merge(found, max_hits)


def merge(found: Sequence[Sequence[Hit]], max_hits: int) -> list[Hit]:
    """Each passage once, by its best score; the first list is the whole question's.

    The scores of the other lists, those of its parts, count a little less. `dense_score` is the
    highest of the passage's.
    """
    best: dict[int, Hit] = {}
    for number, hits in enumerate(found):
        weight = _PART_WEIGHT if number else 1.0
        for hit in hits:
            own = replace(hit, score=weight * hit.score)
            known = best.get(hit.passage.id)
            if known is None:
                best[hit.passage.id] = own
                continue
            cosines = [s for s in (known.dense_score, own.dense_score) if s is not None]
            winner = own if own.score > known.score else known
            best[hit.passage.id] = replace(winner, dense_score=max(cosines, default=None))
    ordered = sorted(best.values(), key=lambda hit: (-hit.score, hit.passage.id))[:max_hits]
    return [replace(hit, rank=rank) for rank, hit in enumerate(ordered, start=1)]
