"""Sentences of passages, scored against a question by meaning, words, headings and form."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from models.protocols import Vectors
from models.text.expectation import expect_answer
from models.text.sentences import Sentence, segment
from models.text.words import WordWeights, find_topic_words

_MAX_CONTEXT_CHARS = 160


@dataclass(frozen=True, slots=True)
class SignalWeights:
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
class ScoredPassage:
    """A passage with the headings above it and its own score, 0..1."""

    text: str
    heading: str
    score: float


@dataclass(frozen=True, slots=True)
class RankedSentence:
    """A sentence of passage number `passage`; its offsets are within that passage's text.

    `score` is the weighted mean of the signals, about 0..1; `meaning` and `words` are among them.
    """

    passage: int
    sentence: Sentence
    context: str
    words: float
    meaning: float
    score: float


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
    found = [
        (number, sentence, context)
        for number, passage in enumerate(passages)
        for sentence, context in find_quotable(passage.text, passage.heading)
    ]
    if not found:
        return []
    signals = weights or SignalWeights()
    stems = [find_topic_words(sentence.text) for _, sentence, _ in found]
    context_stems = [
        [*own, *find_topic_words(context)]
        for own, (_, _, context) in zip(stems, found, strict=True)
    ]
    word_weights = WordWeights(context_stems)
    asked = find_topic_words(question)
    expectation = expect_answer(question)
    drafts: dict[str, RankedSentence] = {}
    for i, (number, sentence, context) in enumerate(found):
        words = word_weights.overlap(asked, stems[i])
        score = (
            signals.words * words
            + signals.context * word_weights.overlap(asked, context_stems[i])
            + signals.passage * passages[number].score
            + signals.form * expectation.measure(sentence.text, question)
        ) / signals.total
        known = drafts.get(sentence.text.casefold())
        is_kept = (number, sentence.start) in kept
        if (
            known is None
            or is_kept
            or (known.score < score and (known.passage, known.sentence.start) not in kept)
        ):
            draft = RankedSentence(number, sentence, context, words, 0.0, score)
            drafts[sentence.text.casefold()] = draft
    ordered = sorted(drafts.values(), key=_order)
    favoured = ordered[:max_embedded]
    favoured += [r for r in ordered[max_embedded:] if (r.passage, r.sentence.start) in kept]
    vectors = encode([question, *(ranked.sentence.text for ranked in favoured)])
    cosines = vectors[1:] @ vectors[0]
    return sorted(
        (
            replace(
                ranked,
                meaning=float(cosine),
                score=ranked.score + signals.meaning * max(0.0, float(cosine)) / signals.total,
            )
            for ranked, cosine in zip(favoured, cosines, strict=True)
        ),
        key=_order,
    )


def _order(ranked: RankedSentence) -> tuple[float, int, int]:
    return -ranked.score, ranked.passage, ranked.sentence.start


def find_quotable(text: str, heading: str) -> list[tuple[Sentence, str]]:
    """Sentences of a passage that may be quoted, each with what it hangs on.

    The context is the last heading above the sentence (`heading`, or one inside the text) and, for
    list items and table rows, the sentence that leads in to them.
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
        quotable.append((sentence, context[-_MAX_CONTEXT_CHARS:]))
    return quotable


def _is_header_row(row: Sentence, text: str) -> bool:
    """Whether the line below is a table's rule, which makes this row its header."""
    return re.match(r"[ \t]*\r?\n[ \t]*\|[\s|:+-]+(?:\n|$)", text[row.end :]) is not None
