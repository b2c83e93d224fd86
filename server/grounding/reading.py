"""A text read once for checking: its words with offsets, quantities, names and clauses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

from models.text.words import is_stop_word, match_stem, stem
from server.grounding.lexicon import NEGATORS, SYNONYMS
from server.grounding.quantities import Direction, Quantity, find_quantities

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
# Scripts that put no space between words are compared by pairs of characters.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]{2,}")
_CLAUSE_END = re.compile(r"[,;:.()|–—]|\b(?:but|while|whereas|although|unless|if|when|because)\b")
_ENGLISH = frozenset(
    "the of is are and to be for with at by on it not you was were has have must may can from "
    "that this in a an or every no".split()
)
# A comparison in front of a quantity, with up to two words between, or behind it.
_LESS = r"less|fewer|shorter|lower|smaller|earlier|younger|cheaper|under|below"
_MORE = r"more|longer|higher|larger|greater|later|older|bigger|over|above"
_UP_BEFORE = re.compile(
    rf"(?:\bat least|\bminimum(?: of)?|\bmin\.?"
    rf"|(?:\bno|\bnot|\bnever|\bnor|n't) (?:\w+ )?(?:{_LESS}) than"
    rf"|\b(?:{_MORE}) than|\bover|\babove|\bexceed\w*|\bbeyond|\bafter|\bsince|\bfrom|\bstarting"
    rf"|\bmindestens)\s(?:\w+\s)?[€$£¥]?\Z"
)
_DOWN_BEFORE = re.compile(
    rf"(?:\bat (?:most|the latest)|\bup to|\bmaximum(?: of)?|\bmax\.?|\bas many as"
    rf"|(?:\bno|\bnot|\bnever|\bnor|n't) (?:be )?(?:\w+ )?(?:{_MORE}) than|\b(?:{_LESS}) than"
    rf"|\bunder|\bbelow|\bbefore|\bwithin|\binside|\buntil|\btill|\bby|\bnot exceed|\blimited to"
    rf"|\bcapped at|\bprior to|\bhöchstens|\bmaximal|\bspätestens|\bbis(?: zum)?)"
    rf"\s(?:\w+\s)?[€$£¥]?\Z"
)
_UP_BEHIND = re.compile(r"\s?(?:\S+\s)?(?:or|and) (?:more|longer|above|over|older|later)\b")
_DOWN_BEHIND = re.compile(r"\s?(?:\S+\s)?(?:or (?:less|fewer|below|under|earlier)|at most)\b")
_PART = re.compile(r"[,;:()]\s|\s(?:and|but|while|whereas)\s")
_WAITING = frozenset("before until till".split())
_RANGE = re.compile(r"\s?(?:-|–|—|to|and|bis)\s?[€$£¥]?\Z")


# Two stems with a common beginning of this length may be forms of one word (`match_stem`).
BEGINNING = 5


@dataclass(frozen=True, slots=True)
class Token:
    """A word: folded, its stem, where it stands, and what it is."""

    word: str
    stem: str
    start: int
    end: int
    is_content: bool
    is_capital: bool
    is_first: bool
    clause: int


@dataclass(frozen=True, slots=True)
class Negation:
    """A negator's reach: stems of content words; `waits` if it is "not before" or "not until"."""

    scope: frozenset[str]
    waits: bool = False


class StemSet:
    """Stems of a text, asked for forms and synonyms of others."""

    def __init__(self, stems: Collection[str]) -> None:
        self._stems = stems
        self._groups = {group for stem in stems for group in SYNONYMS.get(stem, ())}
        self._beginnings: dict[str, list[str]] = {}
        for own in stems:
            if len(own) >= BEGINNING:
                self._beginnings.setdefault(own[:BEGINNING], []).append(own)

    def has(self, wanted: str) -> bool:
        """Whether the text has a form of the word, or of one that means the same."""
        if wanted in self._stems:
            return True
        for other in self._beginnings.get(wanted[:BEGINNING], ()):
            if match_stem(wanted, other):
                return True
        groups = SYNONYMS.get(wanted)
        return groups is not None and not self._groups.isdisjoint(groups)


