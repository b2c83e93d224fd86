"""What the lines of a Markdown text are: prose, list items, table rows, headings, code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["prose", "item", "row", "heading", "code"]
LineKind = Literal["item", "row", "heading", "code", "fence", "blank", "continue", "underline"]

# CommonMark: no backtick may stand behind an opening fence of backticks.
_FENCE = re.compile(r"(\s*)(?:(`{3,})[^`]*|(~{3,}).*)$")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+")
_UNDERLINE = re.compile(r"\s*(=+|-+)\s*$")
_RULE = re.compile(r"\s*([-*_])(\s*\1){2,}\s*$")
_ROW = re.compile(r"\s*\|.*\|\s*$")
_ROW_RULE = re.compile(r"[\s|:+-]+$")
_ITEM = re.compile(
    r"\s*(?:>\s*)*(?:[-*+•‣◦▪●–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+(?:\[[ xX]\]\s+)?"
)
_INITIAL = re.compile(r"\s*[A-Z]\.\s")
_INITIALS = re.compile(r"\s*[A-Z]\.\s+[A-Z]\.(?:\s|$)")
_QUOTE = re.compile(r"\s*(?:>\s?)+")
_WORD = re.compile(r"[^\W\d_]{2}")
_WHOLE_LINE_NEEDED = ("#", "|", "```", "~~~")


@dataclass(frozen=True, slots=True)
class Fence:
    """An open code fence: its mark and the white space before it, in characters."""

    mark: str
    num_chars: int
    indent: int


@dataclass(frozen=True, slots=True)
class Line:
    """What a line is, and how many characters of markup stand before its text."""

    kind: LineKind
    offset: int = 0


def read_fence(line: str) -> Fence | None:
    """The fence that a line opens; None for any other line."""
    match = _FENCE.match(line)
    if match is None:
        return None
    run = match[2] or match[3]
    return Fence(run[0], len(run), len(match[1]))


def closes_fence(line: str, fence: Fence) -> bool:
    """Whether a line closes `fence`: the same marks, at least as many, and nothing else."""
    stripped = line.strip()
    return len(stripped) >= fence.num_chars and not stripped.strip(fence.mark)


def classify_line(line: str, *, goes_on: bool) -> Line:
    """What a line outside of code is.

    `goes_on`: the line before is prose that has not ended, so that "J. Smith said" at the
    beginning of this one is no list item.
    """
    if read_fence(line):
        return Line("fence")
    if not line.strip():
        return Line("blank")
    if heading := _HEADING.match(line):
        return Line("heading", heading.end())
    if _ROW.match(line):
        return Line("blank" if _ROW_RULE.match(line) else "row")
    if _UNDERLINE.match(line):
        return Line("underline")
    if _RULE.match(line):
        return Line("blank")
    item = _ITEM.match(line)
    if item and not (_INITIALS.match(line) or (goes_on and _INITIAL.match(line))):
        return Line("item", item.end())
    quote = _QUOTE.match(line)
    return Line("continue", quote.end() if quote else 0)


def classify_open_line(line: str, *, goes_on: bool) -> Line | None:
    """As `classify_line`, for a line that may grow; None while that could change what it is."""
    word = _WORD.search(line)
    if word is None or line.lstrip().startswith(_WHOLE_LINE_NEEDED):
        return None
    found = classify_line(line, goes_on=goes_on)
    return found if found.kind in ("item", "continue") else None
