"""Text to quotable sentences with exact offsets: prose, list items, table rows and code lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["prose", "item", "row", "heading", "code"]

_FENCE = re.compile(r"\s*(```|~~~)")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+")
_UNDERLINE = re.compile(r"\s*(=+|-+)\s*$")
_RULE = re.compile(r"\s*([-*_])(\s*\1){2,}\s*$")
_ROW = re.compile(r"\s*\|.*\|\s*$")
_ROW_RULE = re.compile(r"[\s|:+-]+$")
_ITEM = re.compile(r"\s*(?:>\s*)*(?:[-*+•‣◦–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+(?:\[[ xX]\]\s+)?")
_QUOTE = re.compile(r"\s*(?:>\s?)+")
# A sentence may end at . ! ? … followed by closing marks and white space; the CJK stops need none.
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_`]*(?=\s)|[。！？]+[」』”）]*")
_OPENING = re.compile(r"\s+[\"'“‘«(\[*_`]*(\S)")
# Words whose full stop seldom ends a sentence; "etc." and "a.m." may, so they are not here.
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st mt no nos vol pp p ed eds fig figs eq sec ch art cf vs viz al "
    "approx dept est inc ltd co corp bros jr sr rev gen col capt lt sgt jan feb mar apr jun "
    "jul aug sep sept oct nov dec mon tue wed thu fri sat sun e.g i.e eg ie ca bzw z.b d.h nr "
    "str".split()
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A slice `[start, end)` of the segmented text.

    `text` is the slice as a reader sees it: white space collapsed, the pipes around a table row
    removed. List markers and block-quote marks in front are not part of the slice.
    """

    start: int
    end: int
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class _Block:
    start: int
    end: int
    kind: Kind


def segment(text: str) -> list[Sentence]:
    """Sentences of `text` in order, never overlapping; markup-only lines are left out."""
    sentences: list[Sentence] = []
    for block in _find_blocks(text):
        spans = (
            _split_prose(text, block.start, block.end)
            if block.kind in ("prose", "item")
            else [(block.start, block.end)]
        )
        for start, end in spans:
            sentence = _trim(text, start, end, block.kind)
            if sentence is not None:
                sentences.append(sentence)
    return sentences


def _trim(text: str, start: int, end: int, kind: Kind) -> Sentence | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    readable = " ".join(text[start:end].split())
    if kind == "row":
        readable = readable.strip("| ")
    if not any(character.isalnum() for character in readable):
        return None
    return Sentence(start, end, kind, readable)


def _find_blocks(text: str) -> Iterator[_Block]:
    """Paragraphs, list items, table rows, headings and code lines, in order."""
    open_block: tuple[int, int, Kind] | None = None
    in_code = False
    for start, end in _iterate_lines(text):
        line = text[start:end]
        kind, offset = _classify(line, in_code=in_code)
        if _FENCE.match(line):
            in_code = not in_code
        if kind == "continue" and open_block is not None:
            open_block = (open_block[0], end, open_block[2])
            continue
        if open_block is not None:
            if kind == "underline" and open_block[2] == "prose":
                yield _Block(open_block[0], open_block[1], "heading")
                open_block = None
                continue
            yield _Block(*open_block)
            open_block = None
        if kind in ("heading", "row", "code"):
            yield _Block(start + offset, end, kind)
        elif kind == "item":
            open_block = (start + offset, end, "item")
        elif kind == "continue":
            open_block = (start + offset, end, "prose")
    if open_block is not None:
        yield _Block(*open_block)


def _iterate_lines(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the lines without their ends; a form feed (page break) ends a line too."""
    start = 0
    for match in re.finditer(r"\r\n|[\n\r\f\u2028\u2029]", text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


_LineKind = Literal["prose", "item", "row", "heading", "code", "blank", "continue", "underline"]


def _classify(line: str, *, in_code: bool) -> tuple[_LineKind, int]:
    """What a line is, and how many characters of markup stand before its text."""
    if _FENCE.match(line):
        return "blank", 0
    if in_code:
        return "code", 0
    if not line.strip():
        return "blank", 0
    if _HEADING.match(line):
        found = _HEADING.match(line)
        return "heading", found.end() if found else 0
    if _ROW.match(line):
        return ("blank", 0) if _ROW_RULE.match(line) else ("row", 0)
    if _UNDERLINE.match(line):
        return "underline", 0
    if _RULE.match(line):
        return "blank", 0
    if item := _ITEM.match(line):
        return "item", item.end()
    if quote := _QUOTE.match(line):
        return "continue", quote.end()
    return "continue", 0


def _split_prose(text: str, start: int, end: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    begin = start
    for match in _END.finditer(text, start, end):
        if _ends_sentence(text, match, begin, end):
            spans.append((begin, match.end()))
            begin = match.end()
    if begin < end:
        spans.append((begin, end))
    return spans


def _ends_sentence(text: str, match: re.Match[str], begin: int, end: int) -> bool:
    if match.group()[0] in "。！？":
        return True
    opening = _OPENING.match(text, match.end(), end)
    if opening is None:
        return False
    first = opening.group(1)
    if first.islower():
        return False
    if match.group()[0] != ".":
        return True
    word = re.search(r"[\w.]+$", text[begin : match.start()])
    token = word.group().lower() if word else ""
    if token in _ABBREVIATIONS:
        # "No. 5" and "Dr. Ito" go on; a month or "Ltd" at the very end was handled by `opening`.
        return False
    # "J. Smith", "U.S. Army": a lone letter before the stop is an initial.
    return not (len(token.rsplit(".", 1)[-1]) == 1 and token[-1:].isalpha() and first.isupper())
