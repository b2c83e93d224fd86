"""A validator for the part of JSON schema that is served, written apart from what is tested."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

_ANNOTATIONS = {"$defs", "title", "description", "default"}


def is_valid(value: Any, schema: Any, root: Any = None) -> bool:
    """Whether `value` is allowed by `schema`; an unknown keyword is an error."""
    if isinstance(schema, bool):
        return schema
    root = schema if root is None else root
    return all(
        _RULES[name](value, asked, schema, root)
        for name, asked in schema.items()
        if name not in _ANNOTATIONS
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _type(value: Any, asked: Any, _schema: Any, _root: Any) -> bool:
    checks = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "number": _is_number(value),
        "integer": _is_number(value) and value == int(value),
        "boolean": isinstance(value, bool),
        "null": value is None,
    }
    return any(checks[name] for name in (asked if isinstance(asked, list) else [asked]))


def _properties(value: Any, asked: Any, _schema: Any, root: Any) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(value[name], inner, root) for name, inner in asked.items() if name in value
    )


def _others(value: Any, asked: Any, schema: Any, root: Any) -> bool:
    return not isinstance(value, dict) or all(
        is_valid(inner, asked, root)
        for name, inner in value.items()
        if name not in schema.get("properties", {})
    )


def _items(value: Any, asked: Any, schema: Any, root: Any) -> bool:
    start = len(schema.get("prefixItems", []))
    return not isinstance(value, list) or all(is_valid(v, asked, root) for v in value[start:])


def _prefix(value: Any, asked: Any, _schema: Any, root: Any) -> bool:
    return not isinstance(value, list) or all(
        is_valid(v, inner, root) for v, inner in zip(value, asked, strict=False)
    )


def _ref(value: Any, asked: str, _schema: Any, root: Any) -> bool:
    found = root
    for part in asked.split("/")[1:]:
        found = found[int(part)] if isinstance(found, list) else found[part]
    return is_valid(value, found, root)


def _format(value: Any, asked: str, _schema: Any, _root: Any) -> bool:
    if not isinstance(value, str):
        return True
    parsers: dict[str, Any] = {
        "date": datetime.date.fromisoformat,
        "time": datetime.time.fromisoformat,
        "date-time": datetime.datetime.fromisoformat,
    }
    try:
        parsers[asked](value)
    except ValueError:
        return False
    return True


def _bound(test: Any) -> Any:
    return lambda value, asked, *_: (
        not _is_number(value) or test(Decimal(repr(value)), Decimal(repr(asked)))
    )


def _size(kind: Any, test: Any) -> Any:
    return lambda value, asked, *_: not isinstance(value, kind) or test(len(value), asked)


_RULES: dict[str, Any] = {
    "type": _type,
    "const": lambda value, asked, *_: _equal(value, asked),
    "enum": lambda value, asked, *_: any(_equal(value, other) for other in asked),
    "anyOf": lambda v, asked, _, root: any(is_valid(v, inner, root) for inner in asked),
    "oneOf": lambda v, asked, _, root: sum(is_valid(v, inner, root) for inner in asked) == 1,
    "allOf": lambda v, asked, _, root: all(is_valid(v, inner, root) for inner in asked),
    "$ref": _ref,
    "properties": _properties,
    "required": lambda v, asked, *_: not isinstance(v, dict) or all(name in v for name in asked),
    "additionalProperties": _others,
    "items": _items,
    "prefixItems": _prefix,
    "minItems": _size(list, lambda size, asked: size >= asked),
    "maxItems": _size(list, lambda size, asked: size <= asked),
    "minLength": _size(str, lambda size, asked: size >= asked),
    "maxLength": _size(str, lambda size, asked: size <= asked),
    "pattern": lambda v, asked, *_: not isinstance(v, str) or bool(re.search(asked, v)),
    "format": _format,
    "minimum": _bound(lambda value, bound: value >= bound),
    "maximum": _bound(lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound(lambda value, bound: value > bound),
    "exclusiveMaximum": _bound(lambda value, bound: value < bound),
}
