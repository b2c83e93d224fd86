"""Which passages may be found: the ids that a filter leaves, for SQLite and for FAISS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from sqlite3 import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from index.filters import Filter, compile_filter

# A bitmap over ids up to here takes 32 MiB; ids only grow, so beyond it ids are hashed instead.
_MAX_BITMAP_ID = 1 << 28

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """Passages by id: runs of `lengths[i]` ids from `starts[i]` on, which do not overlap.

    A document's passages have successive ids, so a run is a document. Both are int64 of shape
    `(num_documents,)`, ascending.
    """

    starts: Integers
    lengths: Integers

    @cached_property
    def num_passages(self) -> int:
        """Number of passages selected."""
        return int(self.lengths.sum())

    @cached_property
    def ids(self) -> Integers:
        """The ids, ascending."""
        ends = np.cumsum(self.lengths)
        shifts = np.repeat(self.starts - (ends - self.lengths), self.lengths)
        ids: Integers = np.arange(self.num_passages, dtype=np.int64) + shifts
        return ids

    @cached_property
    def contains(self) -> Callable[[int], bool]:
        """A function that says whether an id is selected."""
        if not self.num_passages:
            return lambda _id: False
        low, high = int(self.ids[0]), int(self.ids[-1])
        mask = np.zeros(high - low + 1, dtype=np.uint8)
        mask[self.ids - low] = 1
        flags = mask.tobytes()
        return lambda id_: low <= id_ <= high and flags[id_ - low] == 1

    @cached_property
    def selector(self) -> Any:
        """The ids as a FAISS `IDSelector`."""
        import faiss

        if self.num_passages and int(self.ids[-1]) < _MAX_BITMAP_ID:
            mask = np.zeros(int(self.ids[-1]) + 1, dtype=bool)
            mask[self.ids] = True
            make: Any = faiss.IDSelectorBitmap  # its stub shows the C++ arguments
            return make(np.packbits(mask, bitorder="little"))
        return faiss.IDSelectorBatch(self.ids)


def select_passages(
    connection: Connection, collection_id: int, filters: Filter | None
) -> Selection:
    """The passages of a collection whose documents satisfy the filter; all of them without one."""
    clause, values = "", tuple[object, ...]()
    if filters is not None:
        condition = compile_filter(filters, collection_id, "id")
        clause, values = f" AND {condition.sql}", condition.values
    rows = connection.execute(
        "SELECT first_passage, num_passages FROM documents"  # noqa: S608
        f" WHERE collection_id = ? AND num_passages > 0{clause} ORDER BY first_passage",
        (collection_id, *values),
    ).fetchall()
    pairs = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Selection(pairs[:, 0], pairs[:, 1])


def unite(selections: Sequence[Selection]) -> Selection:
    """The passages of all the selections, no two of which overlap."""
    starts = np.concatenate([selection.starts for selection in selections])
    lengths = np.concatenate([selection.lengths for selection in selections])
    order = np.argsort(starts)
    return Selection(starts[order], lengths[order])
