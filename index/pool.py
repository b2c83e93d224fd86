"""The passages that a search looks into, with all that is known of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sqlite3 import Connection

from index import documents as rows
from index.types import Document, Hit, Passage, Section


@dataclass(frozen=True, slots=True)
class PooledPassage:
    """A passage that one of the two searches found, or both did.

    `fused` is its score in 0..1 from both, the shares are each search's own stretched to 0..1.
    `dense_score` is the cosine, None where only the words found it. `words` are those of the text,
    as `find_words` gives them.
    """

    passage: Passage
    document: Document
    fused: float
    dense_score: float | None
    bm25_rank: int | None
    meaning_share: float
    words_share: float
    words: Sequence[str]

    def to_hit(self, score: float, rank: int) -> Hit:
        """The passage as a hit."""
        return Hit(self.passage, self.document, score, rank, self.dense_score, self.bm25_rank)


def read_section(connection: Connection, passage: Passage, max_passages: int = 32) -> Section:
    """The passage with its neighbours under the same headings, at most so many to each side.

    The passage alone where its document is gone.
    """
    found = [
        other
        for other in rows.iterate_passages(connection, passage.document_id)
        if abs(other.ordinal - passage.ordinal) <= max_passages
    ]
    place = next((i for i, other in enumerate(found) if other.id == passage.id), None)
    if place is None:
        return Section((passage,), passage.text)
    first = last = place
    while first > 0 and found[first - 1].headings == passage.headings:
        first -= 1
    while last + 1 < len(found) and found[last + 1].headings == passage.headings:
        last += 1
    passages = tuple(found[first : last + 1])
    text = rows.read_text(connection, passage.document_id)
    return Section(passages, text[passages[0].start : passages[-1].end])
