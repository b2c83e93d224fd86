"""Bounds of numbers as rules over their digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from models.structured.book import RuleBook, refuse

# A double tells numbers of so many digits apart, so that what is written keeps to the bounds.
_MAX_DIGITS = 15
_NUM_PLACES = 3
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
Digits = tuple[tuple[int, int], ...]


def write_number(schema: Mapping[str, Any], where: str, book: RuleBook, *, is_integer: bool) -> str:
    """The rule for a number of the schema.

    With bounds it has up to 15 digits, of which as many behind the point as the bounds have, or
    three. Raises `GrammarInvalid`.
    """
    bounds = {name: _read_bound(schema, name, where) for name in _BOUNDS if name in schema}
    if not bounds:
        return book.primitive("integer" if is_integer else "number")
    places = max(_NUM_PLACES, *(_num_places(bound) for bound in bounds.values()))
    alternatives: list[str] = []
    for num_places in range(0 if is_integer else places, -1, -1):
        low, high = _scale(bounds, num_places)
        largest = 10**_MAX_DIGITS - 1
        low, high = max(low, -largest), min(high, largest)
        alternatives += (f'"-" {text}' for text in _texts(max(1, -high), -low, num_places))
        alternatives += _texts(max(0, low), high, num_places)
    if not alternatives:
        raise refuse(where, f"lets no number of up to {_MAX_DIGITS} digits through")
    return book.add(" | ".join(alternatives))


def _read_bound(schema: Mapping[str, Any], name: str, where: str) -> Decimal:
    value = schema[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(f"{where}/{name}", "must be a number")
    bound = Decimal(repr(value))
    if abs(bound) >= 10**_MAX_DIGITS or _num_places(bound) > _MAX_DIGITS // 2:
        raise refuse(
            f"{where}/{name}",
            f"must have at most {_MAX_DIGITS} digits, {_MAX_DIGITS // 2} of them behind the point",
        )
    return bound


def _num_places(bound: Decimal) -> int:
    exponent = bound.normalize().as_tuple().exponent
    return max(0, -int(exponent))


def _scale(bounds: Mapping[str, Decimal], num_places: int) -> tuple[int, int]:
    """The least and the largest integer that, divided by 10**num_places, keep to the bounds."""
    factor = 10**num_places
    low, high = -(10**_MAX_DIGITS) + 1, 10**_MAX_DIGITS - 1
    for name, bound in bounds.items():
        scaled = bound * factor
        if name == "minimum":
            low = max(low, int(scaled.to_integral_value(ROUND_CEILING)))
        elif name == "exclusiveMinimum":
            low = max(low, int(scaled.to_integral_value(ROUND_FLOOR)) + 1)
        elif name == "maximum":
            high = min(high, int(scaled.to_integral_value(ROUND_FLOOR)))
        else:
            high = min(high, int(scaled.to_integral_value(ROUND_CEILING)) - 1)
    return low, high


def _texts(low: int, high: int, num_places: int) -> Iterator[str]:
    """Expressions for the numbers from `low` >= 0 to `high`, in units of 10**-num_places."""
    for width in range(1, _MAX_DIGITS - num_places + 1):
        length = width + num_places
        least = max(low, 0 if width == 1 else 10 ** (length - 1))
        most = min(high, 10**length - 1)
        if least > most:
            continue
        for digits in split_range(str(least).zfill(length), str(most).zfill(length)):
            point = ' "." ' if num_places else ""
            yield f"{_write(digits[:width])}{point}{_write(digits[width:])}"


def split_range(low: str, high: str) -> list[Digits]:
    """The digit strings from `low` to `high`, which have one length, as ranges of each digit."""
    if not low:
        return [()]
    if set(low) == {"0"} and set(high) == {"9"}:
        return [((0, 9),) * len(low)]
    first, last = int(low[0]), int(high[0])
    if first == last:
        return [((first, first), *rest) for rest in split_range(low[1:], high[1:])]
    tail = len(low) - 1
    found: list[Digits] = []
    if low[1:] != "0" * tail:
        found += [((first, first), *rest) for rest in split_range(low[1:], "9" * tail)]
        first += 1
    above: list[Digits] = []
    if high[1:] != "9" * tail:
        above = [((last, last), *rest) for rest in split_range("0" * tail, high[1:])]
        last -= 1
    if first <= last:
        found.append(((first, last), *((0, 9),) * tail))
    return found + above


def _write(digits: Digits) -> str:
    return " ".join(f"[{low}-{high}]" for low, high in digits)
