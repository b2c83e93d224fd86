"""What a passage shows of a question: its words and phrases, its nearest sentence, its document."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import pairwise

from index.pool import PooledPassage
from models.protocols import Vectors
from models.text.expectation import expect_answer
from models.text.sentences import segment
from models.text.words import (
    WantedStems,
    WordWeights,
    find_topic_words,
    find_words,
    is_stop_word,
)

_PATH_MARKS = re.compile(r"[/_.-]+")
# Passages that speak for their document.
_NUM_OF_DOCUMENT = 3


# Stems with their places among the words of a text.
Places = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as passages are held against it.

    `terms` are the stems of its topic words with their weights: 1.0 for its own, less for what
    it carries over. `pairs` are its own neighbouring stems.
    """

    text: str
    terms: dict[str, float]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Signals:
    """How a passage meets a question; each is in 0..1.

    `coverage`: share of the question's word weight in text, headings, path and title; `phrases`:
    share of its word pairs that stand together; `sentence`: cosine of the nearest sentence, and
    `form`: whether that has what the question asks for (a number, a date, a name); `document`:
    mean of the three best fused scores in its document.
    """

    coverage: float
    phrases: float
    sentence: float
    form: float
    document: float


def read_asked(query: str, context: str, context_weight: float) -> Asked:
    """The question's words, its own and those that it carries over."""
    own = find_topic_words(query)
    terms = dict.fromkeys(own, 1.0)
    for word in find_topic_words(context):
        terms.setdefault(word, context_weight)
    pairs = tuple(dict.fromkeys((a, b) for a, b in pairwise(own) if a != b))
    return Asked(query, terms, pairs)


def measure_signals(
    asked: Asked,
    pool: Sequence[PooledPassage],
    encode: Callable[[Sequence[str]], Vectors],
    *,
    vector: Vectors | None,
    max_sentences: int,
) -> list[Signals]:
    """Signals of each passage of the pool; rare words are those that few of them hold.

    `vector` is the question's, shape `(dimension,)`; without it no sentence is embedded. At most
    `max_sentences` are, because that is what costs time here: of each passage those first that
    share the most words with the question, the passages in turn.
    """
    coverage = _Coverage(asked)
    parts = [(item.words, find_words(_write_frame(item))) for item in pool]
    found = [(coverage.find(body), coverage.find(frame)) for body, frame in parts]
    stems = [body.keys() | frame.keys() for body, frame in found]
    coverage.weigh(stems)
    expectation = expect_answer(asked.text)
    nearest = _find_nearest(coverage, pool, encode, vector=vector, max_sentences=max_sentences)
    by_document: dict[str, list[float]] = {}
    for item in pool:
        by_document.setdefault(item.document.id, []).append(item.fused)
    return [
        Signals(
            coverage=coverage.measure(stems[place]),
            phrases=coverage.measure_phrases(parts[place], found[place]),
            sentence=cosine,
            form=expectation.measure(text, asked.text),
            document=sum(sorted(by_document[item.document.id])[-_NUM_OF_DOCUMENT:])
            / _NUM_OF_DOCUMENT,
        )
        for place, (item, (cosine, text)) in enumerate(zip(pool, nearest, strict=True))
    ]


class _Coverage:
    """How much of a question stands in texts, whose words are those of `find_words`."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._wanted = WantedStems(asked.terms)
        self._weights = dict(asked.terms)
        self._total = sum(self._weights.values())

    def find(self, words: Sequence[str]) -> Places:
        """The stems among the words that match any of the question's."""
        return self._wanted.find(words)

    def weigh(self, found: Sequence[AbstractSet[str]]) -> None:
        """From now on a word counts the more the fewer of these texts hold it."""
        weights = WordWeights(list(stems) for stems in found)
        for word, own in self._asked.terms.items():
            self._weights[word] = own * weights.weigh(word)
        self._total = sum(self._weights.values())

    def measure(self, stems: AbstractSet[str]) -> float:
        """Share (0..1) of the question's word weight that these stems have."""
        if not self._total:
            return 0.0
        held = self._wanted.match(stems)
        return sum(weight for word, weight in self._weights.items() if word in held) / self._total

    def measure_phrases(self, parts: Sequence[Sequence[str]], found: Sequence[Places]) -> float:
        """Share of the pairs that stand side by side in the text or its frame, the two `parts`.

        In the text one topic word may stand between them.
        """
        if not self._asked.pairs:
            return 0.0
        reaches = (2, 1)
        return sum(
            any(
                _stand_near(words, places.get(first, ()), places.get(second, ()), reach)
                for words, places, reach in zip(parts, found, reaches, strict=True)
            )
            for first, second in self._asked.pairs
        ) / len(self._asked.pairs)


def _stand_near(
    words: Sequence[str], first: Sequence[int], second: Sequence[int], reach: int
) -> bool:
    """Whether one of the second places is at most so many topic words behind one of the first."""
    if not second:
        return False
    for place in first:
        num_topics = 0
        for behind in range(place + 1, len(words)):
            if behind in second:
                return True
            num_topics += not is_stop_word(words[behind])
            if num_topics == reach:
                break
    return False


def _find_nearest(
    coverage: _Coverage,
    pool: Sequence[PooledPassage],
    encode: Callable[[Sequence[str]], Vectors],
    *,
    vector: Vectors | None,
    max_sentences: int,
) -> list[tuple[float, str]]:
    """Cosine and text of each passage's nearest sentence; 0.0 where none was embedded."""
    turns: list[tuple[int, int, float, str]] = []
    for place, item in enumerate(pool):
        found = [
            (coverage.measure(coverage.find(find_words(sentence.text)).keys()), sentence.text)
            for sentence in segment(item.passage.text)
            if sentence.kind != "heading"
        ]
        found.sort(key=lambda pair: -pair[0])
        turns += [(turn, place, share, text) for turn, (share, text) in enumerate(found)]
    turns.sort(key=lambda turn: turn[:2])
    best = [(-1.0, 0.0, "")] * len(pool)
    embedded = turns[:max_sentences]
    cosines: Sequence[float] = ()
    if vector is None:
        embedded = []
    elif embedded:
        cosines = (encode([text for *_, text in embedded]) @ vector).tolist()
    for (_, place, share, text), cosine in zip(embedded, cosines, strict=True):
        best[place] = max(best[place], (cosine + share, max(0.0, cosine), text))
    if vector is None:
        for _, place, share, text in turns:
            best[place] = max(best[place], (share, 0.0, text))
    return [(cosine, text) for _, cosine, text in best]


def _write_frame(item: PooledPassage) -> str:
    """What stands around a passage: path, title and headings."""
    path = _PATH_MARKS.sub(" ", item.document.path.rsplit(".", 1)[0])
    return " ".join([path, item.document.title or "", *item.passage.headings])
