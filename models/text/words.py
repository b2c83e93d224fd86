"""Words of a text for overlap: lower-cased, without accents, compared by their beginnings."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)?", re.UNICODE)
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


def find_words(text: str) -> list[str]:
    """Words of `text` in order, folded: lower case, no accents, no possessive ending."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    return [re.sub(r"['’]\w*$", "", word) for word in _WORD.findall(plain)]


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
    if len(word) <= _MIN_STEM or any(c.isdigit() for c in word):
        return word
    for ending in (
        "ations",
        "ation",
        "ments",
        "ment",
        "ings",
        "ing",
        "ies",
        "ied",
        "ers",
        "er",
        "ed",
        "es",
        "ly",
        "s",
        "e",
        "y",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= _MIN_STEM - 1:
            return word[: -len(ending)]
    return word


def match_stem(stem_a: str, stem_b: str) -> bool:
    """Whether two stems are forms of one word: equal, or one is the long beginning of the other."""
    if stem_a == stem_b:
        return True
    short, long = sorted((stem_a, stem_b), key=len)
    return len(short) >= 5 and long.startswith(short) and len(long) - len(short) <= 3


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
