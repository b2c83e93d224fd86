"""A sentence of an answer to the passage span that backs it, checked without a second model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from index.types import Hit
from models.text.words import find_topic_words, find_words, match_stem
from server.grounding.candidates import quotable_of
from server.grounding.types import Citation

MARK = re.compile(r"\s*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NAME = re.compile(r"(?<=[\w,;] )[A-Z]\w+|\b[A-Z]{2,}\w*\b")
_NEGATIONS = frozenset(
    "no not never none nobody nothing neither nor without cannot cant dont doesnt didnt isnt "
    "arent wasnt werent wont shouldnt mustnt unless except".split()
)
_NUMERALS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "ninety": "90"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """The span of a hit that backs a sentence best, and how far (0..1)."""

    hit: Hit
    start: int
    end: int
    support: float


def strip_marks(sentence: str) -> str:
    """The sentence without citation marks such as `[1]` or `[1, 2]`."""
    return MARK.sub("", sentence)


def find_evidence(sentence: str, hits: Sequence[Hit]) -> Evidence | None:
    """The span among `hits` with the highest support; None if no word is shared with any.

    `start` and `end` are offsets into the hit's document text. Spans of one sentence and of two
    neighbouring ones are tried.
    """
    claim = strip_marks(sentence)
    best: Evidence | None = None
    for hit in hits:
        quotable = [found for found, _ in quotable_of(hit)]
        spans = [(s.start, s.end) for s in quotable]
        spans += [(a.start, b.end) for a, b in pairwise(quotable)]
        for start, end in spans:
            support = measure_support(claim, hit.passage.text[start:end])
            if support > 0 and (best is None or support > best.support + 1e-9):
                offset = hit.passage.start
                best = Evidence(hit, offset + start, offset + end, support)
    return best


def measure_support(claim: str, span: str) -> float:
    """How far `span` backs `claim`, 0..1: 1.0 if the claim stands in it verbatim.

    Otherwise the share of the claim's topic words found in the span, and at most 0.4 as soon as a
    number, a name or the negation of the claim differs: a sentence with one altered fact shares all
    its other words with its source.
    """
    claim_words, span_words = find_words(claim), find_words(span)
    if not claim_words:
        return 0.0
    if _contains_run(span_words, claim_words):
        return 1.0
    stems = list(dict.fromkeys(find_topic_words(claim)))
    if not stems:
        return 0.0
    present = set(find_topic_words(span)) | set(span_words)
    share = sum(
        1 for s in stems if s in present or any(match_stem(s, other) for other in present)
    ) / len(stems)
    if not _agrees(claim, span, set(claim_words), set(span_words)):
        return min(share, 0.4)
    return share


def _contains_run(words: Sequence[str], run: Sequence[str]) -> bool:
    return f" {' '.join(run)} " in f" {' '.join(words)} "


def _agrees(claim: str, span: str, claim_words: set[str], span_words: set[str]) -> bool:
    """Whether the claim's numbers and names stand in the span and both negate alike."""
    if not _find_numbers(claim, claim_words) <= _find_numbers(span, span_words):
        return False
    lowered = {w.casefold() for w in re.findall(r"\w+", span)}
    if any(name.casefold() not in lowered for name in _NAME.findall(claim)):
        return False
    return _negates(claim) == _negates(span)


def _find_numbers(text: str, words: set[str]) -> set[str]:
    numbers = {match.strip(".,:/-").replace(",", "") for match in _NUMBER.findall(text)}
    return numbers | {_NUMERALS[word] for word in words if word in _NUMERALS}


def _negates(text: str) -> bool:
    plain = re.findall(r"\w+", re.sub(r"['’]", "", text.casefold()))
    return any(word in _NEGATIONS for word in plain)


class CitationList:
    """Citations of one answer, numbered by the passage's place in the prompt, from 1."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self._numbers = {hit.passage.id: number for number, hit in enumerate(hits, 1)}
        self._citations: list[Citation] = []

    @property
    def citations(self) -> tuple[Citation, ...]:
        """All citations so far, in the order of the answer."""
        return tuple(self._citations)

    def add(self, hit: Hit, start: int, end: int) -> Citation:
        """The citation of `text[start:end]` of the hit's document."""
        number = self._numbers[hit.passage.id]
        offset = hit.passage.start
        citation = Citation(
            index=number,
            document=hit.document.id,
            filename=hit.document.filename,
            path=hit.document.path,
            collection=hit.document.collection,
            page=hit.document.page_at(start),
            heading=" > ".join(hit.passage.headings) or None,
            quote=hit.passage.text[start - offset : end - offset],
            start=start,
            end=end,
        )
        if citation not in self._citations:
            self._citations.append(citation)
        return citation
