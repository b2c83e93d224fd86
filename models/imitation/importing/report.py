"""What an import or a filter did with every row: kept, or dropped for a named reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a row is left out: a reason that is counted, and what in the row gave it."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A row that cannot be read. `unit` is "line", or "item" in a file that is one JSON array."""

    file: str
    unit: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}: {self.error}"


@dataclass(slots=True)
class Report:
    """Counts of rows. `num_read` is `num_kept` and all of `dropped` together, at any time.

    `num_written` differs from `num_kept` where long conversations are split. `changed` counts
    what was altered or let pass inside kept rows.
    """

    num_read: int = 0
    num_kept: int = 0
    num_written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    malformed: list[Malformed] = field(default_factory=list)

    def keep(self) -> None:
        self.num_read += 1
        self.num_kept += 1

    def drop(self, reason: str) -> None:
        self.num_read += 1
        self.dropped[reason] += 1

    def to_json(self) -> dict[str, Any]:
        """All counts; `read` equals `kept` plus the sum of `dropped`."""
        return {
            "read": self.num_read,
            "kept": self.num_kept,
            "dropped": dict(sorted(self.dropped.items())),
            "written": self.num_written,
            "changed": dict(sorted(self.changed.items())),
            "malformed": [
                {"file": row.file, row.unit: row.number, "error": row.error}
                for row in self.malformed
            ],
        }
