"""Texts that keep their identity through a template.

A chat template may trim, split or compare what it renders. `MarkedText` answers all that as the
real text would, but is carried into the output as a mark that nobody can guess, so that afterwards
scaffold and content can be told apart with certainty.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, SupportsIndex


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rendered text; `source` is the index of the content it stems from, else None."""

    text: str
    source: int | None = None

    @property
    def is_content(self) -> bool:
        """Whether the text is data: never parsed for control tokens."""
        return self.source is not None


class Marks:
    """The marks of one rendering. Digits and punctuation only: no filter changes them."""

    def __init__(self) -> None:
        self._nonce = f"{secrets.randbelow(10**18):018d}"
        self._pattern = re.compile(rf"~{self._nonce}#(\d+)~")
        self._contents: list[Segment] = []

    def mark(self, text: str, source: int) -> MarkedText:
        """Return a stand-in for `text` that `segments` recognises."""
        if not text:
            return MarkedText("", self)
        self._contents.append(Segment(text, source))
        return MarkedText(f"~{self._nonce}#{len(self._contents) - 1}~", self)

    def segments(self, rendered: str) -> list[Segment]:
        """Split rendered text at its marks, the content put back; empty runs left out.

        Raises `ValueError` if a mark was damaged.
        """
        rendered = str.__add__(rendered, "")  # Plain, should it be marked itself.
        found: list[Segment] = []
        position = 0
        for match in self._pattern.finditer(rendered):
            found.append(Segment(rendered[position : match.start()]))
            index = int(match[1])
            if index >= len(self._contents):
                raise ValueError("a mark was changed")
            found.append(self._contents[index])
            position = match.end()
        found.append(Segment(rendered[position:]))
        if any(self._nonce in run.text for run in found if not run.is_content):
            raise ValueError("a mark was changed")
        return [run for run in found if run.text]


def _real(value: object) -> object:
    return value._real() if isinstance(value, MarkedText) else value


class MarkedText(str):
    """Behaves as the text it stands for; its raw characters hold marks instead of content."""

    _marks: Marks

    def __new__(cls, raw: str, marks: Marks) -> MarkedText:
        text = super().__new__(cls, raw)
        text._marks = marks
        return text

    def _runs(self) -> list[Segment]:
        # The methods of `str` on our raw characters, not the overridden ones.
        return self._marks.segments(str.__add__(self, ""))

    def _real(self) -> str:
        return "".join(run.text for run in self._runs())

    def _join(self, runs: Iterable[Segment]) -> MarkedText:
        raw = "".join(
            run.text if run.source is None else self._marks.mark(run.text, run.source)
            for run in runs
        )
        return MarkedText(raw, self._marks)

    def _slice(self, start: int, end: int) -> MarkedText:
        """The part between two offsets of the real text."""
        kept, position = [], 0
        for run in self._runs():
            first, last = max(start - position, 0), end - position
            if last > first:
                kept.append(Segment(run.text[first:last], run.source))
            position += len(run.text)
        return self._join(kept)

    def _locate(self, pieces: Iterable[str], gap: int = 0) -> list[MarkedText]:
        """Marked slices for parts of the real text given in their order."""
        real, position, found = self._real(), 0, []
        for piece in pieces:
            start = real.index(piece, position)
            found.append(self._slice(start, start + len(piece)))
            position = start + len(piece) + gap
        return found

    def _map(self, change: Callable[[str], str]) -> MarkedText:
        return self._join(Segment(change(run.text), run.source) for run in self._runs())

    def escape_content(self) -> MarkedText:
        """The text with its content escaped as JSON strings want it."""
        return self._join(
            Segment(json.dumps(run.text, ensure_ascii=False)[1:-1], run.source)
            if run.is_content
            else run
            for run in self._runs()
        )

    def __str__(self) -> MarkedText:
        return self

    def __len__(self) -> int:
        return len(self._real())

    def __hash__(self) -> int:
        return hash(self._real())

    def __eq__(self, other: object) -> bool:
        return self._real() == _real(other)

    def __ne__(self, other: object) -> bool:
        return self._real() != _real(other)

    def __contains__(self, part: object) -> bool:
        return str(_real(part)) in self._real()

    def __iter__(self) -> Iterator[MarkedText]:
        return (self._slice(i, i + 1) for i in range(len(self)))

    def __getitem__(self, key: SupportsIndex | slice) -> MarkedText:
        length = len(self)
        if not isinstance(key, slice):
            index = range(length)[key]
            return self._slice(index, index + 1)
        start, end, step = key.indices(length)
        if step == 1:
            return self._slice(start, end)
        parts = [str.__add__(self._slice(i, i + 1), "") for i in range(start, end, step)]
        return MarkedText("".join(parts), self._marks)

    def __add__(self, other: str) -> MarkedText:
        return MarkedText(str.__add__(self, other), self._marks)

    def __radd__(self, other: str) -> MarkedText:
        return MarkedText(str.__add__(other, self), self._marks)

    def strip(self, chars: str | None = None, /) -> MarkedText:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> MarkedText:
        real = self._real()
        return self._slice(len(real) - len(real.lstrip(chars)), len(real))

    def rstrip(self, chars: str | None = None, /) -> MarkedText:
        return self._slice(0, len(self._real().rstrip(chars)))

    def removeprefix(self, prefix: str, /) -> MarkedText:
        real = self._real()
        return self._slice(len(real) - len(real.removeprefix(prefix)), len(real))

    def removesuffix(self, suffix: str, /) -> MarkedText:
        return self._slice(0, len(self._real().removesuffix(suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._locate(self._real().split(sep, maxsplit), len(sep or ""))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[Any]:
        return self._locate(self._real().rsplit(sep, maxsplit), len(sep or ""))

    def splitlines(self, keepends: bool = False) -> list[Any]:
        return self._locate(self._real().splitlines(keepends))

    def partition(self, sep: str, /) -> Any:
        return tuple(self._locate(self._real().partition(sep)))

    def rpartition(self, sep: str, /) -> Any:
        return tuple(self._locate(self._real().rpartition(sep)))

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> MarkedText:
        if not old:
            return self
        return MarkedText(new.join(self.split(old, count)), self._marks)

    def upper(self) -> MarkedText:
        return self._map(str.upper)

    def lower(self) -> MarkedText:
        return self._map(str.lower)

    def title(self) -> MarkedText:
        return self._map(str.title)

    def capitalize(self) -> MarkedText:
        return self._map(str.capitalize)


def _predicate(name: str) -> Callable[..., Any]:
    def ask(self: MarkedText, *args: object) -> Any:
        return getattr(self._real(), name)(*map(_real, args))

    ask.__name__ = name
    return ask


# What only looks at a text is asked of the real one.
_LOOKS = "startswith endswith find rfind index rindex count __lt__ __le__ __gt__ __ge__"
_TESTS = "space digit alpha alnum upper lower numeric decimal title identifier printable ascii"
for _name in [*_LOOKS.split(), *(f"is{kind}" for kind in _TESTS.split())]:
    setattr(MarkedText, _name, _predicate(_name))
