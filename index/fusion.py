"""Two ranked lists, of vectors and of words, to one score for each passage."""

from __future__ import annotations

from collections.abc import Sequence

Ranked = list[tuple[int, float]]


def stretch(ranked: Ranked, depth: int) -> dict[int, float]:
    """Id to the list's own score stretched to 0..1: (s - low) / (high - low).

    high is the list's best score and low its score at rank `depth`. In a shorter list low is at
    most 0, the score of what it lacks.
    """
    if not ranked:
        return {}
    high, low = ranked[0][1], ranked[-1][1]
    if len(ranked) < depth:
        low = min(low, 0.0)
    return {id_: (score - low) / (high - low) if high > low else 1.0 for id_, score in ranked}


def fuse_scores(lists: Sequence[tuple[float, Ranked]], depth: int) -> dict[int, float]:
    """Weighted mean of the lists' stretched scores: id to score in 0..1."""
    total = sum(weight for weight, _ in lists) or 1.0
    fused: dict[int, float] = {}
    for weight, ranked in lists:
        for id_, share in stretch(ranked, depth).items():
            fused[id_] = fused.get(id_, 0.0) + weight / total * share
    return fused


def merge(found: Sequence[Ranked], depth: int) -> Ranked:
    """Several collections' lists as one, best score first."""
    return sorted((hit for ranked in found for hit in ranked), key=lambda h: (-h[1], h[0]))[:depth]
