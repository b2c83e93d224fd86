"""The rules of a grammar while it is being written, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.errors import GrammarInvalid
from models.gbnf import quote_literal

PARAM = "response_format.json_schema.schema"
# llama.cpp copies a rule for each repetition: so many copies take about ten megabytes.
_MAX_COPIES = 50_000
_MAX_BYTES = 1 << 19
_MAX_RULES = 20_000
# Repetitions are counted in blocks, because llama.cpp repeats a rule 2,000 times at most.
_BLOCK = 100
MAX_REPEATS = 100_000
# Beyond it a choice is spelt out, which costs time and not the stack.
_MAX_TRIE_DEPTH = 100

_NUMBER = '"-"? integral fraction? exponent?'
_PRIMITIVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "value": (
        'object | array | string | number | "true" | "false" | "null"',
        ("object", "array", "string", "number"),
    ),
    "object": ('"{" ( member ( ", " member )* )? "}"', ("member",)),
    "member": ('string ": " value', ("string", "value")),
    "array": ('"[" ( value ( ", " value )* )? "]"', ("value",)),
    "string": (r'"\"" char* "\""', ("char",)),
    "char": (r'plain | "\\" ( ["\\/bfnrt] | "u" unit | pair )', ("plain", "unit", "pair")),
    # Neither what JSON wants escaped nor what UTF-8 has no bytes for.
    "plain": (r'[^"\\\x00-\x1F]', ()),
    # Half of a surrogate pair is no character.
    "unit": (
        "[0-9a-cefA-CEF] hex hex hex | [dD] [0-7] hex hex",
        ("hex",),
    ),
    "pair": (r'"u" [dD] [89abAB] hex hex "\\u" [dD] [c-fC-F] hex hex', ("hex",)),
    "hex": ("[0-9a-fA-F]", ()),
    "number": (_NUMBER, ("integral", "fraction", "exponent")),
    "integer": ('"-"? integral', ("integral",)),
    "integral": ('"0" | [1-9] [0-9]{0,14}', ()),
    "fraction": ('"." [0-9]{1,15}', ()),
    "exponent": ("[eE] [-+]? [0-9]{1,2}", ()),
    "boolean": ('"true" | "false"', ()),
    "null": ('"null"', ()),
}


def refuse(where: str, reason: str) -> GrammarInvalid:
    """The error for a schema that cannot be followed; `where` is a JSON pointer."""
    shown = where if len(where) <= 120 else f"{where[:117]}..."
    return GrammarInvalid(f"The JSON schema at '{shown}' {reason}.", param=PARAM)


class RuleBook:
    """Collects rules; names are made here, so that nothing of a schema can become one."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        # By rule: the sets of rules of which one must be finite for the rule to be.
        self._needs: dict[str, Sequence[frozenset[str]]] = {}
        # By rule: those that it may begin with, before any character is written.
        self._starts: dict[str, frozenset[str]] = {}
        self._num_copies = 0
        self._num_bytes = 0
        self._repeats: dict[tuple[str, int, int | None], str] = {}

    def reserve(self) -> str:
        """A name for a rule that is written later."""
        name = f"r{len(self._texts)}"
        if len(self._texts) >= _MAX_RULES:
            raise refuse("#", "is too large")
        self._texts[name] = ""
        return name

    def define(self, name: str, text: str, needs: Iterable[Iterable[str]] = ((),)) -> str:
        """Write a reserved rule; `needs` are the rules that each of its alternatives is made of."""
        self._num_bytes += len(text)
        if self._num_bytes > _MAX_BYTES:
            raise refuse("#", "is too large")
        self._texts[name] = text
        self._needs[name] = [frozenset(need) for need in needs]
        return name

    def add(self, text: str, needs: Iterable[Iterable[str]] = ((),)) -> str:
        """Write a new rule and return its name."""
        return self.define(self.reserve(), text, needs)

    def unite(self, names: Sequence[str], name: str | None = None) -> str:
        """A rule that is one of others."""
        name = name or self.reserve()
        self._starts[name] = frozenset(names)
        return self.define(name, " | ".join(names), [[other] for other in names])

    def primitive(self, name: str) -> str:
        """One of JSON's own kinds, by name."""
        if name not in self._texts:
            text, others = _PRIMITIVES[name]
            self._texts[name] = text
            self._needs[name] = [frozenset()]
            for other in others:
                self.primitive(other)
        return name

    def repeat(self, item: str, low: int, high: int | None) -> str:
        """An expression for `low` to `high` times the rule `item`, None for any number."""
        key = (item, low, high)
        if key not in self._repeats:
            text = self._count(item, low, high)
            self._repeats[key] = self.add(text) if text else ""
        return self._repeats[key]

    def _count(self, item: str, low: int, high: int | None) -> str:
        parts = self._exactly(item, low)
        if high is None:
            return " ".join([*parts, f"{item}*"])
        rest = high - low
        # The tail is as long as a block, so that every number can be had, and few ways lead to it.
        num_blocks = max(0, (rest - _BLOCK + 1) // _BLOCK)
        if num_blocks:
            parts.append(f"{self._block(item)}{{0,{num_blocks}}}")
        if tail := rest - num_blocks * _BLOCK:
            parts.append(f"{item}{{0,{tail}}}")
        self._charge(num_blocks + tail)
        return " ".join(parts)

    def _exactly(self, item: str, num: int) -> list[str]:
        num_blocks, rest = divmod(num, _BLOCK)
        self._charge(num_blocks + rest)
        parts = [f"{self._block(item)}{{{num_blocks}}}"] if num_blocks else []
        return [*parts, f"{item}{{{rest}}}"] if rest else parts

    def _block(self, item: str) -> str:
        key = (item, _BLOCK, _BLOCK)
        if key not in self._repeats:
            self._charge(_BLOCK)
            self._repeats[key] = self.add(f"{item}{{{_BLOCK}}}")
        return self._repeats[key]

    def _charge(self, num_copies: int) -> None:
        self._num_copies += num_copies
        if self._num_copies > _MAX_COPIES:
            raise refuse("#", "counts too many items and characters; lower its bounds")

    def choose_text(self, texts: Iterable[str]) -> str:
        """A rule that writes one of `texts`, shared beginnings once."""
        return self.add(self._trie(sorted(set(texts)), 0))

    def _trie(self, texts: Sequence[str], depth: int) -> str:
        if depth > _MAX_TRIE_DEPTH or len(texts) == 1:
            return " | ".join(map(quote_literal, texts))
        groups: dict[str, list[str]] = {}
        for text in texts:
            groups.setdefault(text[:1], []).append(text)
        alternatives = []
        for group in groups.values():
            if len(group) == 1:
                alternatives.append(quote_literal(group[0]))
                continue
            shared = _common_prefix(group[0], group[-1])
            rest = self.add(self._trie([text[shared:] for text in group], depth + 1))
            alternatives.append(f"{quote_literal(group[0][:shared])} {rest}")
        return " | ".join(alternatives)

    def finish(self, start: str) -> str:
        """The whole grammar, beginning with the rule `start`.

        Raises `GrammarInvalid` where a value refers to itself before anything is written, or
        would never end.
        """
        self._check_starts()
        if start not in self._find_finite():
            raise refuse("#", "lets no value through that ends")
        lines = [f"root ::= {start}", *(f"{name} ::= {text}" for name, text in self._texts.items())]
        return "\n".join(lines) + "\n"

    def _check_starts(self) -> None:
        waiting = {name: len(starts) for name, starts in self._starts.items()}
        users: dict[str, list[str]] = {}
        for name, starts in self._starts.items():
            for other in starts:
                users.setdefault(other, []).append(name)
        ready = [name for name in self._texts if not waiting.get(name)]
        num_done = 0
        while ready:
            num_done += 1
            for user in users.get(ready.pop(), ()):
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        if num_done < len(self._texts):
            raise refuse("#", "has a '$ref' that leads to itself")

    def _find_finite(self) -> set[str]:
        finite: set[str] = set()
        users: dict[str, set[str]] = {}
        for name, needs in self._needs.items():
            for other in frozenset().union(*needs):
                users.setdefault(other, set()).add(name)
        ready = list(self._needs)
        while ready:
            name = ready.pop()
            if name not in finite and any(need <= finite for need in self._needs[name]):
                finite.add(name)
                ready += users.get(name, ())
        return finite


def _common_prefix(first: str, last: str) -> int:
    """Characters that the first and the last of sorted texts begin with, and so all between."""
    length = min(len(first), len(last))
    return next((i for i in range(length) if first[i] != last[i]), length)
