"""Types of values, and whether schemas can be told apart by what they allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from models.structured.book import refuse

_MAX_BRANCHES = 100


def read_types(value: Any, where: str, known: Sequence[str]) -> list[str]:
    """The names in a `type`, each once. Raises `GrammarInvalid`."""
    names = value if isinstance(value, list) else [value]
    if not names or any(name not in known for name in names):
        raise refuse(f"{where}/type", f"must be of {', '.join(known)}, or an array of them")
    return list(dict.fromkeys(names))


def fits_type(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a type of JSON schema."""
    if kind == "integer":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and float(value).is_integer()
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    classes: dict[str, type] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
    }
    return isinstance(value, classes[kind])


def are_disjoint(schemas: Sequence[Any], follow: Callable[[Any], Any]) -> bool:
    """Whether surely no value is allowed by two of `schemas`; `follow` resolves references."""
    return len(schemas) <= _MAX_BRANCHES and all(
        _tell_apart(a, b, follow) for a, b in combinations(schemas, 2)
    )


def _tell_apart(a: Any, b: Any, follow: Callable[[Any], Any]) -> bool:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return False
    types_a, types_b = _types(a), _types(b)
    if types_a and types_b and not types_a & types_b:
        return True
    values_a, values_b = _values(a), _values(b)
    if values_a and values_b:
        return not values_a & values_b
    if types_a != {"object"} or types_b != {"object"}:
        return False
    shared = set(_names(a)) & set(_names(b))
    for name in shared:
        tags_a, tags_b = (
            _values(tag) if isinstance(tag := follow(schema["properties"][name]), Mapping) else None
            for schema in (a, b)
        )
        if tags_a and tags_b and not tags_a & tags_b:
            return True
    return False


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema allows, integers counted as numbers; empty for any."""
    values = _listed(schema)
    if values is not None:
        kinds = ("object", "array", "string", "number", "boolean", "null")
        return {kind for kind in kinds for value in values if fits_type(value, kind)}
    kind = schema.get("type")
    names = kind if isinstance(kind, list) else [] if kind is None else [kind]
    return {"number" if name == "integer" else str(name) for name in names}


def _values(schema: Mapping[str, Any]) -> set[str] | None:
    """The values that a schema lists, as texts."""
    values = _listed(schema)
    return None if values is None else {_normal(value) for value in values}


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def _normal(value: Any) -> str:
    """One text for values that JSON schema takes for equal, 1 and 1.0 among them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _names(schema: Mapping[str, Any]) -> list[str]:
    """Properties that each object of a schema has."""
    required, properties = schema.get("required"), schema.get("properties")
    if not isinstance(required, list) or not isinstance(properties, Mapping):
        return []
    return [name for name in required if isinstance(name, str) and name in properties]
