"""A drafted question, and the documents it is drafted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """A document to draft from; `sections` are the offsets where headings apply, in order."""

    path: str
    title: str
    text: str
    sections: Sequence[tuple[int, int, tuple[str, ...]]] = ()

    def heading_at(self, offset: int) -> str:
        """The innermost heading above an offset; "" without one."""
        for start, end, headings in self.sections:
            if start <= offset < end and headings:
                return headings[-1]
        return ""


@dataclass(frozen=True, slots=True)
class Wording:
    """A question with its answers, before anything is known of where it stands.

    `subject` is what it is about, as the question has it. `rank` orders wordings by how natural
    and checkable they are, best first.
    """

    question: str
    answers: tuple[str, ...]
    kind: str
    subject: str = ""
    all_of: tuple[tuple[str, ...], ...] = ()
    rank: int = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A drafted question; without answers the documents do not hold one (`near_doc` is near)."""

    wording: Wording
    doc: str
    evidence: str
    near_doc: str = ""
    history: tuple[Mapping[str, str], ...] = field(default=())

    def to_json(self, id_: str) -> dict[str, Any]:
        """The row of a question file, marked as not reviewed."""
        wording = self.wording
        row: dict[str, Any] = {
            "reviewed": False,
            "id": id_,
            "question": wording.question,
            "answers": list(wording.answers),
        }
        if wording.all_of:
            row["all_of"] = [list(group) for group in wording.all_of]
        if self.history:
            row["history"] = [dict(turn) for turn in self.history]
        row |= {
            "evidence": self.evidence,
            "doc": self.doc,
            "type": wording.kind,
            "answerable": bool(wording.answers),
        }
        if self.near_doc:
            row["near_doc"] = self.near_doc
        return row
