"""BM25 over the words of passages, in SQLite's FTS5."""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from index.schema import has_fts_erase

_WORD = re.compile(r"\w+")
_MAX_QUERY_WORDS = 64


def add_words(connection: sqlite3.Connection, document_id: str) -> None:
    """Make a document's passages findable by their words."""
    connection.execute(
        "INSERT INTO passage_words(rowid, scope, text, headings, name)"
        " SELECT id, scope, text, headings, name FROM passage_search WHERE document_id = ?",
        (document_id,),
    )


def remove_words(connection: sqlite3.Connection, document_id: str) -> None:
    """Take a document's words out; must run before its passages are deleted."""
    connection.execute(
        "INSERT INTO passage_words(passage_words, rowid, scope, text, headings, name)"
        " SELECT 'delete', id, scope, text, headings, name FROM passage_search"
        " WHERE document_id = ?",
        (document_id,),
    )


def erase_words(connection: sqlite3.Connection) -> None:
    """Rewrite the FTS segments without the words of deleted passages.

    Does nothing where SQLite is new enough to do so on deletion.
    """
    if not has_fts_erase():
        connection.execute("INSERT INTO passage_words(passage_words) VALUES('optimize')")


def match_expression(query: str, collection_id: int) -> str | None:
    """FTS5 expression for passages of one collection with any word of `query`.

    None where the query has no word. Nothing in the query is taken for syntax: only runs of
    letters, digits and underscores go in, each quoted.
    """
    composed = unicodedata.normalize("NFC", query).lower()
    words = list(dict.fromkeys(_WORD.findall(composed)))[:_MAX_QUERY_WORDS]
    if not words:
        return None
    any_word = " OR ".join(f'"{word}"' for word in words)
    return f"scope : c{collection_id} AND {{text headings name}} : ({any_word})"


def search_words(
    connection: sqlite3.Connection, query: str, collection_id: int, max_hits: int
) -> list[tuple[int, float]]:
    """Passage ids with their BM25 score (higher is better), best first, ties by id."""
    expression = match_expression(query, collection_id)
    if expression is None:
        return []
    # Weights of scope, text, headings and name; all but the first alike measured best.
    rows = connection.execute(
        "SELECT rowid, bm25(passage_words, 0.0, 1.0, 1.0, 1.0) AS score FROM passage_words"
        " WHERE passage_words MATCH ? ORDER BY score, rowid LIMIT ?",
        (expression, max_hits),
    )
    return [(passage_id, -score) for passage_id, score in rows]
