"""Objects and arrays of a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from models.gbnf import quote_literal
from models.structured.book import RuleBook, refuse
from models.structured.strings import read_counts, write_other_name

# So many places where an object may go on are looked at for each token.
_MAX_OPTIONAL = 200
# Rule for a value of a schema, its JSON pointer and how deep it is nested.
Convert = Callable[[Any, str, int], str]


class ContainerWriter:
    """Writes the rules of objects and arrays; `convert` those of what is in them."""

    def __init__(self, book: RuleBook, convert: Convert) -> None:
        self._book = book
        self._convert = convert

    def write_object(self, schema: Mapping[str, Any], where: str, depth: int) -> str:
        """The rule for an object: the listed properties in their order, then others if allowed."""
        properties = schema.get("properties", {})
        if not isinstance(properties, Mapping):
            raise refuse(f"{where}/properties", "must be an object")
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise refuse(f"{where}/required", "must be an array of strings")
        if not properties and not required and "additionalProperties" not in schema:
            return self._book.primitive("object")
        others = schema.get("additionalProperties")
        properties = dict(properties)
        for name in required:
            if name in properties:
                continue
            if others is False:
                raise refuse(
                    f"{where}/required",
                    f"names {name[:40]!r}, which 'additionalProperties' does not allow",
                )
            properties[name] = True if others is None else others
        if len(properties) - len(set(required)) > _MAX_OPTIONAL:
            raise refuse(where, f"has more than {_MAX_OPTIONAL} optional properties")
        members: list[tuple[str, str, bool]] = []
        for name, value in properties.items():
            place = f"{where}/properties/{name.replace('~', '~0').replace('/', '~1')}"
            if value is False and name not in required:
                continue
            rule = self._convert(value, place, depth + 1)
            key = quote_literal(json.dumps(name, ensure_ascii=False) + ": ")
            members.append((f"{key} {rule}", rule, name in required))
        extra = None
        if others not in (None, False):
            rule = self._convert(others, f"{where}/additionalProperties", depth + 1)
            key = write_other_name(properties, self._book, where)
            extra = self._book.add(f'{key} ": " {rule}', [[rule]])
        return self._join(members, extra)

    def _join(self, members: list[tuple[str, str, bool]], extra: str | None) -> str:
        """Members with commas between those that are there.

        Two chains of rules: of what may follow when nothing has been written yet, and else.
        """
        needed = [rule for _, rule, is_required in members if is_required]
        rest = self._book.add(f'( ", " {extra} )*') if extra else ""
        first = f"( {extra} {rest} )?" if extra else ""
        has_required = False
        for text, _, is_required in reversed(members):
            if is_required:
                first, has_required = f"{text} {rest}", True
                rest = self._book.add(f'", " {text} {rest}')
            else:
                ways = [f"{text} {rest}", *([first] if first else [])]
                # Without it, an object that has only optional members could not be empty.
                chain = self._book.add(" | ".join(ways))
                first = chain if has_required or first.endswith("?") else f"{chain}?"
                rest = self._book.add(f'( ", " {text} )? {rest}')
        return self._book.add(f'"{{" {first} "}}"', [needed])

    def write_array(self, schema: Mapping[str, Any], where: str, depth: int) -> str:
        """The rule for an array; one with `prefixItems` has all of them."""
        low, high = read_counts(schema, "minItems", "maxItems", where)
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", True)
        if not isinstance(prefix, list):
            raise refuse(f"{where}/prefixItems", "must be an array of schemas")
        if isinstance(items, list):
            raise refuse(f"{where}/items", "must be one schema; use 'prefixItems' for several")
        prefix = prefix if high is None else prefix[:high]
        firsts = [
            self._convert(item, f"{where}/prefixItems/{i}", depth + 1)
            for i, item in enumerate(prefix)
        ]
        low = max(0, low - len(firsts))
        high = None if high is None else high - len(firsts)
        if items is False or high == 0:
            if low:
                raise refuse(where, "wants more items than it allows")
            body = ' ", " '.join(firsts)
            return self._book.add(f'"[" {body} "]"', [firsts])
        item = self._convert(items, f"{where}/items", depth + 1)
        following = self._book.add(f'", " {item}', [[item]])
        needed = [*firsts, *([item] if low else [])]
        if firsts:
            body = ' ", " '.join(firsts) + f" {self._book.repeat(following, low, high)}"
        else:
            more = self._book.repeat(following, max(0, low - 1), None if high is None else high - 1)
            body = f"{item} {more}" if low else f"( {item} {more} )?"
        return self._book.add(f'"[" {body} "]"', [needed])
