"""Sets of characters, and how those of a JSON string are written in a grammar."""

from __future__ import annotations

from collections.abc import Iterable

from models.gbnf import quote_literal, quote_point

# Half-open ranges of code points, ascending and apart.
Ranges = tuple[tuple[int, int], ...]

EVERYTHING: Ranges = ((0, 0xD800), (0xE000, 0x110000))
DIGITS: Ranges = ((ord("0"), ord("9") + 1),)
WORDS: Ranges = (
    *DIGITS,
    (ord("A"), ord("Z") + 1),
    (ord("_"), ord("_") + 1),
    (ord("a"), ord("z") + 1),
)
SPACES: Ranges = ((9, 14), (32, 33))
# What no dialect's point matches, of those that differ.
LINE_ENDS: Ranges = ((10, 11), (13, 14), (0x85, 0x86), (0x2028, 0x202A))
_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
# JSON wants these escaped; what has no short escape is not written.
_UNPLAIN: Ranges = ((0, 32), (34, 35), (92, 93))


def unite(sets: Iterable[Ranges]) -> Ranges:
    """All characters of several sets."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(r for ranges in sets for r in ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)


def subtract(ranges: Ranges, others: Ranges) -> Ranges:
    """Characters of the first set that are not in the second."""
    left: list[tuple[int, int]] = []
    for start, end in ranges:
        position = start
        for low, high in others:
            if high <= position or low >= end:
                continue
            if low > position:
                left.append((position, low))
            position = max(position, high)
        if position < end:
            left.append((position, end))
    return tuple(left)


def complement(ranges: Ranges) -> Ranges:
    """Every character that is not in the set."""
    return subtract(EVERYTHING, ranges)


def holds(ranges: Ranges, code: int) -> bool:
    """Whether a character is in the set."""
    return any(start <= code < end for start, end in ranges)


def write_set(ranges: Ranges) -> str | None:
    """A GBNF expression for one character of the set inside a JSON string; None for none."""
    alternatives = []
    if plain := subtract(ranges, _UNPLAIN):
        spans = (f"{quote_point(start)}-{quote_point(end - 1)}" for start, end in plain)
        alternatives.append(f"[{''.join(spans)}]")
    for code, letter in _ESCAPES.items():
        if holds(ranges, code):
            alternatives.append(quote_literal("\\" + letter))
    if not alternatives:
        return None
    return alternatives[0] if len(alternatives) == 1 else f"( {' | '.join(alternatives)} )"
