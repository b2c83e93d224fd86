"""Hits widened by the rest of their sections, as far as the context has room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from index.types import Hit, Passage, Section


def widen_hits(
    hits: Sequence[Hit],
    read_section: Callable[[Hit], Section],
    measure: Callable[[str], int],
    room: int,
) -> list[Hit]:
    """The hits, best first, each with as much of its section as fits into `room` tokens.

    What is added is whole passages next to the hit, those behind it first, and never one that
    another hit stands for. A widened hit keeps its id and its score; its passage is still a slice
    of the document. `measure` counts the tokens of a text.
    """
    taken = {hit.passage.id for hit in hits}
    widened: list[Hit] = []
    for hit in hits:
        section = read_section(hit) if room > 0 else Section((hit.passage,), hit.passage.text)
        grown = _grow(hit.passage, section, taken, measure, room)
        if grown is not hit.passage:
            room -= measure(grown.text) - measure(hit.passage.text)
        widened.append(replace(hit, passage=grown))
    return widened


def _grow(
    passage: Passage,
    section: Section,
    taken: set[int],
    measure: Callable[[str], int],
    room: int,
) -> Passage:
    places = {own.id: place for place, own in enumerate(section.passages)}
    if passage.id not in places:
        return passage
    first = last = places[passage.id]
    origin = section.passages[0].start
    size = measure(passage.text)
    grown = passage
    steps = [1, -1]
    while steps:
        step = steps.pop(0)
        low, high = (first, last + 1) if step > 0 else (first - 1, last)
        if low < 0 or high >= len(section.passages):
            continue
        neighbour = section.passages[high if step > 0 else low]
        if neighbour.id in taken:
            continue
        start, end = section.passages[low].start, section.passages[high].end
        text = section.text[start - origin : end - origin]
        if measure(text) - size > room:
            continue
        taken.add(neighbour.id)
        first, last = low, high
        grown = replace(passage, start=start, end=end, text=text)
        steps.append(step)
    return grown
