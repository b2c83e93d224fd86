"""A sentence of an answer to the passage spans that back it, checked without a second model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.types import Hit
from server.grounding.marks import strip_marks
from server.grounding.passages import PassageReader, ReadPassage, ReadSentence
from server.grounding.reading import ReadText, read_text
from server.grounding.support import (
    CONFLICT_SUPPORT,
    SUPPORT_FLOOR,
    Support,
    check_support,
)
from server.grounding.types import Citation

__all__ = ["Attribution", "Attributor", "CitationList", "Evidence", "find_evidence", "strip_marks"]

# Sentences that share most words with a claim are looked at closely.
_NUM_CANDIDATES = 5
_CLAUSE = re.compile(r"[;,:]\s+|\s+(?:and|but|while|whereas|which|with)\s+|\.\s+(?=[A-Z])")
_MIN_CLAUSE_WORDS = 2
# How much better another passage must be than the one that the model itself named.
_MARGIN = 0.1
# A sentence whose share is further below the best one's is about something else.
_MAX_DISTANCE = 0.12
_MAX_VERBATIM = 3


@dataclass(frozen=True, slots=True)
class Evidence:
    """The span of a hit that backs a sentence best, and how far (0..1).

    `start` and `end` are offsets into the hit's document text.
    """

    hit: Hit
    start: int
    end: int
    support: float


@dataclass(frozen=True, slots=True)
class Attribution:
    """What backs a sentence: its support, the spans, and the conflict that speaks against it."""

    support: float
    evidence: tuple[Evidence, ...]
    conflict: str | None = None


class Attributor:
    """Finds what backs the sentences of one answer; passages are read once."""

    def __init__(self, hits: Sequence[Hit], reader: PassageReader | None = None) -> None:
        reader = reader or PassageReader()
        self._passages = [reader.read(hit) for hit in hits]

    def attribute(self, sentence: str, named: Sequence[int] = ()) -> Attribution:
        """The spans with the highest support for `sentence`; none if no word is shared with any.

        `named` are numbers (from 1) of the passages that the model gave; where one of them backs
        the sentence as well as any other does, it is kept. One sentence of a passage is tried
        first; a claim of several parts may stand in as many.
        """
        claim = read_text(strip_marks(sentence))
        if not claim.tokens:
            return Attribution(0.0, ())
        verbatim = self._find_verbatim(claim, named)
        if verbatim is not None:
            return Attribution(1.0, (verbatim,))
        best, evidence = self._find_best(claim, named)
        if evidence is None:
            return Attribution(0.0, ())
        if best.score < SUPPORT_FLOOR:
            parts = self._find_parts(claim, named)
            if parts is not None and parts.support > best.score:
                return parts
        return Attribution(best.score, (evidence,), best.conflict)

    def _find_verbatim(self, claim: ReadText, named: Sequence[int]) -> Evidence | None:
        """The sentences, at most three in a row, in which the claim's words stand as they are."""
        run = f" {' '.join(token.word for token in claim.tokens)} "
        for passage in self._ordered(named):
            if run not in passage.run:
                continue
            sentences = passage.sentences
            for number, first in enumerate(sentences):
                words = " "
                for last in sentences[number : number + _MAX_VERBATIM]:
                    words += last.run.lstrip()
                    if run not in words:
                        continue
                    if first is last and run != words and not _says_all(claim, first):
                        break
                    return _make(passage.hit, first, last, 1.0)
        return None

    def _find_best(self, claim: ReadText, named: Sequence[int]) -> tuple[Support, Evidence | None]:
        ranked: list[tuple[float, ReadPassage, ReadSentence]] = []
        for passage in self._ordered(named):
            bonus = _MARGIN if self._is_named(passage, named) else 0.0
            shares = passage.measure_shares(claim)
            for share, sentence in zip(shares, passage.sentences, strict=True):
                if share > 0:
                    ranked.append((share + bonus, passage, sentence))
        ranked.sort(key=lambda item: -item[0])
        best, evidence = Support(0.0), None
        for bonus_share, passage, sentence in ranked[:_NUM_CANDIDATES]:
            # A sentence on the very matter that says otherwise outweighs a remote one.
            if bonus_share < ranked[0][0] - _MAX_DISTANCE:
                break
            support = check_support(claim, sentence.read, sentence.around)
            support = _check_row(claim, passage, sentence, support)
            if evidence is None or support.score > best.score + 1e-9:
                best = support
                evidence = _make(passage.hit, sentence, sentence, support.score)
        return best, evidence

    def _find_parts(self, claim: ReadText, named: Sequence[int]) -> Attribution | None:
        """The claim in parts, each backed by a sentence of its own; None if one of them is not."""
        parts = _split_clauses(claim.text)
        if len(parts) < 2:
            return None
        scores: list[float] = []
        evidence: list[Evidence] = []
        for part in parts:
            read = read_text(part)
            best, found = self._find_best(read, named)
            if found is None or best.score < SUPPORT_FLOOR:
                return None
            scores.append(best.score)
            if found not in evidence:
                evidence.append(found)
        support = min(scores)
        return Attribution(support, tuple(replace(e, support=support) for e in evidence[:3]))

    def _ordered(self, named: Sequence[int]) -> list[ReadPassage]:
        """The passages, those that the model named first."""
        chosen = [p for p in self._passages if self._is_named(p, named)]
        return chosen + [p for p in self._passages if p not in chosen]

    def _is_named(self, passage: ReadPassage, named: Sequence[int]) -> bool:
        return self._passages.index(passage) + 1 in named


