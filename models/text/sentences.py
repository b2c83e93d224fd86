"""Text to quotable sentences with exact offsets: prose, list items, table rows and code lines.

The rules look ahead a bounded way, so that a text that is still being written is cut at the same
places as the whole one: `segment` is a `SentenceStream` whose first piece is its last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from models.text.lines import (
    Fence,
    Kind,
    Line,
    classify_line,
    classify_open_line,
    closes_fence,
    read_fence,
)
from models.text.stops import find_ends

__all__ = ["Kind", "Sentence", "SentenceStream", "segment"]

# A set of characters first: that is searched for much faster than alternatives.
_LINE_END = re.compile(r"[\n\r\f\u2028\u2029](?:(?<=\r)\n)?")


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


def segment(text: str) -> list[Sentence]:
    """Sentences of `text` in order, never overlapping; markup-only lines are left out."""
    return list(SentenceStream().finish(text))


class SentenceStream:
    """Cuts a growing text: gives each sentence as soon as no further text can change it."""

    def __init__(self, *, at_marks: bool = False) -> None:
        """`at_marks`: a citation mark ends a sentence without a stop, as drafts have it."""
        self._at_marks = at_marks
        self._text = ""
        self._position = 0
        self._fence: Fence | None = None
        self._has_opened_line = False
        # The open block of prose or the open list item: where its next sentence begins, where
        # what is known of it ends, what it is, and whether sentences of it were given.
        self._kind: Kind | None = None
        self._begin = self._end = 0
        self._has_given = False

    @property
    def text(self) -> str:
        """Everything that was fed."""
        return self._text

    @property
    def fence(self) -> Fence | None:
        """The code fence around the sentence that was given last, if any."""
        return self._fence

    def feed(self, piece: str) -> Iterator[Sentence]:
        """The sentences that are certain now and were not before."""
        self._text += piece
        yield from self._scan(is_last=False)

    def finish(self, piece: str = "") -> Iterator[Sentence]:
        """The rest, with a last piece: nothing more will come."""
        self._text += piece
        yield from self._scan(is_last=True)

    def _scan(self, *, is_last: bool) -> Iterator[Sentence]:
        text = self._text
        while self._position < len(text):
            found = _LINE_END.search(text, self._position)
            if found and found.group() == "\r" and found.end() == len(text) and not is_last:
                # A "\n" may be about to follow.
                found = None
            is_whole = found is not None or is_last
            stop = found.start() if found else len(text)
            if self._has_opened_line:
                self._end = stop
            else:
                line = self._classify(text[self._position : stop], is_whole=is_whole)
                if line is None:
                    break
                yield from self._take_line(line, stop)
            self._has_opened_line = not is_whole
            if not is_whole:
                break
            self._position = found.end() if found else len(text)
        if is_last:
            yield from self._close()
        elif self._kind is not None:
            yield from self._give_ends(is_open=True)

    def _classify(self, line: str, *, is_whole: bool) -> Line | None:
        """What the line at the position is; None while that may change."""
        if self._fence is not None:
            if not is_whole:
                return None
            return Line("fence" if closes_fence(line, self._fence) else "code")
        before = self._text[self._begin : self._end].rstrip()[-1:]
        goes_on = self._kind == "prose" and before not in (".", "!", "?", ":", "")
        classify = classify_line if is_whole else classify_open_line
        return classify(line, goes_on=goes_on)

    def _take_line(self, line: Line, stop: int) -> Iterator[Sentence]:
        start = self._position + line.offset
        if line.kind == "continue" and self._kind is not None:
            self._end = stop
            return
        if line.kind == "underline" and self._kind == "prose":
            yield from self._close(is_underlined=True)
            return
        yield from self._close()
        if line.kind in ("heading", "row", "code"):
            yield from self._make(start, stop, line.kind)
        elif line.kind == "fence":
            opened = read_fence(self._text[self._position : stop])
            self._fence = None if self._fence is not None else opened
        elif line.kind in ("item", "continue"):
            self._kind = "item" if line.kind == "item" else "prose"
            self._begin, self._end, self._has_given = start, stop, False

    def _close(self, *, is_underlined: bool = False) -> Iterator[Sentence]:
        """What is left of the open block; one underlined sentence is a heading."""
        if self._kind is None:
            return
        given = list(self._give_ends(is_open=False))
        kind: Kind = self._kind
        rest = list(self._make(self._begin, self._end, kind))
        if is_underlined and rest and not self._has_given:
            rest = list(self._make(self._begin, self._end, "heading"))
        self._kind = None
        yield from given
        yield from rest

    def _give_ends(self, *, is_open: bool) -> Iterator[Sentence]:
        kind = self._kind
        if kind is None:
            return
        ends = list(
            find_ends(self._text, self._begin, self._end, is_open=is_open, at_marks=self._at_marks)
        )
        for end in ends:
            begin, self._begin = self._begin, end
            self._has_given = True
            yield from self._make(begin, end, kind)

    def _make(self, start: int, end: int, kind: Kind) -> Iterator[Sentence]:
        text = self._text
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        readable = " ".join(text[start:end].split())
        if kind == "row":
            readable = readable.strip("| ")
        if any(character.isalnum() for character in readable):
            yield Sentence(start, end, kind, readable)
