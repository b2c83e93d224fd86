"""Passages that two searches found, put in order by what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from index.pool import PooledPassage
from index.signals import Signals, measure_signals, read_asked
from index.types import RankingOptions
from models.protocols import Vectors


@dataclass(frozen=True, slots=True)
class PassageWeights:
    """What each signal of a passage counts.

    `meaning` and `words` are the two searches' own scores, stretched to 0..1; the others are those
    of `Signals`. Fitted on questions over handbooks, guides and articles that are not in this
    repository (docs/adr/0007-passages-are-looked-into.md).
    """

    meaning: float = 0.23
    sentence: float = 0.22
    words: float = 0.15
    coverage: float = 0.17
    phrases: float = 0.10
    document: float = 0.08
    form: float = 0.05

    def balance(self, options: RankingOptions) -> PassageWeights:
        """These weights with meaning against words as the request has it; they sum to 1."""
        of_meaning = 2 * options.embedding_weight / options.total_weight
        of_words = 2 * options.text_weight / options.total_weight
        shares = {
            "meaning": of_meaning,
            "sentence": of_meaning,
            "words": of_words,
            "coverage": of_words,
            "phrases": of_words,
        }
        own = {
            field.name: getattr(self, field.name) * shares.get(field.name, 1.0)
            for field in fields(self)
        }
        total = sum(own.values())
        return PassageWeights(**{name: weight / total for name, weight in own.items()})


@dataclass(frozen=True, slots=True)
class RankingRules:
    """How far a search looks, and how it ranks what it finds.

    `depth` hits are taken of each search, the best `pool_size` of both together are looked into,
    and `max_sentences` of their sentences embedded. `context_weight` is what a word counts that a
    question carries over from the turn before.
    """

    depth: int = 100
    pool_size: int = 30
    max_sentences: int = 48
    context_weight: float = 0.5
    weights: PassageWeights = PassageWeights()


def score_pool(
    query: str,
    context: str,
    pool: Sequence[PooledPassage],
    encode: Callable[[Sequence[str]], Vectors],
    *,
    vector: Vectors | None,
    options: RankingOptions,
    rules: RankingRules,
) -> list[float]:
    """A score in 0..1 for each passage of the pool: the weighted mean of its signals.

    `vector` is the question's; None where meaning takes no part.
    """
    weights = rules.weights.balance(options)
    signals = measure_signals(
        read_asked(query, context, rules.context_weight),
        pool,
        encode,
        vector=vector if weights.sentence else None,
        max_sentences=rules.max_sentences,
    )
    return [_weigh(item, found, weights) for item, found in zip(pool, signals, strict=True)]


def _weigh(item: PooledPassage, signals: Signals, weights: PassageWeights) -> float:
    own = {field.name: getattr(signals, field.name) for field in fields(signals)}
    own |= {"meaning": item.meaning_share, "words": item.words_share}
    score = sum(getattr(weights, name) * value for name, value in own.items())
    return float(min(1.0, max(0.0, score)))
