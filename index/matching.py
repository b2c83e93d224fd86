"""BM25 over an FTS5 table at a bounded price, however large the table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence

# At least up to here rows are counted; see `choose_limit`.
_MIN_LIMIT = 5_000

Ranked = list[tuple[int, float]]


def choose_limit(num_rows: int) -> int:
    """The count of rows from which on a phrase is too common to score by, in a table of so many.

    Half of them at most: there BM25's weight (idf) of the phrase is nil.
    """
    return max(1, min(num_rows // 2, max(_MIN_LIMIT, num_rows // 20)))


def count_rows(
    connection: sqlite3.Connection, table: str, phrases: Sequence[str], limit: int
) -> dict[str, int]:
    """Number of rows with each phrase, counted up to `limit`; no row is read for it."""
    return {phrase: _count(connection, table, quote(phrase), limit) for phrase in phrases}


def rank_rows(
    connection: sqlite3.Connection,
    table: str,
    counts: Mapping[str, int],
    *,
    limit: int,
    budget: int,
    max_rows: int,
    is_selected: Callable[[int], bool] | None = None,
) -> Ranked:
    """Row ids with their BM25 score (higher is better), best first, ties by id.

    Any row with any of the phrases, as long as these occur in at most `budget` rows together. In
    a larger table a row must have one of the rarest that do (or the very rarest), and is scored by
    these and all that occur in fewer than `limit` rows, up to which `counts` go. `is_selected`
    keeps rows out before they are ranked.
    """
    present = sorted((phrase for phrase in counts if counts[phrase]), key=counts.__getitem__)
    required, num_rows = list[str](), 0
    for phrase in present:
        num_rows += counts[phrase]
        if required and num_rows > budget:
            break
        required.append(phrase)
    if not required:
        return []
    others = [phrase for phrase in present[len(required) :] if counts[phrase] < limit]
    clause = ""
    if is_selected is not None:
        connection.create_function("is_selected", 1, is_selected)
        clause = " AND is_selected(rowid)"
    # Every phrase of the pair stands in the expression twice, so BM25, a sum, is twice as much.
    expression, times = _any(required), 1
    if others:
        expression, times = f"({expression}) AND ({_any([*required, *others, *others])})", 2
    try:
        rows = connection.execute(
            f"SELECT rowid, bm25({table}) AS score FROM {table}"  # noqa: S608
            f" WHERE {table} MATCH ?{clause} ORDER BY score, rowid LIMIT ?",
            (expression, max_rows),
        ).fetchall()
    finally:
        if is_selected is not None:
            connection.create_function("is_selected", 1, None)
    return [(row, -score / times) for row, score in rows]


def quote(phrase: str) -> str:
    """The phrase as FTS5 takes it literally; of one character, as the beginning of a word."""
    return f'"{phrase}"' + (" *" if len(phrase) == 1 and not phrase.isascii() else "")


def _count(connection: sqlite3.Connection, table: str, expression: str, limit: int) -> int:
    matching = f"FROM {table} WHERE {table} MATCH ?"
    # Rows that are passed over cost less than rows that are counted, and most are of few phrases.
    probe = f"SELECT 1 {matching} LIMIT 1 OFFSET {limit - 1}"
    if connection.execute(probe, (expression,)).fetchone() is not None:
        return limit
    (num,) = connection.execute(f"SELECT count(*) {matching}", (expression,)).fetchone()
    return int(num)


def _any(phrases: Sequence[str]) -> str:
    return " OR ".join(map(quote, phrases))
