"""The selections that searches use, kept while nothing changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from index.filters import Filter
from index.selection import Selection, select_passages, unite
from index.store import read_collection

_NUM_KEPT = 16


@dataclass(frozen=True, slots=True)
class Selections:
    """What may be found: in each collection, and in all of them together; None is everything."""

    by_collection: Mapping[str, Selection | None]
    united: Selection | None


class SelectionCache:
    """Selections by collection, generation and filter: the latest few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, Selections] = OrderedDict()

    def find(
        self, connection: Connection, names: Sequence[str], filters: Filter | None
    ) -> Selections:
        """The passages of these collections whose documents satisfy the filter.

        Raises `CollectionNotFound`.
        """
        found = [read_collection(connection, name) for name in names]
        (num_collections,) = connection.execute("SELECT count(*) FROM collections").fetchone()
        if filters is None and len(found) == num_collections:
            return Selections(dict.fromkeys(names), None)
        # By its text: 1, 1.0 and true are equal to Python, but not to a filter.
        key = (tuple((row.id, row.generation) for row in found), repr(filters))
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        selections = [select_passages(connection, row.id, filters) for row in found]
        inner = (
            dict.fromkeys(names) if filters is None else dict(zip(names, selections, strict=True))
        )
        united = selections[0] if len(selections) == 1 else unite(selections)
        made = Selections(inner, united)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _NUM_KEPT:
                self._kept.popitem(last=False)
        return made
