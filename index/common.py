"""The words that are too common to rank by, remembered while nothing changes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from sqlite3 import Connection

from index.matching import count_rows


class CommonWords:
    """Counts passages by their words; may be used from any thread.

    Counting takes the longer the commoner a word is, and common words are in every question. So
    those that reach the limit are remembered, until any process changes a collection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: object = None
        self._words: frozenset[str] = frozenset()

    def count(self, connection: Connection, words: Sequence[str], limit: int) -> dict[str, int]:
        """Number of passages with each word, counted up to `limit`, inside a transaction."""
        collections = connection.execute("SELECT id, generation FROM collections ORDER BY id")
        state = (limit, collections.fetchall())
        with self._lock:
            known = self._words if self._state == state else frozenset[str]()
        new = [word for word in words if word not in known]
        counted = count_rows(connection, "passage_words", new, limit)
        common = known.union(word for word in new if counted[word] == limit)
        with self._lock:
            self._state, self._words = state, common
        return {word: counted.get(word, limit) for word in words}
