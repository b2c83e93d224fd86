"""Regular expressions of a schema as grammar rules.

What Python's and JavaScript's dialects understand alike is understood; where their sets of
characters differ the smaller one is taken, so that what is written matches in both.
"""

from __future__ import annotations

import re

from models.structured.book import MAX_REPEATS, RuleBook, refuse
from models.structured.characters import (
    DIGITS,
    LINE_ENDS,
    SPACES,
    WORDS,
    Ranges,
    complement,
    subtract,
    unite,
    write_set,
)

_MAX_LENGTH = 2000
_MAX_DEPTH = 20
_ASCII: Ranges = ((0, 128),)
_CLASSES: dict[str, Ranges] = {
    "d": DIGITS,
    "w": WORDS,
    "s": SPACES,
    "D": subtract(_ASCII, DIGITS),
    "W": subtract(_ASCII, WORDS),
    "S": subtract(_ASCII, unite([SPACES, ((0x1C, 0x20),)])),
}
_CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11}
_COUNT = re.compile(r"\{(\d{1,6})(,(\d{0,6}))?\}")
_QUANTIFIERS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def write_pattern(pattern: str, where: str, book: RuleBook) -> str:
    """The rule for a JSON string that matches `pattern`. Raises `GrammarInvalid`."""
    if len(pattern) > _MAX_LENGTH:
        raise refuse(where, f"has more than {_MAX_LENGTH} characters")
    return _PatternReader(pattern, where, book).read()


class _PatternReader:
    def __init__(self, pattern: str, where: str, book: RuleBook) -> None:
        self._pattern = pattern
        self._where = where
        self._book = book
        self._position = 0
        self._any = f"{book.primitive('char')}*"

    def read(self) -> str:
        alternatives = [self._read_anchored()]
        while self._take("|"):
            alternatives.append(self._read_anchored())
        if self._position < len(self._pattern):
            raise self._refuse("has a ')' too many")
        return self._book.add(f'"\\"" ( {" | ".join(alternatives)} ) "\\""')

    def _read_anchored(self) -> str:
        is_first = not self._take("^")
        text, _ = self._read_sequence(0)
        is_last = not self._take("$")
        if self._peek() not in ("", "|", ")"):
            raise self._refuse("has '$' before its end")
        # The text around what a pattern without anchors finds is anything.
        return (
            f"{self._any if is_first else ''} {text} {self._any if is_last else ''}".strip() or '""'
        )

    def _read_sequence(self, depth: int) -> tuple[str, bool]:
        """Atoms up to what ends them; as an expression, and whether it may be empty."""
        if depth > _MAX_DEPTH:
            raise self._refuse(f"nests groups more than {_MAX_DEPTH} deep")
        parts: list[str] = []
        is_nullable = True
        while self._peek() not in ("", "|", ")", "$"):
            text, may_be_empty = self._read_quantified(depth)
            parts.append(text)
            is_nullable = is_nullable and may_be_empty
        return " ".join(part for part in parts if part) or '""', is_nullable

    def _read_quantified(self, depth: int) -> tuple[str, bool]:
        text, is_nullable = self._read_atom(depth)
        high: int | None
        if (mark := self._peek()) in _QUANTIFIERS and mark:
            self._position += 1
            low, high = _QUANTIFIERS[mark]
        elif found := _COUNT.match(self._pattern, self._position):
            self._position = found.end()
            low = int(found[1])
            high = low if found[2] is None else int(found[3]) if found[3] else None
            if max(low, high or 0) > MAX_REPEATS or (high is not None and high < low):
                raise self._refuse(f"repeats '{found[0]}' times")
        else:
            return text, is_nullable
        # Shortest first or longest first: the same texts match.
        self._take("?")
        if self._peek() in _QUANTIFIERS or _COUNT.match(self._pattern, self._position):
            raise self._refuse("has two quantifiers in a row")
        if is_nullable and high != 1:
            raise self._refuse("repeats a group that may be empty")
        return self._book.repeat(self._book.add(text), low, high), is_nullable or not low

    def _read_atom(self, depth: int) -> tuple[str, bool]:
        character = self._pattern[self._position]
        self._position += 1
        if character == "(":
            return self._read_group(depth)
        if character == "[":
            return self._write(self._read_class()), False
        if character == ".":
            return self._write(complement(LINE_ENDS)), False
        if character == "\\":
            return self._write(self._read_escape()), False
        if character in "*+?^{}":
            raise self._refuse(f"has '{character}' where it means nothing")
        return self._write(((ord(character), ord(character) + 1),)), False

    def _read_group(self, depth: int) -> tuple[str, bool]:
        if self._peek() == "?":
            if not self._pattern.startswith("?:", self._position):
                raise self._refuse("has a group '(?' of another kind than '(?:'")
            self._position += 2
        found = [self._read_sequence(depth + 1)]
        while self._take("|"):
            found.append(self._read_sequence(depth + 1))
        if not self._take(")"):
            raise self._refuse("has '^' or '$' inside a group, or a group without its ')'")
        return f"( {' | '.join(text for text, _ in found)} )", any(null for _, null in found)

    def _read_class(self) -> Ranges:
        is_negated = self._take("^")
        sets: list[Ranges] = []
        while not self._take("]"):
            low = self._read_member()
            if self._peek() == "-" and self._pattern[self._position + 1 :][:1] not in ("", "]"):
                self._position += 1
                high = self._read_member()
                if _size(low) != 1 or _size(high) != 1 or high[0][0] < low[0][0]:
                    raise self._refuse("has a range in '[...]' that goes from nowhere to nowhere")
                low = ((low[0][0], high[0][1]),)
            sets.append(low)
        if not sets:
            raise self._refuse("has an empty '[]'")
        ranges = unite(sets)
        return complement(ranges) if is_negated else subtract(ranges, ((0xD800, 0xE000),))

    def _read_member(self) -> Ranges:
        character = self._peek()
        if not character:
            raise self._refuse("has a '[' without its ']'")
        self._position += 1
        if character == "\\":
            return self._read_escape()
        if character == "[":
            raise self._refuse("has a '[' in '[...]'; write '\\['")
        return ((ord(character), ord(character) + 1),)

    def _read_escape(self) -> Ranges:
        character = self._peek()
        self._position += 1
        if character in _CLASSES and character:
            return _CLASSES[character]
        if character in _CONTROLS and character:
            code = _CONTROLS[character]
        elif character in ("x", "u"):
            length = 2 if character == "x" else 4
            digits = self._pattern[self._position : self._position + length]
            if not re.fullmatch(f"[0-9a-fA-F]{{{length}}}", digits):
                raise self._refuse(f"has '\\{character}' without its {length} digits")
            self._position += length
            code = int(digits, 16)
        elif not character or character.isalnum():
            raise self._refuse(f"has '\\{character}', which is not supported")
        else:
            code = ord(character)
        return ((code, code + 1),)

    def _write(self, ranges: Ranges) -> str:
        text = write_set(ranges)
        if text is None:
            raise self._refuse("wants a character that JSON strings are not written with here")
        return text

    def _peek(self) -> str:
        return self._pattern[self._position : self._position + 1]

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._position += 1
        return True

    def _refuse(self, reason: str) -> Exception:
        return refuse(self._where, reason)


def _size(ranges: Ranges) -> int:
    return sum(end - start for start, end in ranges)
