"""Conversations that are nearly equal, found by MinHash and locality-sensitive hashing."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from models.imitation.conversations import Conversation
from models.imitation.errors import ExtraMissing
from models.imitation.importing.report import Drop
from models.imitation.sources import guarded_words

NUM_PERMUTATIONS = 128
SHINGLE_WORDS = 3
# A candidate is compared again, so the index may rather find too many than too few.
_WEIGHTS = (0.1, 0.9)


class NearDuplicateRule:
    """Drops what shares at least `threshold` of its word triples (Jaccard) with a kept row.

    The share is estimated from 128 hashes, within about 0.03. Turns are compared; conversations
    over different passages are never near duplicates, for their answers stand on other ground.
    """

    def __init__(self, threshold: float) -> None:
        """Raises `ExtraMissing`."""
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ExtraMissing(
                "Near duplicates need the package datasketch; install mynah[tune]."
            ) from None
        self._threshold = threshold
        # Copies share one set of permutations, which are slow to draw.
        self._empty = MinHash(num_perm=NUM_PERMUTATIONS)
        self._index = MinHashLSH(threshold, NUM_PERMUTATIONS, weights=_WEIGHTS)
        self._kept: list[tuple[str, Any]] = []
        self._latest: tuple[Conversation, Any] | None = None

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        sketch = self._sketch(conversation)
        self._latest = conversation, sketch
        for number in sorted(self._index.query(sketch)):
            id_, other = self._kept[number]
            similarity = sketch.jaccard(other)
            if similarity >= self._threshold:
                return Drop("near duplicate", f"{similarity:.2f} of {id_}")
        return conversation

    def remember(self, conversation: Conversation) -> None:
        latest = self._latest
        known = latest is not None and latest[0] is conversation
        sketch = latest[1] if latest is not None and known else self._sketch(conversation)
        self._index.insert(len(self._kept), sketch)
        self._kept.append((conversation.id, sketch))

    def _sketch(self, conversation: Conversation) -> Any:
        sketch = self._empty.copy()
        sketch.update_batch(sorted(_shingles(conversation)))
        return sketch


def _shingles(conversation: Conversation) -> set[bytes]:
    """Return the word triples of the turns, each with its passages' digest in front."""
    ground = "\0".join(sorted(f"{p.title}\n{p.text}" for p in conversation.passages))
    prefix = hashlib.sha256(ground.encode()).digest() if ground else b""
    words = guarded_words("\n".join(turn.content for turn in conversation.turns))
    last = max(len(words) - SHINGLE_WORDS, 0)
    return {
        prefix + " ".join(words[start : start + SHINGLE_WORDS]).encode()
        for start in range(last + 1)
    }
