"""Hits read once for attribution: their sentences, and where each word stands."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from index.types import Hit
from models.text.sentences import Sentence
from models.text.words import find_words, match_stem, stem
from server.grounding.candidates import quotable_of
from server.grounding.lexicon import SYNONYMS
from server.grounding.reading import BEGINNING, ReadText, StemSet, fold, read_text
from server.grounding.support import Surroundings, combine_shares

_NUM_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class ReadSentence:
    """A sentence of a passage; its offsets are within the passage's text.

    `own` is the sentence read alone, `read` behind what it hangs on, `key` the stems of a table
    row's first cell, `run` the folded words with a space around each.
    """

    sentence: Sentence
    own: ReadText
    read: ReadText
    around: Surroundings
    key: frozenset[str]
    run: str


class ReadPassage:
    """The sentences of a hit that may back a claim, and an index of their words."""

    def __init__(self, hit: Hit) -> None:
        self.hit = hit

    @cached_property
    def sentences(self) -> Sequence[ReadSentence]:
        """Sentences that may back a claim, in order."""
        quotable = quotable_of(self.hit)
        reads = [read_text(sentence.text) for sentence, _ in quotable]
        named = find_words(" ".join([*self.hit.passage.headings, self.hit.document.filename]))
        above = StemSet(frozenset(map(stem, named)))
        whole = StemSet(frozenset(s for read in reads for s in read.stems))
        names = frozenset(
            {token.word for read in reads for token in read.tokens if token.is_capital} | set(named)
        )
        found = []
        contexts: dict[str, ReadText] = {"": read_text("")}
        for number, (sentence, context) in enumerate(quotable):
            if context not in contexts:
                contexts[context] = read_text(context)
            led = contexts[context]
            first = max(0, number - _NUM_NEIGHBOURS)
            neighbours = reads[first:number] + reads[number + 1 : number + 1 + _NUM_NEIGHBOURS]
            nearby = tuple(q for read in (led, *neighbours) for q in read.quantities)
            is_row = sentence.kind == "row"
            stems = (above, led.stem_set) if is_row else (above, led.stem_set, whole)
            own = read = reads[number]
            if is_row or (sentence.kind == "item" and context):
                # A row says nothing without its header, an item hangs on the line above.
                read = read_text(f"{context}: {sentence.text}")
            found.append(
                ReadSentence(
                    sentence,
                    own,
                    read,
                    Surroundings(stems, names | led.words, nearby),
                    _find_key(sentence) if is_row else frozenset(),
                    f" {' '.join(token.word for token in own.tokens)} ",
                )
            )
        return found

    @cached_property
    def run(self) -> str:
        """All folded words in a row, a space around each."""
        return f" {' '.join(s.run.strip() for s in self.sentences)} "

    @cached_property
    def row_keys(self) -> frozenset[str]:
        """Stems of all first cells of the passage's tables that name one row alone."""
        counts = Counter(s for sentence in self.sentences for s in sentence.key)
        return frozenset(s for s, count in counts.items() if count == 1)

    def measure_shares(self, claim: ReadText) -> list[float]:
        """For each sentence the share of the claim's words, as `measure_share` gives it."""
        num = len(self.sentences)
        total = len(claim.content) + len(claim.quantities)
        if not num or not total:
            return [0.0] * num
        found = [0.0] * num
        missing = [0] * num
        for wanted in claim.content:
            holders = self._find_holders(wanted)
            near_by = {near for near in self._near if near.has(wanted)}
            for number in holders:
                found[number] += 1.0
            if near_by:
                for number, sentence in enumerate(self.sentences):
                    if number not in holders and not near_by.isdisjoint(sentence.around.stems):
                        missing[number] += 1
        for quantity in claim.quantities:
            for number, sentence in enumerate(self.sentences):
                if any(quantity.matches(other) for other in sentence.read.quantities):
                    found[number] += 1.0
        return [combine_shares(f, m, total) for f, m in zip(found, missing, strict=True)]

    @cached_property
    def _near(self) -> frozenset[StemSet]:
        return frozenset(near for s in self.sentences for near in s.around.stems)

    @cached_property
    def _index(self) -> tuple[dict[str, set[int]], dict[int, set[int]], dict[str, list[str]]]:
        """Sentences by stem and by group of synonyms; stems by their beginning."""
        stems: dict[str, set[int]] = {}
        groups: dict[int, set[int]] = {}
        beginnings: dict[str, list[str]] = {}
        for number, sentence in enumerate(self.sentences):
            for own in sentence.read.stems:
                stems.setdefault(own, set()).add(number)
        for own, holders in stems.items():
            for group in SYNONYMS.get(own, ()):
                groups.setdefault(group, set()).update(holders)
            if len(own) >= BEGINNING:
                beginnings.setdefault(own[:BEGINNING], []).append(own)
        return stems, groups, beginnings

    def _find_holders(self, wanted: str) -> set[int]:
        """Numbers of the sentences that have a form or a synonym of a stem."""
        stems, groups, beginnings = self._index
        holders = set(stems.get(wanted, ()))
        for group in SYNONYMS.get(wanted, ()):
            holders |= groups.get(group, set())
        for other in beginnings.get(wanted[:BEGINNING], ()):
            if match_stem(wanted, other):
                holders |= stems[other]
        return holders


class PassageReader:
    """Reads hits for attribution and keeps the last ones; safe for many threads."""

    def __init__(self, max_kept: int = 512) -> None:
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[int, str], ReadPassage] = OrderedDict()
        self._lock = Lock()

    def read(self, hit: Hit) -> ReadPassage:
        """The hit, read before or now; what a passage says decides, not its score."""
        key = (hit.passage.id, hit.passage.text)
        with self._lock:
            known = self._kept.get(key)
            if known is not None and known.hit.document == hit.document:
                self._kept.move_to_end(key)
                return known
            read = self._kept[key] = ReadPassage(hit)
            if len(self._kept) > self._max_kept:
                self._kept.popitem(last=False)
        return read


def _find_key(row: Sentence) -> frozenset[str]:
    cell = row.text.split("|", 1)[0]
    return frozenset(stem(fold(word)) for word in find_words(cell))
