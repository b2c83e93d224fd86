"""Strings of a schema: their lengths, patterns and formats, and names that others have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from models.gbnf import quote_point
from models.structured.book import MAX_REPEATS, RuleBook, refuse
from models.structured.characters import write_set
from models.structured.patterns import write_pattern

_MAX_NAME_CHARACTERS = 10_000
_LABEL = "[a-z0-9]{1,10}(?:-[a-z0-9]{1,10}){0,3}"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DATE = (
    "[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = (
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
_HEX = "[0-9a-f]"
# Each is a part of what its format allows, so that every checker accepts it.
FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": "P(?:[0-9]{1,3}D(?:T[0-9]{1,2}H)?|T[0-9]{1,4}[HMS]|[0-9]{1,3}[WMY])",
    "email": rf"[a-z0-9]{{1,30}}(?:[._-][a-z0-9]{{1,10}}){{0,3}}@{_LABEL}(?:\.{_LABEL}){{1,3}}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": f"(?:{_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}",
    "uri": rf"https?://{_HOST}(?:/[A-Za-z0-9._~-]{{1,100}}){{0,8}}/?",
    "uuid": f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
}


def write_string(schema: Mapping[str, Any], where: str, book: RuleBook) -> str:
    """The rule for a string of the schema. Raises `GrammarInvalid`."""
    kinds = [name for name in ("pattern", "format", "minLength", "maxLength") if name in schema]
    if not kinds:
        return book.primitive("string")
    if "pattern" in schema or "format" in schema:
        if len(kinds) > 1:
            raise refuse(where, f"combines {' and '.join(f'{k!r}' for k in kinds)}; keep one")
        value = schema[kinds[0]]
        if not isinstance(value, str):
            raise refuse(f"{where}/{kinds[0]}", "must be a string")
        if kinds == ["pattern"]:
            return write_pattern(value, f"{where}/pattern", book)
        if value not in FORMATS:
            raise refuse(
                f"{where}/format", f"is {value[:40]!r}; supported are {', '.join(FORMATS)}"
            )
        return write_pattern(f"^(?:{FORMATS[value]})$", f"{where}/format", book)
    low, high = read_counts(schema, "minLength", "maxLength", where)
    return book.add(f'"\\"" {book.repeat(book.primitive("char"), low, high)} "\\""')


def read_counts(
    schema: Mapping[str, Any], least: str, most: str, where: str
) -> tuple[int, int | None]:
    """A least and a greatest number; one that no answer could reach is as good as none.

    Raises `GrammarInvalid`.
    """
    counts: list[int] = []
    for name in (least, most):
        value = schema.get(name, 0)
        is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not is_whole or value < 0:
            raise refuse(f"{where}/{name}", "must be a whole number from 0 on")
        counts.append(int(value))
    low, high = counts
    if most in schema and high < low:
        raise refuse(f"{where}/{most}", f"is below '{least}'")
    if low > MAX_REPEATS:
        raise refuse(f"{where}/{least}", f"can be {MAX_REPEATS} at most")
    return low, min(high, MAX_REPEATS) if most in schema else None


def write_other_name(names: Collection[str], book: RuleBook, where: str) -> str:
    """The rule for a string that is none of `names`, written without escapes.

    With them a name could be spelt in a way that is not seen to be the same.
    """
    if sum(map(len, names)) > _MAX_NAME_CHARACTERS:
        raise refuse(where, "has too many names beside 'additionalProperties'")
    plain = f"{book.primitive('plain')}*"
    nexts: dict[str, set[str]] = {"": set()}
    for name in names:
        for i, character in enumerate(name):
            nexts.setdefault(name[:i], set()).add(character)
            nexts.setdefault(name[: i + 1], set())
    rules = {prefix: book.reserve() for prefix in nexts}
    for prefix, characters in nexts.items():
        codes = "".join(quote_point(ord(c)) for c in sorted(characters))
        ways = [rf'[^"\\\x00-\x1F{codes}] {plain}']
        for character in sorted(characters):
            code = ord(character)
            # A character that must be escaped is not written, and neither is what follows it.
            if (text := write_set(((code, code + 1),))) and text.startswith("["):
                ways.append(f"{text} {rules[prefix + character]}")
        text = f"( {' | '.join(ways)} )"
        book.define(rules[prefix], text if prefix in names else f"{text}?")
    return book.add(f'"\\"" {rules[""]} "\\""')
