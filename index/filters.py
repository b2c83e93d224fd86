"""Filters over the attributes of documents: read from JSON, compiled to parameterised SQL.

The JSON is that of OpenAI's vector stores: `{"type": "eq", "key": "team", "value": "hr"}`, and
`{"type": "and", "filters": [...]}`, nested at will.

- `eq`, `ne`, `gt`, `gte`, `lt`, `lte` compare with one value, `in` and `nin` with a list.
- A document that lacks the key satisfies no comparison, `ne` and `nin` neither, as NULL in SQL.
- Values of different kinds are never equal and have no order: the number 1, the string "1" and
  true are three values. Numbers are ordered by size, strings by code point (so ISO dates by time).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from index.errors import FilterInvalid

Value = str | int | float | bool
Comparator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Connective = Literal["and", "or"]

MAX_COMPARISONS = 100
MAX_VALUES = 1000
MAX_DEPTH = 16

_COMPARATORS: tuple[str, ...] = get_args(Comparator)
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_INTEGER = 1 << 63


@dataclass(frozen=True, slots=True)
class Comparison:
    """One attribute compared with the `values`: several for `in` and `nin`, otherwise one."""

    comparator: Comparator
    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Combination:
    """All ("and") or any ("or") of the filters."""

    connective: Connective
    filters: tuple[Filter, ...]


Filter = Comparison | Combination


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that is true of a document's id, and what its marks stand for."""

    sql: str
    values: tuple[object, ...]


def parse_filter(data: object, param: str = "filters") -> Filter:
    """The filter that a JSON value describes. Raises `FilterInvalid`, which names the place."""
    num_comparisons = 0

    def parse(node: object, place: str, depth: int) -> Filter:
        nonlocal num_comparisons
        if not isinstance(node, Mapping):
            raise FilterInvalid(f"{place} must be an object with a 'type'.", param=place)
        kind = node.get("type")
        if kind in ("and", "or"):
            if depth == MAX_DEPTH:
                raise FilterInvalid(f"{place} is nested over {MAX_DEPTH} deep.", param=place)
            _check_fields(node, ("type", "filters"), place)
            inner = node["filters"]
            if not isinstance(inner, list) or not inner:
                raise FilterInvalid(f"{place}.filters must list at least one filter.", param=place)
            members = (
                parse(item, f"{place}.filters[{at}]", depth + 1) for at, item in enumerate(inner)
            )
            return Combination(cast(Connective, kind), tuple(members))
        if kind not in _COMPARATORS:
            raise FilterInvalid(
                f"{place}.type is {kind!r}; use one of and, or, {', '.join(_COMPARATORS)}.",
                param=f"{place}.type",
            )
        num_comparisons += 1
        if num_comparisons > MAX_COMPARISONS:
            raise FilterInvalid(f"{param} holds over {MAX_COMPARISONS} comparisons.", param=param)
        return _parse_comparison(node, cast(Comparator, kind), place)

    return parse(data, param, 0)


def check_attributes(attributes: Mapping[str, object]) -> None:
    """Raise `FilterInvalid` unless every attribute has a name and a value that can be compared."""
    for key, value in attributes.items():
        if not key:
            raise FilterInvalid("An attribute needs a name.", param="attributes")
        _check_value(value, f"attributes.{key}")


def kind_of(value: Value) -> str:
    """What a value is compared with: "boolean", "number" or "string"."""
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def compile_filter(filters: Filter, collection_id: int, column: str) -> Condition:
    """The filter as a condition on `column`, which holds ids of documents of the collection."""
    if isinstance(filters, Combination):
        parts = [compile_filter(inner, collection_id, column) for inner in filters.filters]
        joined = f" {filters.connective.upper()} ".join(part.sql for part in parts)
        return Condition(f"({joined})", tuple(value for part in parts for value in part.values))
    test, values = _compile_test(filters)
    return Condition(
        f"{column} IN (SELECT document_id FROM document_attributes"  # noqa: S608
        f" WHERE collection_id = ? AND key = ? AND {test})",
        (collection_id, filters.key, *values),
    )


def _compile_test(comparison: Comparison) -> tuple[str, list[object]]:
    kinds: dict[str, list[Value]] = {}
    for value in comparison.values:
        kinds.setdefault(kind_of(value), []).append(value)
    order = _ORDERS.get(comparison.comparator)
    if order is not None:
        ((kind, (value,)),) = kinds.items()
        return f"kind = ? AND value {order} ?", [kind, value]
    if comparison.comparator in ("eq", "ne"):
        ((kind, (value,)),) = kinds.items()
        negation = "" if comparison.comparator == "eq" else "NOT "
        return f"{negation}(kind = ? AND value = ?)", [kind, value]
    tests, bound = [], list[object]()
    for kind, members in kinds.items():
        # As JSON a list is one parameter, of which SQLite allows 32,766.
        tests.append("(kind = ? AND value IN (SELECT value FROM json_each(?)))")
        bound += [kind, json.dumps(members)]
    equal = f"({' OR '.join(tests) or '0'})"
    return (equal if comparison.comparator == "in" else f"NOT {equal}"), bound


def _parse_comparison(node: Mapping[str, object], comparator: Comparator, place: str) -> Comparison:
    _check_fields(node, ("type", "key", "value"), place)
    key, value = node["key"], node["value"]
    if not isinstance(key, str) or not key:
        raise FilterInvalid(f"{place}.key must be the name of an attribute.", param=f"{place}.key")
    at = f"{place}.value"
    if comparator not in ("in", "nin"):
        checked = _check_value(value, at)
        if comparator in _ORDERS and isinstance(checked, bool):
            raise FilterInvalid(f"{at} is a boolean, which {comparator} cannot order.", param=at)
        return Comparison(comparator, key, (checked,))
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise FilterInvalid(f"{at} must be a list of at most {MAX_VALUES} values.", param=at)
    values = tuple(_check_value(item, f"{at}[{index}]") for index, item in enumerate(value))
    return Comparison(comparator, key, values)


def _check_fields(node: Mapping[str, object], fields: Sequence[str], place: str) -> None:
    for name in fields:
        if name not in node:
            raise FilterInvalid(f"{place} lacks {name!r}.", param=f"{place}.{name}")
    for name in node:
        if name not in fields:
            raise FilterInvalid(f"{place} has an unknown field {name!r}.", param=f"{place}.{name}")


def _check_value(value: object, place: str) -> Value:
    if not isinstance(value, str | int | float):
        raise FilterInvalid(f"{place} must be a string, number or boolean.", param=place)
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise FilterInvalid(f"{place} holds half a character.", param=place)
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterInvalid(f"{place} is not a finite number.", param=place)
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise FilterInvalid(f"{place} is an integer of over 64 bits.", param=place)
    return value
