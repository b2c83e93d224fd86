"""Words of a text for overlap: lower-cased, without accents, compared by their beginnings."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

# The group is the word without a possessive ending.
_WORD = re.compile(r"(\w+)(?:['’]\w+)?", re.UNICODE)
_DIGIT = re.compile("[0-9]")
_POSSESSIVE = re.compile(r"'\w+", re.ASCII)
# Of ASCII, what is no part of a word becomes a space.
_SPACED = {
    code: chr(code).lower() if chr(code).isalnum() or chr(code) in "_'" else " "
    for code in range(128)
}
# Words that carry no topic. Only English is listed: in another language such words are frequent in
# every candidate too, and their inverse document frequency brings them down.
_STOP = frozenset(
    "a about above after again all also am an and any are as at be been before being below "
    "between both but by can could did do does doing down during each few for from further "
    "get had has have having he her here hers him his how i if in into is it its itself just "
    "may me might more most must my no nor not of off on once one only or other our ours out "
    "over own same shall she should so some such than that the their theirs them then there "
    "these they this those through to too under until up upon us very was we were what when "
    "where which while who whom whose why will with would you your yours say says tell please "
    "according does".split()
)
_MIN_STEM = 4
_ENDING = re.compile(r"(?:ations?|ments?|ings?|ie[sd]|ers?|e[ds]|ly|[sey])\Z")


def find_words(text: str) -> list[str]:
    """Words of `text` in order, folded: lower case, no accents, no possessive ending."""
    plain = text if text.isascii() else _space_marks(_fold(text))
    if not plain.isascii():
        return _WORD.findall(plain)
    # The regular expression takes ten times as long.
    spaced = plain.translate(_SPACED)
    if "'" in spaced:
        spaced = _drop_possessives(spaced).replace("'", " ")
    return spaced.split()


def is_stop_word(word: str) -> bool:
    """Whether a folded word carries no topic."""
    return word in _STOP


def find_topic_words(text: str) -> list[str]:
    """Words of `text` that are not stop words, as stems (see `stem`), in order."""
    return [stem(word) for word in find_words(text) if word not in _STOP]


def stem(word: str) -> str:
    """The beginning that word forms share: a crude cut of common endings, numbers kept whole.

    Two forms that this cut leaves apart still meet in `match_stem` by their beginnings.
    """
    if len(word) <= _MIN_STEM or (not word.isalpha() and has_digit(word)):
        return word
    # From the left, so the longest ending that leaves enough.
    ending = _ENDING.search(word, _MIN_STEM - 1)
    return word[: ending.start()] if ending else word


def has_digit(text: str) -> bool:
    """Whether there is a digit in the text."""
    if text.isascii():
        return _DIGIT.search(text) is not None
    return any(character.isdigit() for character in text)


def match_stem(stem_a: str, stem_b: str) -> bool:
    """Whether two stems are forms of one word: equal, or one is the long beginning of the other."""
    if stem_a == stem_b:
        return True
    short, long = (stem_a, stem_b) if len(stem_a) < len(stem_b) else (stem_b, stem_a)
    return len(short) >= 5 and long.startswith(short) and len(long) - len(short) <= 3


class WantedStems:
    """Some stems that are looked for among the words (`find_words`) of many texts.

    Most words match none of them, as `match_stem` has it. These are told by their beginnings, and
    never made stems of.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = list(dict.fromkeys(wanted))
        # What `stem` leaves of a word in any case.
        self._starts = {stem[: _MIN_STEM - 1] for stem in self._wanted}
        self._stems: dict[str, str] = {}
        self._matches: dict[str, list[str]] = {}

    def find(self, words: Sequence[str]) -> dict[str, list[int]]:
        """The stems of the topic words that match any of those wanted, with their places."""
        starts, end, stems = self._starts, _MIN_STEM - 1, self._stems
        found: dict[str, list[int]] = {}
        for place in [place for place, word in enumerate(words) if word[:end] in starts]:
            word = words[place]
            own = stems[word] if word in stems else self._take_in(word)
            if own in found:
                found[own].append(place)
            elif own:
                found[own] = [place]
        return found

    def match(self, stems: Iterable[str]) -> set[str]:
        """Those wanted that match any of the stems that were found."""
        return {other for own in stems for other in self._matches[own]}

    def _take_in(self, word: str) -> str:
        """The stem of a topic word that matches; nothing of any other word."""
        own = "" if word in _STOP else stem(word)
        self._matches[own] = [other for other in self._wanted if match_stem(other, own)]
        self._stems[word] = own if self._matches[own] else ""
        return self._stems[word]


class WordWeights:
    """Inverse document frequencies of stems over a set of texts.

    The formula is BM25's (Robertson and Spärck Jones): ln(1 + (N - n + 0.5) / (n + 0.5)).
    """

    def __init__(self, texts: Iterable[Sequence[str]]) -> None:
        counts: Counter[str] = Counter()
        self._num_texts = 0
        for stems in texts:
            self._num_texts += 1
            counts.update(set(stems))
        self._counts = counts

    def weigh(self, word_stem: str) -> float:
        """Weight of a stem; the largest for one that stands in no text."""
        count = self._counts.get(word_stem, 0)
        return math.log(1 + (self._num_texts - count + 0.5) / (count + 0.5))

    def overlap(self, question: Sequence[str], sentence: Sequence[str]) -> float:
        """Share (0..1) of the question's weight whose stems stand in the sentence."""
        wanted = list(dict.fromkeys(question))
        total = sum(self.weigh(s) for s in wanted)
        if not total:
            return 0.0
        present = set(sentence)
        found = sum(
            self.weigh(s)
            for s in wanted
            if s in present or any(match_stem(s, other) for other in present)
        )
        return found / total


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    marks = {ord(character): None for character in set(folded) if unicodedata.combining(character)}
    return folded.translate(marks) if marks else folded


def _space_marks(folded: str) -> str:
    """The text in ASCII where nothing but punctuation keeps it from that."""
    others = {character for character in set(folded) if not character.isascii()}
    if any(character.isalnum() for character in others):
        return folded
    for character in others:
        folded = folded.replace(character, "'" if character == "’" else " ")
    return folded


def _drop_possessives(text: str) -> str:
    pieces, end = list[str](), 0
    for match in _POSSESSIVE.finditer(text):
        start = match.start()
        # The word before has one ending at most.
        if start > end and text[start - 1] not in " '":
            pieces.append(text[end:start])
            end = match.end()
    return "".join([*pieces, text[end:]])
