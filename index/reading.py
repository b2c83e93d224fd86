"""The best sentences of passages read together with the question, and what that says of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from index.pool import PooledPassage
from models.protocols import Reader, Vectors
from models.reader import to_read
from models.text.ranking import RankedSentence, ScoredPassage, rank_sentences


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """How much of a question's pool is read, and what that counts beside the signals.

    Of the best `num_passages` passages the best `num_sentences` sentences are read, at most
    `max_of_passage` of each; `max_embedded` of their sentences are embedded to find them. Log odds
    beyond `max_odds` say no more. Constants from `python -m bench.retrieval --packs`.
    """

    num_passages: int = 12
    num_sentences: int = 12
    max_of_passage: int = 2
    max_embedded: int = 24
    weight: float = 0.4
    max_odds: float = 6.0


def weigh_read(
    asked: str,
    pool: Sequence[PooledPassage],
    scores: Sequence[float],
    *,
    encode: Callable[[Sequence[str]], Vectors],
    reader: Reader,
    rules: ReadingRules,
) -> list[float]:
    """The `scores` (0..1, one a passage) with what the sentences that were read add; in 0..1.

    A passage of which none was read counts as one that surely does not answer: the signals see
    nothing in it. Raises what `Reader.read` raises.
    """
    chosen = _choose(asked, pool, scores, encode, rules)
    texts = [to_read(item.context, item.sentence.text) for item in chosen]
    found: dict[int, list[float]] = defaultdict(list)
    for item, odds in zip(chosen, reader.read(asked, texts), strict=True):
        found[item.passage].append(odds)
    shares = [_share(found[place], rules.max_odds) for place in range(len(pool))]
    return [
        (1 - rules.weight) * score + rules.weight * share
        for score, share in zip(scores, shares, strict=True)
    ]


def _choose(
    asked: str,
    pool: Sequence[PooledPassage],
    scores: Sequence[float],
    encode: Callable[[Sequence[str]], Vectors],
    rules: ReadingRules,
) -> list[RankedSentence]:
    """The sentences to read; `passage` is a place in the pool."""
    places = sorted(range(len(pool)), key=lambda place: -scores[place])[: rules.num_passages]
    ranked = rank_sentences(
        asked,
        [
            ScoredPassage(pool[place].passage.text, pool[place].passage.heading, scores[place])
            for place in places
        ],
        encode,
        max_embedded=rules.max_embedded,
    )
    taken: Counter[int] = Counter()
    chosen: list[RankedSentence] = []
    for item in ranked:
        if len(chosen) < rules.num_sentences and taken[item.passage] < rules.max_of_passage:
            taken[item.passage] += 1
            chosen.append(replace(item, passage=places[item.passage]))
    return chosen


def _share(odds: Sequence[float], most: float) -> float:
    """The best log odds of a passage's sentences, -`most`..`most` brought to 0..1."""
    best = max(odds, default=-most)
    return (max(-most, min(most, best)) + most) / (2 * most)
