"""Hits that say the same, say a page that lies in two folders, collapsed into the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from index.types import Hit
from models.text.words import find_words

_SHINGLE_WORDS = 4
# From here on two passages are versions of one text; what differs is a date or a name at its edge.
_MIN_RESEMBLANCE = 0.9
# A shorter text ("None.", "See the wiki.") says the same only under the same heading.
_MIN_OWN_WORDS = 12

Shingles = frozenset[tuple[str, ...]]
# The runs of words, and what must agree besides: every number, and a short text's heading.
Print = tuple[Shingles, tuple[str, ...]]


def collapse(hits: Sequence[Hit]) -> list[Hit]:
    """The hits without those that repeat a better one, which names their documents.

    `hits` are best first and stay in order, with new ranks. Resemblance is Jaccard's coefficient
    over runs of four words (Broder, 1997). Texts with other numbers are never taken for one: last
    year's policy differs from this year's in little else.
    """
    kept: list[Hit] = []
    prints: list[Print] = []
    for hit in hits:
        own = _take_print(hit)
        place = next((i for i, other in enumerate(prints) if _resembles(own, other)), None)
        if place is None:
            kept.append(hit)
            prints.append(own)
        else:
            kept[place] = _name_copy(kept[place], hit)
    return [replace(hit, rank=rank) for rank, hit in enumerate(kept, start=1)]


def _name_copy(best: Hit, copy: Hit) -> Hit:
    known = {best.document.id, *(document.id for document in best.copies)}
    new = [d for d in (copy.document, *copy.copies) if d.id not in known]
    return replace(best, copies=(*best.copies, *{d.id: d for d in new}.values()))


def _take_print(hit: Hit) -> Print:
    words = find_words(hit.passage.text)
    size = min(_SHINGLE_WORDS, len(words))
    shingles = frozenset(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    numbers = sorted(word for word in words if any(c.isdigit() for c in word))
    headings = hit.passage.headings[-1:] if len(words) < _MIN_OWN_WORDS else ()
    return shingles, (*numbers, *headings)


def _resembles(first: Print, second: Print) -> bool:
    (a, rest_a), (b, rest_b) = first, second
    small, large = sorted((len(a), len(b)))
    if rest_a != rest_b or not large or small < _MIN_RESEMBLANCE * large:
        return False
    common = len(a & b)
    return common >= _MIN_RESEMBLANCE * (small + large - common)
