"""A JSON schema to the grammar of the JSON that it allows.

Everything that the grammar writes validates; not everything that validates is written: objects have
the properties in the schema's order and no others unless it says so, and the layout is that of
Python's `json`, which leaves a model fewer ways to lose itself and the engine more to jump over.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from models.structured.book import RuleBook, refuse
from models.structured.containers import ContainerWriter
from models.structured.numbers import write_number
from models.structured.strings import write_string
from models.structured.unions import are_disjoint, fits_type, read_types

_MAX_SCHEMA_BYTES = 100_000
_MAX_DEPTH = 32
_MAX_ENUM = 1000

ANNOTATIONS = frozenset(
    "$comment $schema contentEncoding contentMediaType default deprecated description example"
    " examples readOnly strict title writeOnly".split()
)
# Where schemas are kept for '$ref'; nothing is asked of a value by them.
_SHELVES = frozenset(("$defs", "definitions"))
_BY_TYPE = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "format", "minLength", "maxLength"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}
_WHOLE = ("$ref", "allOf", "anyOf", "oneOf", "const", "enum")
SUPPORTED = (*_WHOLE, "type", *(name for names in _BY_TYPE.values() for name in names))
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def grammar_of_schema(schema: Mapping[str, Any] | bool) -> str:
    """GBNF with a `root` rule for the JSON that `schema` allows.

    Raises `GrammarInvalid` in one line for what is no schema, is not supported, could not end, or
    is too large. Takes milliseconds for whatever a client may send.
    """
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except ValueError:
        raise refuse("#", "holds a number that JSON cannot") from None
    if size > _MAX_SCHEMA_BYTES:
        raise refuse("#", f"has {size} characters; {_MAX_SCHEMA_BYTES} are the most")
    return _SchemaWriter(schema).write()


def grammar_of_any_object() -> str:
    """GBNF for any JSON object."""
    book = RuleBook()
    return book.finish(book.primitive("object"))


class _SchemaWriter:
    def __init__(self, root: Mapping[str, Any] | bool) -> None:
        self._root = root
        self._book = RuleBook()
        self._containers = ContainerWriter(self._book, self.convert)
        # By JSON pointer: rules of what is referred to, written one after the other.
        self._names: dict[str, str] = {}
        self._waiting: deque[tuple[str, str, Any]] = deque()

    def write(self) -> str:
        start = self.convert(self._root, "#", 0)
        while self._waiting:
            name, pointer, schema = self._waiting.popleft()
            self._book.unite([self.convert(schema, pointer, 0)], name)
        return self._book.finish(start)

    def convert(self, schema: Any, where: str, depth: int) -> str:
        """The rule for a value of `schema`, which stands at the JSON pointer `where`."""
        if schema is True:
            return self._book.primitive("value")
        if schema is False:
            raise refuse(where, "is false, which lets no value through")
        if not isinstance(schema, Mapping):
            raise refuse(where, "must be an object or a boolean")
        if depth > _MAX_DEPTH:
            raise refuse(where, f"is nested more than {_MAX_DEPTH} deep")
        asked = {name: value for name, value in schema.items() if name not in ANNOTATIONS}
        self._check_names(asked, where)
        whole = next((name for name in _WHOLE if name in asked), None)
        if whole is None:
            return self._convert_types(asked, where, depth)
        others = [n for n in asked if n not in {whole, "type", "$id"} | _SHELVES]
        if others:
            raise refuse(where, f"has '{others[0]}' beside '{whole}', which is not supported")
        if whole in ("const", "enum"):
            return self._convert_values(asked, whole, where)
        if whole == "$ref":
            return self._refer(asked, where)
        return self._convert_branches(asked, whole, where, depth)

    def _check_names(self, asked: Mapping[str, Any], where: str) -> None:
        for name, value in asked.items():
            if name in SUPPORTED or name in _SHELVES or (name == "$id" and where == "#"):
                continue
            if (name, value) in (("uniqueItems", False), ("nullable", False)):
                continue
            raise refuse(
                where,
                f"has '{name[:40]}', which is not supported; supported are {', '.join(SUPPORTED)}",
            )

    def _convert_types(self, asked: Mapping[str, Any], where: str, depth: int) -> str:
        if "type" in asked:
            types = read_types(asked["type"], where, _TYPES)
        else:
            types = [kind for kind, names in _BY_TYPE.items() if any(n in asked for n in names)]
        if not types:
            return self._book.primitive("value")
        if "number" in types and "integer" in types:
            # Each integer is a number.
            types.remove("integer")
        rules = [self._convert_type(kind, asked, where, depth) for kind in types]
        return rules[0] if len(rules) == 1 else self._book.unite(rules)

    def _convert_type(self, kind: str, asked: Mapping[str, Any], where: str, depth: int) -> str:
        if kind == "object":
            return self._containers.write_object(asked, where, depth)
        if kind == "array":
            return self._containers.write_array(asked, where, depth)
        if kind == "string":
            return write_string(asked, where, self._book)
        if kind in ("number", "integer"):
            return write_number(asked, where, self._book, is_integer=kind == "integer")
        return self._book.primitive(kind)

    def _convert_values(self, asked: Mapping[str, Any], name: str, where: str) -> str:
        values = [asked["const"]] if name == "const" else asked["enum"]
        if not isinstance(values, list) or not values or len(values) > _MAX_ENUM:
            raise refuse(f"{where}/{name}", f"must be an array of 1 to {_MAX_ENUM} values")
        if "type" in asked:
            types = read_types(asked["type"], where, _TYPES)
            values = [value for value in values if any(fits_type(value, kind) for kind in types)]
            if not values:
                raise refuse(f"{where}/{name}", "has no value of the 'type' beside it")
        texts = [json.dumps(value, ensure_ascii=False, allow_nan=False) for value in values]
        return self._book.choose_text(texts)

    def _convert_branches(self, asked: Mapping[str, Any], name: str, where: str, depth: int) -> str:
        branches = asked[name]
        if not isinstance(branches, list) or not branches:
            raise refuse(f"{where}/{name}", "must be an array of schemas")
        if name == "allOf" and len(branches) > 1:
            raise refuse(f"{where}/allOf", "has more than one schema, which is not supported")
        if "type" in asked:
            branches = [_add_type(branch, asked["type"], where) for branch in branches]
        if name == "oneOf":
            seen = [self._follow(branch, where) for branch in branches]
            if not are_disjoint(seen, lambda schema: self._follow(schema, where)):
                raise refuse(
                    f"{where}/oneOf",
                    "has schemas that one value may match together; use 'anyOf', or give each a"
                    " 'type' or a required property with a 'const' of its own",
                )
        rules = [
            self.convert(branch, f"{where}/{name}/{i}", depth + 1)
            for i, branch in enumerate(branches)
        ]
        return rules[0] if len(rules) == 1 else self._book.unite(rules)

    def _refer(self, asked: Mapping[str, Any], where: str) -> str:
        if "type" in asked:
            raise refuse(where, "has 'type' beside '$ref', which is not supported")
        pointer = asked["$ref"]
        schema = self._find(pointer, where)
        if pointer not in self._names:
            self._names[pointer] = self._book.reserve()
            self._waiting.append((self._names[pointer], pointer, schema))
        return self._names[pointer]

    def _follow(self, schema: Any, where: str) -> Any:
        """What a schema that only refers to others leads to."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, Mapping) or "$ref" not in schema:
                break
            schema = self._find(schema["$ref"], where)
        return schema

    def _find(self, pointer: object, where: str) -> Any:
        if not isinstance(pointer, str) or not re.match(r"#(/|$)", pointer):
            raise refuse(f"{where}/$ref", "must begin with '#/': only this schema is read")
        found: Any = self._root
        for part in pointer.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, Sequence) and key.isdecimal() and int(key[:6]) < len(found):
                found = found[int(key[:6])]
            else:
                raise refuse(f"{where}/$ref", f"leads nowhere: there is no {pointer[:80]!r}")
        return found


def _add_type(branch: Any, kind: Any, where: str) -> Any:
    """A branch of a schema that has a `type` beside its branches."""
    if not isinstance(branch, Mapping):
        return branch
    if branch.get("type", kind) != kind or any(name in branch for name in _WHOLE):
        raise refuse(where, "has a 'type' that cannot be joined with its branches")
    return {"type": kind, **branch}