def find_evidence(sentence: str, hits: Sequence[Hit]) -> Evidence | None:
    """The span among `hits` with the highest support; None if no word is shared with any."""
    found = Attributor(hits).attribute(sentence)
    return replace(found.evidence[0], support=found.support) if found.evidence else None


def measure_support(claim: str, span: str) -> float:
    """How far `span` alone backs `claim`, 0..1: 1.0 if the claim stands in it verbatim."""
    read, against = read_text(strip_marks(claim)), read_text(span)
    if not read.tokens:
        return 0.0
    run = " ".join(token.word for token in read.tokens)
    words = " ".join(token.word for token in against.tokens)
    support = check_support(read, against)
    if f" {run} " in f" {words} " and (run == words or support.conflict is None):
        return 1.0
    return support.score


def _says_all(claim: ReadText, sentence: ReadSentence) -> bool:
    """Whether the words in common mean the same: part of a sentence may lack its negation."""
    return check_support(claim, sentence.read, sentence.around).conflict is None


def _check_row(
    claim: ReadText, passage: ReadPassage, sentence: ReadSentence, support: Support
) -> Support:
    """A table's row backs nothing that is said of another row."""
    if not sentence.key or claim.stems & sentence.key & passage.row_keys:
        return support
    if claim.stems & (passage.row_keys - sentence.key):
        return Support(min(support.score, CONFLICT_SUPPORT), "another row of the table is meant")
    return support


def _make(hit: Hit, first: ReadSentence, last: ReadSentence, support: float) -> Evidence:
    offset = hit.passage.start
    return Evidence(hit, offset + first.sentence.start, offset + last.sentence.end, support)


def _split_clauses(text: str) -> list[str]:
    """Parts of a sentence with at least two content words each."""
    parts: list[str] = []
    position = 0
    for match in _CLAUSE.finditer(text):
        part = text[position : match.start()]
        if len(read_text(part).content) >= _MIN_CLAUSE_WORDS:
            parts.append(part)
            position = match.end()
    rest = text[position:]
    if parts and len(read_text(rest).content) < _MIN_CLAUSE_WORDS:
        parts[-1] = text[text.index(parts[-1]) :]
    elif rest.strip():
        parts.append(rest)
    return parts


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
