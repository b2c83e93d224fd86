"""Hits of several documents before too many of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.types import Hit


@dataclass(frozen=True, slots=True)
class SpreadRules:
    """How soon other documents come first.

    A document's first `num_free` hits keep their score, of each further one `discount` is left,
    and of the next one the square of that.
    """

    num_free: int = 3
    discount: float = 0.95


def spread(hits: Sequence[Hit], rules: SpreadRules) -> list[Hit]:
    """The same hits in the order of their discounted scores, which they carry, with new ranks.

    What maximal marginal relevance (Carbonell and Goldstein, 1998) does with similarities, done
    with documents: the best hit stays first, and within a document no hit overtakes another.
    `hits` are best first.
    """
    seen: Counter[str] = Counter()
    discounted: list[Hit] = []
    for hit in hits:
        num_further = max(0, seen[hit.document.id] + 1 - rules.num_free)
        seen[hit.document.id] += 1
        score = hit.score * rules.discount**num_further
        discounted.append(replace(hit, score=score) if num_further else hit)
    discounted.sort(key=lambda hit: -hit.score)
    return renumber(discounted)


def renumber(hits: Sequence[Hit]) -> list[Hit]:
    """The hits with their places in the list as ranks."""
    ranked = enumerate(hits, start=1)
    return [hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in ranked]
