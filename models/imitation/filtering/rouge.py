"""ROUGE-L between texts, and its maximum against thousands of texts at once.

The F-measure is 2·L / (m + n), with L the length of the longest common subsequence of m and n
tokens; tokens are runs of a-z and 0-9 of the lower-case text, without stemming (Lin 2004, and the
`rouge_score` package, which it equals).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

_TOKEN = re.compile(r"[a-z0-9]+")


def tokenize(text: str) -> list[str]:
    """Return the tokens of `text` that ROUGE compares."""
    return _TOKEN.findall(text.lower())


def rouge_l(a: str, b: str) -> float:
    """Return the ROUGE-L F-measure of two texts, 0 where one of them has no token."""
    first, second = tokenize(a), tokenize(b)
    if not first or not second:
        return 0.0
    return 2 * _lcs_length(_masks(first), len(first), second) / (len(first) + len(second))


class RougePool:
    """Texts that a new text is compared with; each is tokenised once."""

    def __init__(self) -> None:
        self._texts: list[list[str]] = []
        # Token -> the texts that have it, in the order of their coming.
        self._holders: defaultdict[str, list[int]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> int:
        """Put `text` into the pool; return its number, counted from 0."""
        tokens = tokenize(text)
        number = len(self._texts)
        self._texts.append(tokens)
        for token in dict.fromkeys(tokens):
            self._holders[token].append(number)
        return number

    def max_f(self, text: str, floor: float = 0.0) -> float:
        """Return the highest F of `text` against the pool, or `floor` where none is higher."""
        return self.nearest(text, floor)[0]

    def nearest(self, text: str, floor: float = 0.0) -> tuple[float, int | None]:
        """Return the highest F above `floor` and the text that has it, or (`floor`, None).

        Exact. Texts are met by the rarest tokens of `text` first: one that holds none of those
        seen so far shares at most the `left` others, so its F is at most 2·left / (m + left); a
        high floor therefore leaves few texts to compare.
        """
        tokens = tokenize(text)
        masks = _masks(tokens)
        size = left = len(tokens)
        best, best_number = floor, None
        met: set[int] = set()
        counts = Counter(tokens)
        for token in sorted(counts, key=lambda t: (len(self._holders.get(t, ())), t)):
            if 2 * left <= best * (size + left):
                break
            left -= counts[token]
            for number in self._holders.get(token, ()):
                other = self._texts[number]
                if number in met or 2 * min(size, len(other)) <= best * (size + len(other)):
                    continue
                met.add(number)
                f = 2 * _lcs_length(masks, size, other) / (size + len(other))
                if f > best:
                    best, best_number = f, number
        return best, best_number


def _masks(tokens: Sequence[str]) -> dict[str, int]:
    """Return for each token the integer whose bits are the places where it stands."""
    masks: dict[str, int] = {}
    for place, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << place
    return masks


def _lcs_length(masks: dict[str, int], size: int, other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence (Hyyrö 2004, bits in one integer).

    `masks` are those of a text of `size` tokens. A zero bit of `row` is a place where the table's
    row grows by one, so the zeros among the lowest `size` bits are counted.
    """
    full = (1 << size) - 1
    row = full
    for token in other:
        mask = masks.get(token)
        if mask:
            matched = row & mask
            row = ((row + matched) | (row - matched)) & full
    return size - row.bit_count()
