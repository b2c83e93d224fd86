"""Synthetic passages, vectors and questions of any number, for measurements of search.

Words are drawn by Zipf's law, so that a few stand in almost every passage, as in real text.
Vectors are a mixture: topics of unequal size (their weights fall with the root of their rank)
around centres of their own, a hundred vectors a topic, each moved off its centre by noise as long
as the centre, whose spectrum falls as 1/sqrt(k): neighbours lie in few directions, as those of
sentence embeddings do. A question's vector is one of the mixture, moved by half as much again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from index.types import DocumentDraft, PassageDraft
from models.protocols import EmbedderIdentity, Vectors

DIMENSION = 384
PASSAGES_PER_DOCUMENT = 10
TEAMS = 20
YEARS = range(2015, 2025)

_NUM_WORDS = 60_000
_WORDS_PER_PASSAGE = 150
_WORDS_PER_QUERY = 8
_BATCH_SIZE = 10_000
_LETTERS = "etaoinshrdlucmfwygpbvk"


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and the vector of it."""

    text: str
    vector: Vectors


class KnownVectors:
    """An embedder that was told the vector of every query, so that embedding takes no time.

    Any other text gets the same vector as all others.
    """

    def __init__(self, queries: Sequence[Query]) -> None:
        self.identity = EmbedderIdentity("synthetic", DIMENSION, 256)
        self._vectors = {query.text: query.vector for query in queries}
        self._other = np.full(DIMENSION, DIMENSION**-0.5, dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vectors.get(text, self._other) for text in texts])

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class Corpus:
    """The same passages for the same seed; `num_passages` of them."""

    def __init__(self, num_passages: int, seed: int = 0) -> None:
        self.num_passages = num_passages
        self._seed = seed
        generator = np.random.default_rng(seed)
        ranks = np.arange(1, _NUM_WORDS + 1)
        self._shares = (1 / ranks**1.05) / (1 / ranks**1.05).sum()
        self._words = np.array([_spell(number) for number in range(_NUM_WORDS)])
        num_topics = max(16, num_passages // 100)
        self._topics = _normalise(
            generator.standard_normal((num_topics, DIMENSION)).astype(np.float32)
        )
        weights = 1 / np.sqrt(np.arange(1, num_topics + 1))
        self._topic_shares = weights / weights.sum()
        spectrum = (np.arange(1, DIMENSION + 1) ** -0.5).astype(np.float32)
        self._spectrum = spectrum / np.linalg.norm(spectrum)

    def vectors(self) -> Iterator[Vectors]:
        """All vectors, unit length, in batches: float32 of shape `(at most 10,000, 384)`."""
        generator = np.random.default_rng(self._seed + 1)
        for first in range(0, self.num_passages, _BATCH_SIZE):
            num = min(_BATCH_SIZE, self.num_passages - first)
            topics = generator.choice(len(self._topics), num, p=self._topic_shares)
            yield _normalise(self._topics[topics] + self._draw_noise(generator, num))

    def documents(self) -> Iterator[DocumentDraft]:
        """Documents of ten passages each, with a team (of 20), a year (of 10) and a flag (1 %)."""
        generator = np.random.default_rng(self._seed + 2)
        for number in range(self.num_passages // PASSAGES_PER_DOCUMENT):
            texts = [
                " ".join(self._words[row])
                for row in generator.choice(
                    _NUM_WORDS, (PASSAGES_PER_DOCUMENT, _WORDS_PER_PASSAGE), p=self._shares
                )
            ]
            yield _draft(number, texts)

    def queries(self, num: int) -> list[Query]:
        """Questions of eight words, drawn as the words of passages are."""
        generator = np.random.default_rng(self._seed + 3)
        topics = generator.choice(len(self._topics), num, p=self._topic_shares)
        noise = self._draw_noise(generator, num) + 0.5 * self._draw_noise(generator, num)
        vectors = _normalise(self._topics[topics] + noise)
        rows = generator.choice(_NUM_WORDS, (num, _WORDS_PER_QUERY), p=self._shares)
        texts = [f"{' '.join(self._words[row])} {number}" for number, row in enumerate(rows)]
        return [Query(text, vector) for text, vector in zip(texts, vectors, strict=True)]

    def _draw_noise(self, generator: np.random.Generator, num: int) -> Vectors:
        noise = generator.standard_normal((num, DIMENSION), dtype=np.float32) * self._spectrum
        return noise.astype(np.float32)


def _draft(number: int, texts: Sequence[str]) -> DocumentDraft:
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    return DocumentDraft(
        path=f"{number:06}.txt",
        media_type="text/plain",
        content_hash=str(number),
        size_bytes=starts[-1],
        text="\n".join(texts),
        page_starts=(),
        passages=tuple(
            PassageDraft(start, start + len(text), (), None, _WORDS_PER_PASSAGE)
            for start, text in zip(starts, texts, strict=False)
        ),
        attributes={
            "team": f"team-{number % TEAMS}",
            "year": YEARS[number // TEAMS % len(YEARS)],
            "flag": number % 100 == 0,
        },
    )


def _spell(number: int) -> str:
    letters = _LETTERS[number % len(_LETTERS)]
    while number := number // len(_LETTERS):
        letters += _LETTERS[number % len(_LETTERS)]
    return letters + "a"


def _normalise(vectors: Vectors) -> Vectors:
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(scaled, dtype=np.float32)
