"""Retrieved passages to scored candidate sentences, the ones an answer may quote."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from threading import Lock

import numpy as np

from index.types import Hit
from models.protocols import Embedder, Vectors
from server.grounding.expectation import expect_answer
from server.grounding.sentences import Sentence, segment
from server.grounding.words import WordWeights, find_topic_words

_MAX_CACHED_VECTORS = 20_000
_MAX_CONTEXT_CHARS = 160


@dataclass(frozen=True, slots=True)
class CandidateWeights:
    """How much each signal counts; chosen on `examples/questions.jsonl` (see `bench/README.md`).

    `meaning`: cosine of sentence and question; `words`: share of the question's word weight in the
    sentence; `context`: the same with heading and lead-in; `passage`: the passage's own score;
    `form`: whether the sentence has what the question asks for (a number, a name, a date).
    """

    meaning: float = 1.0
    words: float = 1.0
    context: float = 0.5
    passage: float = 0.8
    form: float = 0.25

    @property
    def total(self) -> float:
        """Sum of the weights, which brings scores into 0..1."""
        return self.meaning + self.words + self.context + self.passage + self.form


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may be quoted; `start`/`end` are offsets into its document's text.

    `score` is the weighted mean of the signals, about 0..1; `meaning` the cosine among them.
    """

    hit: Hit
    sentence: Sentence
    start: int
    end: int
    context: str
    score: float
    meaning: float

    @property
    def text(self) -> str:
        """The sentence as a reader sees it."""
        return self.sentence.text


class CandidateRanker:
    """Scores the sentences of hits against a question; keeps sentence vectors it has seen."""

    def __init__(
        self,
        embedder: Embedder,
        weights: CandidateWeights | None = None,
        *,
        max_embedded: int = 24,
    ) -> None:
        self._embedder = embedder
        self._max_embedded = max_embedded
        self._weights = weights or CandidateWeights()
        self._vectors: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = Lock()

    def rank(self, question: str, hits: Sequence[Hit]) -> list[Candidate]:
        """The quotable sentences of `hits`, each once, best first, at most `max_embedded`."""
        found = [
            (hit, sentence, context) for hit in hits for sentence, context in find_quotable(hit)
        ]
        if not found:
            return []
        stems = [find_topic_words(sentence.text) for _, sentence, _ in found]
        context_stems = [
            [*own, *find_topic_words(context)]
            for own, (_, _, context) in zip(stems, found, strict=True)
        ]
        weights = WordWeights(context_stems)
        asked = find_topic_words(question)
        expectation = expect_answer(question)
        signals = self._weights
        drafts: dict[str, Candidate] = {}
        for i, (hit, sentence, context) in enumerate(found):
            words = weights.overlap(asked, stems[i])
            candidate = Candidate(
                hit=hit,
                sentence=sentence,
                start=hit.passage.start + sentence.start,
                end=hit.passage.start + sentence.end,
                context=context,
                score=(
                    signals.words * words
                    + signals.context * weights.overlap(asked, context_stems[i])
                    + signals.passage * hit.score
                    + signals.form * expectation.measure(sentence.text, question)
                )
                / signals.total,
                meaning=0.0,
            )
            known = drafts.get(sentence.text.casefold())
            if known is None or known.score < candidate.score:
                drafts[sentence.text.casefold()] = candidate
        # Embedding is what costs time here, so only sentences that the other signals favour get it.
        favoured = sorted(drafts.values(), key=_order)[: self._max_embedded]
        vectors = self._encode([question, *(candidate.text for candidate in favoured)])
        cosines = vectors[1:] @ vectors[0]
        return sorted(
            (
                replace(
                    candidate,
                    meaning=float(cosine),
                    score=candidate.score
                    + signals.meaning * max(0.0, float(cosine)) / signals.total,
                )
                for candidate, cosine in zip(favoured, cosines, strict=True)
            ),
            key=_order,
        )

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


def _order(candidate: Candidate) -> tuple[float, int, int]:
    return -candidate.score, candidate.hit.rank, candidate.start


def find_quotable(hit: Hit) -> list[tuple[Sentence, str]]:
    """Sentences of a hit that may be quoted, each with what it hangs on.

    The context is the last heading above the sentence (the passage's own, or one inside it) and,
    for list items and table rows, the sentence that leads in to them.
    """
    heading = " > ".join(hit.passage.headings[-2:])
    lead_in = ""
    quotable: list[tuple[Sentence, str]] = []
    sentences = segment(hit.passage.text)
    followers = {first.start: second for first, second in pairwise(sentences)}
    for sentence in sentences:
        if sentence.kind == "heading":
            heading, lead_in = sentence.text, ""
            continue
        if sentence.kind == "row" and _is_header_row(sentence, hit.passage.text):
            lead_in = sentence.text
            continue
        follower = followers.get(sentence.start)
        leads = sentence.kind in ("prose", "item") and (
            sentence.text.endswith(":")
            or (sentence.kind == "prose" and follower is not None and follower.kind != "prose")
        )
        context = " ".join(part for part in (heading, lead_in) if part)
        if sentence.kind == "prose":
            lead_in = sentence.text if leads else ""
            context = heading
        elif leads:
            lead_in = sentence.text
        quotable.append((sentence, context[-_MAX_CONTEXT_CHARS:]))
    return quotable


def _is_header_row(row: Sentence, text: str) -> bool:
    """Whether the line below is a table's rule, which makes this row its header."""
    return re.match(r"[ \t]*\r?\n[ \t]*\|[\s|:+-]+(?:\n|$)", text[row.end :]) is not None
