"""What a grammar that a client wrote may cost, seen before llama.cpp reads it.

llama.cpp keeps a stack for each way in which the text so far can be read, so that a grammar with
many ways holds up every request in the batch. Those that have them at once are refused here; those
where they grow are stopped while they run (`models.grammar`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.errors import GrammarInvalid

_MAX_BYTES = 1 << 16
_MAX_RULES = 2000
# Elements of the grammar with every repetition and every rule spelt out, recursion cut off.
_MAX_ELEMENTS = 10_000
_PART = re.compile(
    r"""(?P<literal>"(?:[^"\\]|\\.)*")|(?P<class>\[(?:[^\]\\]|\\.)*\])"""
    r"""|(?P<count>\{\s*\d+\s*(?:,\s*\d*\s*)?\})|(?P<comment>\#[^\n]*)"""
    r"""|(?P<head>[\w-]+\s*::=)|(?P<name>[\w-]+)|(?P<mark>\S)""",
    re.DOTALL,
)


@dataclass(slots=True)
class _Item:
    """One item of a rule: another rule's `name`, or "" for `size` elements of its own."""

    name: str
    size: int = 1
    count: int = 1
    is_optional: bool = False
    is_repeated: bool = False
    # Whether it was optional before it was repeated.
    repeats_nothing: bool = False


def check_client_grammar(text: str) -> None:
    """Raise `GrammarInvalid` for a grammar that is too large or repeats what may be empty.

    Syntax is left to llama.cpp.
    """
    size = len(text.encode("utf-8", "replace"))
    if size > _MAX_BYTES:
        raise _too_much(f"has {size} bytes; {_MAX_BYTES} are the most")
    rules = _read_rules(text)
    if sum(not name.startswith("(") for name in rules) > _MAX_RULES:
        raise _too_much(f"has more than {_MAX_RULES} rules")
    empty = _find_empty(rules)
    for ways in rules.values():
        for item in (item for way in ways for item in way):
            if item.repeats_nothing or (item.is_repeated and item.name in empty):
                shown = f"'{item.name[:40]}'" if item.name[:1] not in ("", "(") else "a group"
                raise _too_much(f"repeats {shown}, which may be empty")
    if (num_elements := _measure(rules)) > _MAX_ELEMENTS:
        raise _too_much(f"spells out to {num_elements} elements; {_MAX_ELEMENTS} are the most")


Rules = dict[str, list[list[_Item]]]


def _read_rules(text: str) -> Rules:
    """The rules by name, groups as rules of their own; what is not understood is left out."""
    rules: Rules = {}
    open_rules: list[str] = []
    for i, found in enumerate(_PART.finditer(text)):
        kind, part = str(found.lastgroup), found[0]
        if kind == "head":
            open_rules = [part.rstrip(":= \t\r\n")]
            rules[open_rules[0]] = [[]]
        if kind in ("head", "comment") or not open_rules:
            continue
        way = rules[open_rules[-1]][-1]
        if kind in ("literal", "class"):
            size = max(len(part) - 2, 1)
            way.append(_Item("", size, is_optional=kind == "literal" and len(part) == 2))
        elif kind == "name":
            way.append(_Item(part))
        elif kind == "count":
            low, *rest = (number.strip()[:9] for number in part.strip("{}").split(","))
            high = low if not rest else rest[0]
            _quantify(way, int(low), int(high) if high else None)
        elif part in "?*+":
            _quantify(way, int(part == "+"), 1 if part == "?" else None)
        elif part == "|":
            rules[open_rules[-1]].append([])
        elif part == "(":
            way.append(_Item(f"({i}"))
            open_rules.append(f"({i}")
            rules[f"({i}"] = [[]]
        elif part == ")" and len(open_rules) > 1:
            open_rules.pop()
        else:
            way.append(_Item(""))
    return rules


def _quantify(way: list[_Item], low: int, high: int | None) -> None:
    if not way:
        return
    item = way[-1]
    if high != 1:
        item.is_repeated = True
        item.repeats_nothing = item.repeats_nothing or item.is_optional
    item.is_optional = item.is_optional or low == 0
    item.count *= max(low, high or 1, 1)


def _find_empty(rules: Rules) -> set[str]:
    """Names of rules that may write nothing."""
    # By rule: the ways that use it, each with how many of its items are not known to be empty.
    users: dict[str, list[tuple[str, int]]] = {}
    missing: list[int] = []
    empty: set[str] = set()
    ready: list[str] = []
    for name, ways in rules.items():
        for way in ways:
            needed = [item for item in way if not item.is_optional]
            for item in needed:
                users.setdefault(item.name, []).append((name, len(missing)))
            missing.append(len(needed))
            if not needed:
                ready.append(name)
    while ready:
        name = ready.pop()
        if name in empty:
            continue
        empty.add(name)
        for user, way_id in users.get(name, ()):
            missing[way_id] -= 1
            if not missing[way_id]:
                ready.append(user)
    return empty


def _measure(rules: Rules) -> int:
    """Elements of `root` spelt out; a rule inside itself counts as one."""
    sizes: dict[str, int] = {"": 1}
    # Names whose size is being found, each with the items still to be counted and the sum so far.
    path: dict[str, tuple[list[_Item], int]] = {}
    entered = ["root"] if "root" in rules else []
    while entered or path:
        if entered:
            name = entered.pop()
            path[name] = ([item for way in rules[name] for item in way], 0)
        name, (items, size) = next(reversed(path.items()))
        while items:
            item = items[-1]
            if item.name in rules and item.name not in sizes and item.name not in path:
                entered.append(item.name)
                break
            items.pop()
            own = item.size if item.count > 1 else 1
            size += sizes.get(item.name, 1) * own * item.count
        if entered:
            path[name] = (items, size)
        else:
            del path[name]
            sizes[name] = min(max(size, 1), 10**12)
    return sizes.get("root", 0)


def _too_much(reason: str) -> GrammarInvalid:
    return GrammarInvalid(f"The grammar {reason}.", param="grammar")
