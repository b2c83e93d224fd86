"""Cutting a slice of text that is too long, at the best places it offers."""

from __future__ import annotations

import unicodedata

# Best place first; each piece keeps the separator that ends it.
_SEPARATORS = [
    r"\n[ \t\r]*\n",
    r"\n",
    r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+|(?<=[。！？])",
    r"(?<=[;:,，、；：])\s+|(?<=[，、；：])",
    r"\s+",
]
# What is handed to the splitter at once: bounds its memory for files of one endless block.
_MAX_BLOCK_CHARS = 20_000
_JOINERS = "\u200d\ufe0e\ufe0f"


def cut(text: str, start: int, end: int, max_chars: int) -> list[tuple[int, int]]:
    """Slices of `text[start:end]` of at most `max_chars` that leave out only white space.

    Cut at empty lines, else line ends, sentences, clauses, words; where none is near, anywhere
    but before a combining mark.
    """
    pieces: list[tuple[int, int]] = []
    for block_start, block_end in _bounded_blocks(text, start, end):
        if block_end - block_start <= max_chars:
            pieces.append((block_start, block_end))
            continue
        offset = block_start
        for piece in _split(text[block_start:block_end], max_chars):
            pieces += _hard_cut(text, offset, offset + len(piece), max_chars)
            offset += len(piece)
    trimmed = (trim(text, piece_start, piece_end) for piece_start, piece_end in pieces)
    return [
        (piece_start, piece_end) for piece_start, piece_end in trimmed if piece_start < piece_end
    ]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The slice without white space at its edges; empty where there is nothing else."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, max(start, start + len(piece.strip()))


def _split(text: str, max_chars: int) -> list[str]:
    """Pieces that join to exactly `text`; one without any separator may be longer."""
    from langchain_text_splitters.character import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        chunk_size=max_chars,
        chunk_overlap=0,
        strip_whitespace=False,
    )
    pieces = splitter.split_text(text)
    if "".join(pieces) != text:
        raise AssertionError("the pieces of a text no longer join to it")
    return pieces


def _bounded_blocks(text: str, start: int, end: int) -> list[tuple[int, int]]:
    blocks: list[tuple[int, int]] = []
    while end - start > _MAX_BLOCK_CHARS:
        limit = start + _MAX_BLOCK_CHARS
        middle = start + _MAX_BLOCK_CHARS // 2
        stop = max(text.rfind("\n", middle, limit), text.rfind(" ", limit - 1000, limit)) + 1
        stop = _before_marks(text, start, limit) if stop <= start else stop
        blocks.append((start, stop))
        start = stop
    return [*blocks, (start, end)]


def _hard_cut(text: str, start: int, end: int, max_chars: int) -> list[tuple[int, int]]:
    pieces: list[tuple[int, int]] = []
    while end - start > max_chars:
        stop = _before_marks(text, start, start + max_chars)
        pieces.append((start, stop))
        start = stop
    return [*pieces, (start, end)]


def _before_marks(text: str, start: int, stop: int) -> int:
    """`stop`, moved back so that no mark or joiner is parted from its character."""
    place = stop
    while place > start + 1 and (
        unicodedata.combining(text[place])
        or text[place] in _JOINERS
        or text[place - 1] == _JOINERS[0]
    ):
        place -= 1
    return place if place > start + 1 or stop == start + 1 else stop
