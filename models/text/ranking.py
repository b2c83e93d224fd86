"""Sentences of passages, scored against a question by meaning, words, headings and form."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import pairwise

from models.protocols import Vectors
from models.text.expectation import expect_answer
from models.text.plain import read_plain
from models.text.sentences import Sentence, segment
from models.text.words import WordWeights, find_topic_words

_MAX_CONTEXT_CHARS = 160


@dataclass(frozen=True, slots=True)
class SentenceSignals:
    """What speaks for a sentence, each about 0..1.

    `meaning`: cosine of sentence and question; `neighbours`: the best cosine of its passage's
    sentences; `context`: share of the question's word weight in the sentence, its heading and its
    lead-in; `passage`: the passage's own score; `form`: whether the sentence has what the question
    asks for (a number, a name, a date); `length`: ln(1 + words) / 4, as stubs seldom answer.
    """

    meaning: float = 0.0
    neighbours: float = 0.0
    context: float = 0.0
    passage: float = 0.0
    form: float = 0.0
    length: float = 0.0


SIGNAL_NAMES = tuple(signal.name for signal in fields(SentenceSignals))


@dataclass(frozen=True, slots=True)
class SignalWeights:
    """How much each of `SentenceSignals` counts, in their order (`python -m bench.sentences`)."""

    meaning: float = 7.98
    neighbours: float = 4.93
    context: float = 3.40
    passage: float = 8.05
    form: float = 0.76
    length: float = 1.78

    @property
    def total(self) -> float:
        """Sum of the weights, which brings scores into 0..1."""
        return float(sum(astuple(self)))

    def weigh(self, signals: SentenceSignals) -> float:
        """The weighted mean, about 0..1."""
        pairs = zip(astuple(self), astuple(signals), strict=True)
        return float(sum(weight * signal for weight, signal in pairs)) / self.total


@dataclass(frozen=True, slots=True)
class ScoredPassage:
    """A passage with the headings above it and its own score, 0..1."""

    text: str
    heading: str
    score: float


@dataclass(frozen=True, slots=True)
class RankedSentence:
    """A sentence of passage number `passage`; its offsets are within that passage's text.

    `score` is the weighted mean of the signals, about 0..1; `words` is the share of the question's
    word weight in the sentence alone.
    """

    passage: int
    sentence: Sentence
    context: str
    words: float
    meaning: float
    score: float
    signals: SentenceSignals = field(default_factory=SentenceSignals)


def rank_sentences(
    question: str,
    passages: Sequence[ScoredPassage],
    encode: Callable[[Sequence[str]], Vectors],
    *,
    weights: SignalWeights | None = None,
    max_embedded: int = 24,
    kept: Collection[tuple[int, int]] = (),
) -> list[RankedSentence]:
    """The quotable sentences of `passages`, each once, best first, at most `max_embedded`.

    `encode` gives unit vectors, shape `(len(texts), dimension)`; only sentences that the other
    signals favour are given to it, because that is what costs time here. `kept` names sentences
    (passage, start) that come back whatever the signals say.
    """
    weights = weights or SignalWeights()
    drafts = _draft(question, passages, weights, kept)
    if not drafts:
        return []
    ordered = sorted(drafts, key=_order)
    favoured = ordered[:max_embedded]
    favoured += [r for r in ordered[max_embedded:] if (r.passage, r.sentence.start) in kept]
    vectors = encode([question, *(read_plain(ranked.sentence.text) for ranked in favoured)])
    cosines = [max(0.0, float(cosine)) for cosine in vectors[1:] @ vectors[0]]
    nearest: dict[int, float] = {}
    for ranked, cosine in zip(favoured, cosines, strict=True):
        nearest[ranked.passage] = max(nearest.get(ranked.passage, 0.0), cosine)
    found = []
    for ranked, cosine in zip(favoured, cosines, strict=True):
        signals = replace(ranked.signals, meaning=cosine, neighbours=nearest[ranked.passage])
        score = weights.weigh(signals)
        found.append(replace(ranked, meaning=cosine, score=score, signals=signals))
    return sorted(found, key=_order)


def _draft(
    question: str,
    passages: Sequence[ScoredPassage],
    weights: SignalWeights,
    kept: Collection[tuple[int, int]],
) -> list[RankedSentence]:
    """Every sentence with its signals but the cosines; of equal ones the best alone."""
    found = [
        (number, sentence, context, read_plain(sentence.text))
        for number, passage in enumerate(passages)
        for sentence, context in find_quotable(passage.text, passage.heading)
    ]
    stems = [find_topic_words(plain) for *_, plain in found]
    context_stems = [
        [*own, *find_topic_words(context)]
        for own, (_, _, context, _) in zip(stems, found, strict=True)
    ]
    word_weights = WordWeights(context_stems)
    asked = find_topic_words(question)
    expectation = expect_answer(question)
    drafts: dict[str, RankedSentence] = {}
    for (number, sentence, context, plain), own, around in zip(
        found, stems, context_stems, strict=True
    ):
        signals = SentenceSignals(
            context=word_weights.overlap(asked, around),
            passage=passages[number].score,
            form=expectation.measure(plain, question),
            length=math.log1p(len(plain.split())) / 4,
        )
        words = word_weights.overlap(asked, own)
        draft = RankedSentence(
            number, sentence, context, words, 0.0, weights.weigh(signals), signals
        )
        key = sentence.text.casefold()
        known = drafts.get(key)
        is_fixed = known is not None and (known.passage, known.sentence.start) in kept
        is_kept = (number, sentence.start) in kept
        if known is None or is_kept or (known.score < draft.score and not is_fixed):
            drafts[key] = draft
    return list(drafts.values())


def _order(ranked: RankedSentence) -> tuple[float, int, int]:
    return -ranked.score, ranked.passage, ranked.sentence.start


def find_quotable(text: str, heading: str) -> list[tuple[Sentence, str]]:
    """Sentences of a passage that may be quoted, each with what it hangs on.

    The context is the last heading above the sentence (`heading`, or one inside the text) and, for
    list items and table rows, the sentence that leads in to them, both in plain words.
    """
    lead_in = ""
    quotable: list[tuple[Sentence, str]] = []
    sentences = segment(text)
    followers = {first.start: second for first, second in pairwise(sentences)}
    for sentence in sentences:
        if sentence.kind == "heading":
            heading, lead_in = sentence.text, ""
            continue
        if sentence.kind == "row" and _is_header_row(sentence, text):
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
        quotable.append((sentence, read_plain(context)[-_MAX_CONTEXT_CHARS:]))
    return quotable


def _is_header_row(row: Sentence, text: str) -> bool:
    """Whether the line below is a table's rule, which makes this row its header."""
    return re.match(r"[ \t]*\r?\n[ \t]*\|[\s|:+-]+(?:\n|$)", text[row.end :]) is not None
