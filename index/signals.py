"""What a passage shows of a question: its words and phrases, its nearest sentence, its document."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

from index.pool import PooledPassage
from models.protocols import Vectors
from models.text.expectation import expect_answer
from models.text.sentences import segment
from models.text.words import WordWeights, find_topic_words, match_stem

_PATH_MARKS = re.compile(r"[/_.-]+")
# Passages that speak for their document.
_NUM_OF_DOCUMENT = 3


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
    bodies = [find_topic_words(item.passage.text) for item in pool]
    frames = [_find_frame(item) for item in pool]
    weights = WordWeights([*body, *frame] for body, frame in zip(bodies, frames, strict=True))
    expectation = expect_answer(asked.text)
    nearest = _find_nearest(
        asked, pool, weights, encode, vector=vector, max_sentences=max_sentences
    )
    by_document: dict[str, list[float]] = {}
    for item in pool:
        by_document.setdefault(item.document.id, []).append(item.fused)
    return [
        Signals(
            coverage=_cover(asked, weights, {*body, *frame}),
            phrases=_measure_phrases(asked, body, frame),
            sentence=cosine,
            form=expectation.measure(text, asked.text),
            document=sum(sorted(by_document[item.document.id])[-_NUM_OF_DOCUMENT:])
            / _NUM_OF_DOCUMENT,
        )
        for item, body, frame, (cosine, text) in zip(pool, bodies, frames, nearest, strict=True)
    ]


def _find_nearest(
    asked: Asked,
    pool: Sequence[PooledPassage],
    weights: WordWeights,
    encode: Callable[[Sequence[str]], Vectors],
    *,
    vector: Vectors | None,
    max_sentences: int,
) -> list[tuple[float, str]]:
    """Cosine and text of each passage's nearest sentence; 0.0 where none was embedded."""
    turns: list[tuple[int, int, float, str]] = []
    for place, item in enumerate(pool):
        found = [
            (_cover(asked, weights, set(find_topic_words(sentence.text))), sentence.text)
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


def _find_frame(item: PooledPassage) -> list[str]:
    """Stems of what stands around a passage: path, title and headings."""
    path = _PATH_MARKS.sub(" ", item.document.path.rsplit(".", 1)[0])
    return find_topic_words(" ".join([path, item.document.title or "", *item.passage.headings]))


def _cover(asked: Asked, weights: WordWeights, present: Set[str]) -> float:
    """Share (0..1) of the question's word weight whose stems are among those present."""
    total = found = 0.0
    for word, own in asked.terms.items():
        weight = own * weights.weigh(word)
        total += weight
        if word in present or any(match_stem(word, other) for other in present):
            found += weight
    return found / total if total else 0.0


def _measure_phrases(asked: Asked, body: Sequence[str], frame: Sequence[str]) -> float:
    """Share of the pairs that stand side by side, or with one topic word between them."""
    if not asked.pairs:
        return 0.0
    near = {*pairwise(body), *zip(body, body[2:], strict=False)}
    near.update(pairwise(frame))
    return sum(pair in near for pair in asked.pairs) / len(asked.pairs)
