"""Hits that say the same, say a page that lies in two folders, collapsed into the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil

from index.diversity import renumber
from index.types import Hit
from models.text.words import find_words, has_digit

_SHINGLE_WORDS = 4
# From here on two passages are versions of one text; what differs is a date or a name at its edge.
_MIN_RESEMBLANCE = 0.9
# A shorter text ("None.", "See the wiki.") says the same only under the same heading.
_MIN_OWN_WORDS = 12

# Runs of words by their hashes: 64 bits tell them apart.
Shingles = frozenset[int]
# The runs of words, and what must agree besides: every number, and a short text's heading.
Print = tuple[Shingles, tuple[str, ...]]


def collapse(hits: Sequence[Hit], words: Mapping[int, Sequence[str]] | None = None) -> list[Hit]:
    """The hits without those that repeat a better one, which names their documents.

    `words` are those of `find_words` by the id of the passage, where they are known.
    `hits` are best first and stay in order, with new ranks. Resemblance is Jaccard's coefficient
    over runs of four words (Broder, 1997). Texts with other numbers are never taken for one: last
    year's policy differs from this year's in little else.
    """
    kept: list[Hit] = []
    prints: list[Print] = []
    for hit in hits:
        known = words[hit.passage.id] if words else find_words(hit.passage.text)
        own = _take_print(hit, known)
        place = _find(own, prints)
        if place is None:
            kept.append(hit)
            prints.append(own)
        else:
            kept[place] = _name_copy(kept[place], hit)
    return renumber(kept)


def _name_copy(best: Hit, copy: Hit) -> Hit:
    known = {best.document.id, *(document.id for document in best.copies)}
    new = [d for d in (copy.document, *copy.copies) if d.id not in known]
    return replace(best, copies=(*best.copies, *{d.id: d for d in new}.values()))


def _take_print(hit: Hit, words: Sequence[str]) -> Print:
    size = min(_SHINGLE_WORDS, len(words))
    shingles = frozenset(map(hash, zip(*(words[start:] for start in range(size)), strict=False)))
    numbers = sorted(filter(has_digit, words)) if has_digit(" ".join(words)) else []
    headings = hit.passage.headings[-1:] if len(words) < _MIN_OWN_WORDS else ()
    return shingles, (*numbers, *headings)


def _find(own: Print, prints: Sequence[Print]) -> int | None:
    """The place of the first print that this one resembles."""
    # A print that resembles this one lacks fewer of its runs than these.
    num = ceil((1 - _MIN_RESEMBLANCE) * len(own[0])) + 1
    some = tuple(islice(own[0], num))
    for place, other in enumerate(prints):
        if own[1] == other[1] and not other[0].isdisjoint(some) and _resembles(own[0], other[0]):
            return place
    return None


def _resembles(first: Shingles, second: Shingles) -> bool:
    small, large = sorted((len(first), len(second)))
    if small < _MIN_RESEMBLANCE * large:
        return False
    common = len(first & second)
    return common >= _MIN_RESEMBLANCE * (small + large - common)
