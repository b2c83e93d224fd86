"""Chosen sentences that are parts of a list: a line such as "We pay:" alone answers nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from index.types import Hit
from models.text.sentences import Sentence, segment
from server.grounding.candidates import Candidate, quotable_of
from server.grounding.choice import Choice

# A list of no more than that is one quote, which still reads as one answer.
MAX_ITEMS = 4
MAX_CHARS = 300


@dataclass(frozen=True, slots=True)
class QuotableList:
    """A line that ends with a colon and the items below it, which may be quoted, all of them."""

    lead: Sentence
    items: tuple[Sentence, ...]

    @property
    def is_short(self) -> bool:
        """Whether it may be quoted whole."""
        return len(self.items) <= MAX_ITEMS and self.items[-1].end - self.lead.start <= MAX_CHARS

    @property
    def starts(self) -> frozenset[int]:
        """Where its sentences begin in the passage."""
        return frozenset(sentence.start for sentence in (self.lead, *self.items))


def find_lists(hit: Hit) -> list[QuotableList]:
    """The lists of a hit's passage; one with a sentence that may not be quoted is left out."""
    allowed = {sentence.start for sentence, _ in quotable_of(hit)}
    found: list[QuotableList] = []
    lead: Sentence | None = None
    items: list[Sentence] = []
    for sentence in [*segment(hit.passage.text), None]:
        if sentence is not None and sentence.kind == "item" and lead is not None:
            items.append(sentence)
            continue
        if lead is not None and items:
            found.append(QuotableList(lead, tuple(items)))
        items = []
        leads = sentence is not None and sentence.kind == "prose" and sentence.text.endswith(":")
        lead = sentence if leads else None
    return [one for one in found if one.starts <= allowed]


def join_lists(choices: Sequence[Choice], candidates: Sequence[Candidate]) -> list[Choice]:
    """The choices, best first, with no lead-in alone: the list's whole or its best item instead.

    A short list is quoted whole, from its lead-in to its last item, where the lead-in or two of its
    sentences were chosen. Of a longer one the best of the `candidates` stands for the lead-in.
    """
    joined = list(choices)
    for hit in {c.candidate.hit.passage.id: c.candidate.hit for c in choices}.values():
        for one in find_lists(hit):
            joined = _join(joined, candidates, hit, one)
    return joined


def _join(
    choices: list[Choice], candidates: Sequence[Candidate], hit: Hit, whole: QuotableList
) -> list[Choice]:
    def stands_in(candidate: Candidate) -> bool:
        return (
            candidate.hit.passage.id == hit.passage.id and candidate.sentence.start in whole.starts
        )

    own = [choice for choice in choices if stands_in(choice.candidate)]
    leads = [c for c in own if c.candidate.sentence.start == whole.lead.start]
    if whole.is_short and (leads or len(own) > 1):
        quote = _quote(own[0].candidate, whole)
        return _put(choices, own, [replace(own[0], candidate=quote)])
    items = [c for c in candidates if stands_in(c) and c.sentence.start != whole.lead.start]
    if not leads or not items:
        return choices
    if len(own) > 1:
        # An item that was chosen too says what it leads to.
        return _put(choices, leads, [])
    best = max(items, key=lambda candidate: candidate.score)
    return _put(choices, leads, [replace(leads[0], candidate=best)])


def _put(choices: list[Choice], gone: Sequence[Choice], new: Sequence[Choice]) -> list[Choice]:
    """The choices with the `new` ones where the first of the `gone` stood."""
    place = choices.index(gone[0])
    rest = [choice for choice in choices if choice not in gone]
    return [*rest[:place], *new, *rest[place:]]


def _quote(candidate: Candidate, whole: QuotableList) -> Candidate:
    start, end = whole.lead.start, whole.items[-1].end
    passage = candidate.hit.passage
    text = " ".join(passage.text[start:end].split())
    return replace(
        candidate,
        sentence=Sentence(start, end, "item", text),
        start=passage.start + start,
        end=passage.start + end,
    )
