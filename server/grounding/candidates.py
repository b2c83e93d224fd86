"""Retrieved passages to scored candidate sentences, the ones an answer may quote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from index.types import Hit
from models.caching import remember
from models.protocols import Embedder, Reader
from models.reader import to_read
from models.text.ranking import (
    ScoredPassage,
    SentenceSignals,
    SignalWeights,
    find_quotable,
    rank_sentences,
)
from models.text.sentences import Sentence
from server.grounding.instructions import EXCLUDED, weigh_instructions

# What a reader's log odds are worth on the scale of the scores, and beyond what they say no more;
# from `python -m bench.sentences`.
_READ_WEIGHT = 0.03
_MAX_ODDS = 6.0
# What a sentence loses that surely addresses the model; one that may, half of it.
_DOUBT_COST = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted; `start`/`end` are offsets into its document's text.

    `score` is the weighted mean of the signals, about 0..1, and what a reader adds; `meaning` (the
    cosine) and `words` (the share of the question's word weight) are among them. `odds`: a reader's
    log odds that it answers, None where none read it.
    """

    hit: Hit
    sentence: Sentence
    start: int
    end: int
    context: str
    score: float
    meaning: float
    words: float = 0.0
    signals: SentenceSignals = field(default_factory=SentenceSignals)
    odds: float | None = None

    @property
    def text(self) -> str:
        """The sentence as a reader sees it."""
        return self.sentence.text


class CandidateRanker:
    """Scores the sentences of hits against a question; sentences seen before cost little."""

    def __init__(
        self,
        embedder: Embedder,
        weights: SignalWeights | None = None,
        *,
        max_embedded: int = 24,
        reader: Reader | None = None,
        max_read: int = 12,
    ) -> None:
        """`reader` reads the best `max_read` sentences; what it costs grows with their number."""
        self._embedder = remember(embedder)
        self._reader = reader
        self._max_read = max_read
        self._max_embedded = max_embedded
        self._weights = weights or SignalWeights()

    def rank(self, question: str, hits: Sequence[Hit]) -> list[Candidate]:
        """The quotable sentences of `hits`, each once, best first, at most `max_embedded`.

        A sentence that addresses the model instead of a reader is none of them.
        """
        passages = [ScoredPassage(hit.passage.text, hit.passage.heading, hit.score) for hit in hits]
        ranked = rank_sentences(
            question,
            passages,
            self._embedder.encode,
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
                    signals=item.signals,
                )
                candidates.append(candidate)
        if any(doubts):
            candidates.sort(key=lambda candidate: -candidate.score)
        return self._read(question, candidates)

    def _read(self, question: str, candidates: list[Candidate]) -> list[Candidate]:
        if self._reader is None or not candidates:
            return candidates
        best, rest = candidates[: self._max_read], candidates[self._max_read :]
        odds = self._reader.read(question, [to_read(c.context, c.text) for c in best])
        read = [
            replace(candidate, score=candidate.score + weigh_odds(value), odds=value)
            for candidate, value in zip(best, odds, strict=True)
        ]
        unread = [
            replace(candidate, score=candidate.score + weigh_odds(-_MAX_ODDS)) for candidate in rest
        ]
        return sorted([*read, *unread], key=lambda candidate: -candidate.score)


def weigh_odds(odds: float) -> float:
    """What a reader's log odds add to a score."""
    return _READ_WEIGHT * max(-_MAX_ODDS, min(_MAX_ODDS, odds))


def quotable_of(hit: Hit) -> list[tuple[Sentence, str]]:
    """Sentences of a hit that may be quoted, each with what it hangs on."""
    text = hit.passage.text
    doubts = weigh_instructions(text)
    return [
        (sentence, context)
        for sentence, context in find_quotable(text, hit.passage.heading)
        if doubts.get(sentence.start, 0.0) < EXCLUDED
    ]
