"""Lines as a page shows them, joined to running text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ingest.readers.base import Heading, clean_title

_MARKS = "•◦▪‣●○■–*·-"
_BULLET = re.compile(rf"([{_MARKS}]|\(?\d{{1,3}}[.)]|\(?[a-z][.)])\s+\S")
_SOFT_HYPHEN = "\x02"
_ENDS_SENTENCE = re.compile(r"[.!?:;。！？][\"'”’)\]]*$")
_NUM_EDGE_LINES = 2
_HEADING_RATIO = 1.12
_MAX_HEADING_CHARS = 120
_MAX_LEVELS = 4
_MAX_WORD_CHARS = 80
_ROW_RATIO = 1.3

# Size and whether bold.
TypeKey = tuple[float, bool]


@dataclass(frozen=True, slots=True)
class PageLine:
    """A line with its edges and the height of its type, all in points."""

    text: str
    left: float
    right: float
    bottom: float
    size: float
    is_bold: bool


@dataclass(frozen=True, slots=True)
class PageText:
    """A page's running text and the headings in it."""

    text: str
    headings: tuple[Heading, ...]


def drop_repeated(pages: Sequence[Sequence[PageLine]]) -> list[list[PageLine]]:
    """The pages without running heads, feet and page numbers.

    Those are lines among the first or last two that, digits apart, stand on most pages.
    """
    seen: Counter[tuple[bool, str]] = Counter()
    for lines in pages:
        seen.update({key for _, key in _edges(lines)})
    num_pages = sum(1 for lines in pages if lines)
    needed = max(2, round(0.6 * num_pages))
    kept: list[list[PageLine]] = []
    for lines in pages:
        dropped = {index for index, key in _edges(lines) if seen[key] >= needed}
        kept.append([line for index, line in enumerate(lines) if index not in dropped])
    return kept


def rank_headings(pages: Sequence[Sequence[PageLine]]) -> dict[TypeKey, int]:
    """Level (from 1) of each kind of type, size and weight, that stands out from most text."""
    num_chars: Counter[TypeKey] = Counter()
    for lines in pages:
        for line in lines:
            num_chars[line.size, line.is_bold] += len(line.text)
    if not num_chars:
        return {}
    body, is_bold = num_chars.most_common(1)[0][0]
    outstanding = sorted(
        (
            key
            for key in num_chars
            if key[0] > body * _HEADING_RATIO or (key[1] and not is_bold and key[0] >= body)
        ),
        reverse=True,
    )
    sizes = sorted({size for size, _ in outstanding}, reverse=True)
    return {key: min(1 + sizes.index(key[0]), _MAX_LEVELS) for key in outstanding}


def join_lines(
    lines: Sequence[PageLine], levels: Mapping[TypeKey, int], words: frozenset[str]
) -> PageText:
    """Running text of one page: paragraphs set apart by an empty line, list items by a line break.

    `words` are those of the whole document, with their hyphens: one at the end of a line stays if
    the word is also written with it elsewhere.
    """
    text = ""
    headings: list[Heading] = []
    gaps = [upper.bottom - lower.bottom for upper, lower in pairwise(lines)]
    usual_gap = median([gap for gap in gaps if gap > 0] or [0.0])
    previous: PageLine | None = None
    for line in lines:
        level = _heading_level(line, levels)
        joint = "" if previous is None else _joint(previous, line, lines, levels, usual_gap)
        start = headings.pop().start if level and joint == " " else len(text) + len(joint)
        text = _join(text, joint, _close_hyphens(line.text, words), words)
        if level:
            title = clean_title(text[start:])
            headings.append(Heading(start, len(text), level, title))
        previous = line
    return PageText(text=text.replace(_SOFT_HYPHEN, "-"), headings=tuple(headings))


def _joint(
    upper: PageLine,
    lower: PageLine,
    lines: Sequence[PageLine],
    levels: Mapping[TypeKey, int],
    usual_gap: float,
) -> str:
    """What stands between two lines of running text: a blank, a line break or an empty line."""
    level = _heading_level(lower, levels)
    if level or _heading_level(upper, levels):
        is_same = (lower.size, lower.is_bold) == (upper.size, upper.is_bold)
        return " " if level and is_same and _is_near(upper, lower) else "\n\n"
    if _is_apart(upper, lower, usual_gap):
        return "\n\n"
    usual_width = median(_char_width(line) for line in lines)
    is_row = max(_char_width(upper), _char_width(lower)) > _ROW_RATIO * usual_width
    if is_row or _BULLET.match(lower.text) or not _is_full(upper, lower, lines):
        return "\n"
    return " "


def _is_full(upper: PageLine, lower: PageLine, lines: Sequence[PageLine]) -> bool:
    """True if the first word of `lower` had no room behind `upper`, so that it had to wrap."""
    column = max(
        line.right
        for line in lines
        if line.size == upper.size and line.left <= upper.right and upper.left <= line.right
    )
    first_word = lower.text.split(None, 1)[0]
    return upper.right + 0.9 * _char_width(upper) * (len(first_word) + 1) >= column


def _char_width(line: PageLine) -> float:
    """Points to a character; the gaps between the cells of a table's row make it large."""
    return (line.right - line.left) / len(line.text)


def _join(text: str, joint: str, line: str, words: frozenset[str]) -> str:
    if joint == " " and text.endswith(("-", _SOFT_HYPHEN)) and text[-2:-1].isalpha():
        seam = max(0, len(text) - _MAX_WORD_CHARS)
        return text[:seam] + _close_hyphens(text[seam:-1] + _SOFT_HYPHEN + line, words)
    return text + joint + line


def _close_hyphens(text: str, words: frozenset[str]) -> str:
    """The text with the halves of words joined that a line's end had parted."""

    def close(match: re.Match[str]) -> str:
        head, tail = match[1], match[2]
        is_one_word = tail[:1].islower() and f"{head}-{tail}" not in words
        return head + tail if is_one_word else f"{head}-{tail}"

    return re.sub(rf"(\w+){_SOFT_HYPHEN}(\w+)", close, text)


def _edges(lines: Sequence[PageLine]) -> list[tuple[int, tuple[bool, str]]]:
    """Index of the first and last lines with a key: whether at the top, and text without digits."""
    last = len(lines)
    top = [(i, (True, _key(lines[i]))) for i in range(min(_NUM_EDGE_LINES, last))]
    bottom = [(i, (False, _key(lines[i]))) for i in range(max(0, last - _NUM_EDGE_LINES), last)]
    return top + bottom


def _key(line: PageLine) -> str:
    return re.sub(r"\d+", "0", " ".join(line.text.split())).lower()


def _heading_level(line: PageLine, levels: Mapping[TypeKey, int]) -> int:
    is_short = len(line.text) <= _MAX_HEADING_CHARS and any(c.isalpha() for c in line.text)
    is_short = is_short and line.text[0] not in _MARKS and line.text[-1] not in ".,;:"
    return levels.get((line.size, line.is_bold), 0) if is_short else 0


def _is_near(upper: PageLine, lower: PageLine) -> bool:
    return 0 < upper.bottom - lower.bottom < 1.6 * lower.size


def _is_apart(upper: PageLine, lower: PageLine, usual_gap: float) -> bool:
    gap = upper.bottom - lower.bottom
    # A jump upwards is the next column: the sentence may go on there.
    return gap > 1.3 * usual_gap > 0 or (gap < 0 and bool(_ENDS_SENTENCE.search(upper.text)))
