"""The blocks of a section that should stay whole: paragraphs, lists, tables, code fences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["text", "list", "table", "fence"]

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_ITEM = re.compile(r"\s*([-*+•◦▪‣●]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+\S")


@dataclass(frozen=True, slots=True)
class Block:
    """The slice `[start, end)` of a text; blocks of a section leave out only white space."""

    start: int
    end: int
    kind: BlockKind


def find_blocks(text: str, start: int, end: int) -> list[Block]:
    """Blocks of `text[start:end]` in order; a list is one block, also with empty lines inside."""
    blocks: list[Block] = []
    for first, last, kind in _paragraphs(text, start, end):
        former = blocks[-1] if blocks else None
        continues = (
            former is not None
            and former.kind == "list"
            and (kind == "list" or (kind == "text" and text[first] in " \t"))
        )
        if former is not None and continues:
            blocks[-1] = Block(former.start, last, "list")
        else:
            blocks.append(Block(first, last, kind))
    return blocks


def _paragraphs(text: str, start: int, end: int) -> list[tuple[int, int, BlockKind]]:
    """Runs of lines between empty lines, where a fence is never left in the middle."""
    found: list[tuple[int, int, BlockKind]] = []
    first: int | None = None
    kind: BlockKind = "text"
    fence: str | None = None
    last = offset = start
    while offset < end:
        stop = text.find("\n", offset, end)
        stop = end if stop < 0 else stop + 1
        line = text[offset:stop]
        opening = _FENCE.match(line)
        if fence is not None:
            last = stop
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                found.append((offset if first is None else first, stop, "fence"))
                first = fence = None
        elif opening:
            if first is not None:
                found.append((first, last, kind))
            first, last, fence = offset, stop, opening[1]
        elif not line.strip():
            if first is not None:
                found.append((first, last, kind))
            first = None
        else:
            if first is None:
                first, kind = offset, _kind(line)
            last = stop
        offset = stop
    if first is not None:
        found.append((first, last, "fence" if fence else kind))
    return found


def _kind(line: str) -> BlockKind:
    if _ITEM.match(line):
        return "list"
    return "table" if line.lstrip().startswith("|") else "text"
