"""BM25 over the words of passages, in SQLite's FTS5."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from index.common import CommonWords
from index.matching import Ranked, choose_limit, rank_rows
from index.schema import has_fts_erase
from index.scripts import query_words
from index.selection import Selection
from index.vocabulary import add_vocabulary, remove_vocabulary, similar_words

_MAX_QUERY_WORDS = 64
_MAX_UNKNOWN_WORDS = 4
# Reading and scoring so many postings takes about 2 ms.
_BUDGET = 2000
_COLUMNS = "id, separate(text), separate(headings), separate(name)"


def add_words(connection: sqlite3.Connection, document_id: str) -> None:
    """Make a document's passages findable by their words."""
    connection.execute(
        "INSERT INTO passage_words(rowid, text, headings, name)"  # noqa: S608
        f" SELECT {_COLUMNS} FROM passages WHERE document_id = ?",
        (document_id,),
    )
    add_vocabulary(connection, _read_texts(connection, document_id))


def remove_words(connection: sqlite3.Connection, document_id: str) -> None:
    """Take a document's words out; must run before its passages are deleted."""
    connection.execute(
        "INSERT INTO passage_words(passage_words, rowid, text, headings, name)"  # noqa: S608
        f" SELECT 'delete', {_COLUMNS} FROM passages WHERE document_id = ?",
        (document_id,),
    )
    remove_vocabulary(connection, _read_texts(connection, document_id))


def erase_words(connection: sqlite3.Connection) -> None:
    """Rewrite the FTS segments without the words of deleted passages.

    Does nothing where SQLite is new enough to do so on deletion.
    """
    if not has_fts_erase():
        connection.execute("INSERT INTO passage_words(passage_words) VALUES('optimize')")
        connection.execute("INSERT INTO word_grams(word_grams) VALUES('optimize')")


def search_words(
    connection: sqlite3.Connection,
    query: str,
    selection: Selection | None,
    max_hits: int,
    common: CommonWords | None = None,
) -> Ranked:
    """Passage ids with their BM25 score (higher is better), best first, ties by id.

    `selection` holds the passages that may be found, None all. Nothing in the query is taken for
    syntax. For a word that no passage has, those that resemble it are searched. `common` remembers
    words from search to search.
    """
    words = query_words(query)[:_MAX_QUERY_WORDS]
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM passages").fetchone()
    limit = choose_limit(last)
    common = common or CommonWords()
    counts = common.count(connection, words, limit)
    unknown = [word for word in words if not counts[word]][:_MAX_UNKNOWN_WORDS]
    similar = {other for word in unknown for other in similar_words(connection, word)}
    counts |= common.count(connection, sorted(similar - counts.keys()), limit)
    budget, is_selected = _BUDGET, None
    if selection is not None:
        is_selected = selection.contains
        # A row that is tested and left out costs a third of one that is scored.
        budget = round(_BUDGET / min(1.0, 1 / 3 + selection.num_passages / max(last, 1)))
    return rank_rows(
        connection,
        "passage_words",
        counts,
        limit=limit,
        budget=budget,
        max_rows=max_hits,
        is_selected=is_selected,
    )


def _read_texts(connection: sqlite3.Connection, document_id: str) -> Iterator[str]:
    rows = connection.execute(
        "SELECT text, headings, name FROM passages WHERE document_id = ?", (document_id,)
    )
    return (text for row in rows for text in row)
