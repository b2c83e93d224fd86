"""Retrieved passages to scored candidate sentences, the ones an answer may quote."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from index.types import Hit
from models.protocols import Embedder, Vectors
from models.text.ranking import ScoredPassage, SignalWeights, find_quotable, rank_sentences
from models.text.sentences import Sentence
from server.grounding.instructions import EXCLUDED, weigh_instructions

_MAX_CACHED_VECTORS = 20_000
# What a sentence loses that surely addresses the model; one that may, half of it.
_DOUBT_COST = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted; `start`/`end` are offsets into its document's text.

    `score` is the weighted mean of the signals, about 0..1; `meaning` (the cosine) and `words`
    (the share of the question's word weight) are among them.
    """

    hit: Hit
    sentence: Sentence
    start: int
    end: int
    context: str
    score: float
    meaning: float
    words: float = 0.0

    @property
    def text(self) -> str:
        """The sentence as a reader sees it."""
        return self.sentence.text


class CandidateRanker:
    """Scores the sentences of hits against a question; keeps sentence vectors it has seen."""

    def __init__(
        self,
        embedder: Embedder,
        weights: SignalWeights | None = None,
        *,
        max_embedded: int = 24,
    ) -> None:
        self._embedder = embedder
        self._max_embedded = max_embedded
        self._weights = weights or SignalWeights()
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    def rank(self, question: str, hits: Sequence[Hit]) -> list[Candidate]:
        """The quotable sentences of `hits`, each once, best first, at most `max_embedded`.

        A sentence that addresses the model instead of a reader is none of them.
        """
        passages = [ScoredPassage(hit.passage.text, find_heading(hit), hit.score) for hit in hits]
        ranked = rank_sentences(
            question,
            passages,
            self._encode,
            weights=self._weights,
            max_embedded=self._max_embedded,
        )
        doubts = [weigh_instructions(hit.passage.text) for hit in hits]
        candidates: list[Candidate] = []
        for item in ranked:
            hit, doubt = hits[item.passage], doubts[item.passage].get(item.sentence.start, 0.0)
            if doubt < EXCLUDED:
                candidate = Candidate(
                    hit=hit,
                    sentence=item.sentence,
                    start=hit.passage.start + item.sentence.start,
                    end=hit.passage.start + item.sentence.end,
                    context=item.context,
                    score=item.score - _DOUBT_COST * doubt,
                    meaning=item.meaning,
                    words=item.words,
                )
                candidates.append(candidate)
        if any(doubts):
            candidates.sort(key=lambda candidate: -candidate.score)
        return candidates

    def _encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of `texts`, shape `(len(texts), dimension)`; only unseen ones are computed."""
        with self._lock:
            known = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, self._embedder.encode(missing), strict=True))
        with self._lock:
            for text in missing:
                self._vectors[text] = known[text]
            while len(self._vectors) > _MAX_CACHED_VECTORS:
                self._vectors.popitem(last=False)
        return np.stack([known[text] for text in texts])


def find_heading(hit: Hit) -> str:
    """The last two headings above a hit."""
    return " > ".join(hit.passage.headings[-2:])


def quotable_of(hit: Hit) -> list[tuple[Sentence, str]]:
    """Sentences of a hit that may be quoted, each with what it hangs on."""
    text = hit.passage.text
    doubts = weigh_instructions(text)
    return [
        (sentence, context)
        for sentence, context in find_quotable(text, find_heading(hit))
        if doubts.get(sentence.start, 0.0) < EXCLUDED
    ]