@dataclass(frozen=True)
class ReadText:
    """A text and what a check looks at; parts are read at first use."""

    text: str
    tokens: tuple[Token, ...] = field(repr=False)

    @cached_property
    def words(self) -> frozenset[str]:
        """All folded words."""
        return frozenset(token.word for token in self.tokens)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of all words, those of stop words too."""
        return frozenset(token.stem for token in self.tokens)

    @cached_property
    def stem_set(self) -> StemSet:
        """The stems, to be asked for forms and synonyms."""
        return StemSet(self.stems)

    @cached_property
    def content(self) -> tuple[str, ...]:
        """Stems that carry meaning, each once, in order; quantities are not among them."""
        counted = {
            position
            for quantity in self.quantities
            for position in range(quantity.start, quantity.end)
        }
        return tuple(
            dict.fromkeys(t.stem for t in self.tokens if t.is_content and t.start not in counted)
        )

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Quantities with the direction of their comparison."""
        found = find_quantities(self.text)
        lowered = self.text.lower()
        directed = [
            replace(quantity, direction=_find_direction(lowered, quantity)) for quantity in found
        ]
        for number, (a, b) in enumerate(pairwise(directed)):
            between = lowered[a.end : b.start]
            if a.kind == b.kind and len(between) < 20 and _RANGE.search(f" {between}"):
                before = lowered[max(0, a.start - 9) : a.start]
                if between.strip() not in ("and",) or "between" in before:
                    directed[number] = replace(a, direction="up")
                    directed[number + 1] = replace(b, direction="down")
        return tuple(directed)

    @cached_property
    def names(self) -> tuple[Token, ...]:
        """Capitalised words that are names in an English text; acronyms in any."""
        return tuple(t for t in self.tokens if _is_name(t, self))

    @cached_property
    def is_english(self) -> bool:
        """Whether the text has English function words, more than other capitals suggest."""
        return bool(self.words & _ENGLISH)

    @cached_property
    def negations(self) -> tuple[Negation, ...]:
        """What the text says no of; "no more than" and the like are comparisons instead."""
        plain = _mask_comparisons(self.text)
        found = []
        for token in self.tokens:
            if plain[token.start] == "\0":
                continue
            is_contrast = token.word in ("instead", "rather")
            if not (token.word in NEGATORS or is_contrast):
                continue
            clause = [t for t in self.tokens if t.clause == token.clause and t.is_content]
            after = [t.stem for t in clause if t.start > token.end and not t.stem.isdigit()]
            before = [t.stem for t in clause if t.start < token.start][-2:]
            if is_contrast and not after:
                continue
            waits = any(
                t.word in _WAITING
                for t in self.tokens
                if t.clause == token.clause and t.start > token.end
            )
            found.append(Negation(frozenset(after[: 1 if is_contrast else 4] or before), waits))
        return tuple(found)

    @cached_property
    def parts(self) -> tuple[frozenset[str], ...]:
        """Stems of each part of the text between marks and conjunctions."""
        return tuple(
            frozenset(token.stem for token in read_text(part).tokens)
            for part in _PART.split(self.text)
            if part.strip()
        )


def read_text(text: str) -> ReadText:
    """`text` split into tokens."""
    clause_ends = [m.start() for m in _CLAUSE_END.finditer(text) if not _is_inner(text, m)]
    tokens: list[Token] = []
    clause, ends = 0, iter([*clause_ends, len(text) + 1])
    next_end = next(ends)
    is_first = True
    for match in _WORD.finditer(text):
        while match.start() >= next_end:
            clause += 1
            if text[next_end : next_end + 1] in (".", ":", "|"):
                is_first = True
            next_end = next(ends)
        for start, end in _split_unspaced(text, *match.span()):
            raw = text[start:end]
            word = fold(raw)
            tokens.append(
                Token(
                    word,
                    stem(word),
                    start,
                    end,
                    not is_stop_word(word) and word not in NEGATORS,
                    raw[0].isupper(),
                    is_first,
                    clause,
                )
            )
        is_first = False
    return ReadText(text, tuple(tokens))


def fold(word: str) -> str:
    """Lower case, no accents, no possessive ending."""
    folded = word.casefold()
    if not folded.isascii():
        folded = unicodedata.normalize("NFKD", folded)
        folded = "".join(c for c in folded if not unicodedata.combining(c))
        folded = folded.replace("’", "'")
    if folded.endswith("'s"):
        return folded[:-2]
    return folded.replace("'", "")


def _split_unspaced(text: str, start: int, end: int) -> list[tuple[int, int]]:
    if not _UNSPACED.search(text, start, end):
        return [(start, end)]
    return [(i, i + 2) for i in range(start, end - 1)]


def _is_inner(text: str, match: re.Match[str]) -> bool:
    """Whether a mark stands inside a number, name or abbreviation: no white space behind it."""
    return match.group() in ",:." and text[match.end() : match.end() + 1].strip() != ""


def _is_name(token: Token, text: ReadText) -> bool:
    raw = text.text[token.start : token.end]
    if not token.is_capital or any(c.isdigit() for c in raw) or is_stop_word(token.word):
        return False
    if len(raw) > 1 and raw.isupper():
        return True
    return text.is_english and not token.is_first


def _find_direction(lowered: str, quantity: Quantity) -> Direction | None:
    before = lowered[max(0, quantity.start - 40) : quantity.start]
    behind = lowered[quantity.end : quantity.end + 30]
    if _DOWN_BEFORE.search(before) or _DOWN_BEHIND.match(behind):
        return "down"
    if _UP_BEFORE.search(before) or _UP_BEHIND.match(behind):
        return "up"
    return None


_COMPARISON = re.compile(
    rf"(?:\b(?:no|not|never|nor)|n't)(?= (?:be )?(?:\w+ )?(?:{_MORE}|{_LESS}) than\b)"
    r"|\bnot(?= (?:exceed|only))|\bno(?= longer than)|\bno(?= later than)",
    re.IGNORECASE,
)


def _mask_comparisons(text: str) -> str:
    """`text` with the negators of "no more than" and the like blotted out."""
    return _COMPARISON.sub(lambda match: "\0" * len(match.group()), text)
