"""The words that occur in passages, and those among them that resemble a mistyped one.

A query's word that no passage has is looked up here: words of few other letters (typos), words of
another ending (word forms), words that begin with it or that it begins with (compounds). None of
it knows a language.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence

from index.matching import choose_limit, count_rows, rank_rows
from index.scripts import fold_accents, is_spaceless

MIN_LETTERS = 4
MAX_LETTERS = 40
_MAX_SIMILAR = 3
_MAX_ENDING = 3
_NUM_CANDIDATES = 60
_GRAM_BUDGET = 3000
_WORD = re.compile(r"[^\W\d_]+")
# Stands before and behind a word, so that its first and last letters make runs of three too.
_EDGE = "\x02"


def add_vocabulary(connection: sqlite3.Connection, texts: Iterable[str]) -> None:
    """Count a new document's words; `texts` are all that is searched of it."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM words").fetchone()
    connection.executemany(
        "INSERT INTO words(word, folded, num_documents) VALUES(?, ?, 1)"
        " ON CONFLICT(word) DO UPDATE SET num_documents = num_documents + 1",
        ((word, _fold(word)) for word in sorted(_find_words(texts))),
    )
    connection.execute(
        "INSERT INTO word_grams(rowid, folded) SELECT id, folded FROM words WHERE id > ?", (last,)
    )


def remove_vocabulary(connection: sqlite3.Connection, texts: Iterable[str]) -> None:
    """Take back what `add_vocabulary` did for the same texts; words of no document are gone."""
    connection.executemany(
        "UPDATE words SET num_documents = num_documents - 1 WHERE word = ?",
        ((word,) for word in _find_words(texts)),
    )
    connection.execute(
        "INSERT INTO word_grams(word_grams, rowid, folded)"
        " SELECT 'delete', id, folded FROM words WHERE num_documents < 1"
    )
    connection.execute("DELETE FROM words WHERE num_documents < 1")


def similar_words(connection: sqlite3.Connection, word: str) -> list[str]:
    """Up to three words that occur and resemble `word`, best first; none for a short word.

    Up to 7 letters one edit is forgiven, beyond two; an edit inserts, drops, replaces or swaps.
    """
    wanted = fold_accents(word).casefold()
    if not MIN_LETTERS <= len(wanted) <= MAX_LETTERS or not _WORD.fullmatch(wanted):
        return []
    found = {*_share_runs(connection, wanted), *_share_start(connection, wanted)}
    found |= _swapped(connection, wanted)
    ranked = sorted(
        (cost, -num_documents, candidate)
        for candidate, folded, num_documents in found
        if (cost := _cost(wanted, folded.strip(_EDGE))) is not None
    )
    best = ranked[0][0] if ranked else 0
    return [candidate for cost, _, candidate in ranked[:_MAX_SIMILAR] if cost <= best + 1]


def edit_distance(first: str, second: str, limit: int) -> int:
    """Edits between two words, neighbours swapped being one; `limit + 1` where they are more.

    The optimal string alignment distance, row by row.
    """
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before: Sequence[int] = []
    row: Sequence[int] = range(len(second) + 1)
    for i, letter in enumerate(first, start=1):
        following = [i]
        for j, other in enumerate(second, start=1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        if min(following) > limit:
            return limit + 1
        before, row = row, following
    return min(row[-1], limit + 1)


Candidate = tuple[str, str, int]


def _cost(wanted: str, folded: str) -> int | None:
    """How far a candidate is from the word wanted, 0 at best; None where it does not resemble it.

    A typo costs its edits, another ending 1 (more with a typo before it), a compound that shares
    its beginning 2.
    """
    limit = 1 if len(wanted) < 8 else 2
    edits = edit_distance(wanted, folded, limit)
    costs = [edits] if edits <= limit else []
    if 0 < len(folded) - len(wanted) <= _MAX_ENDING:
        edits = edit_distance(wanted, folded[: len(wanted)], limit)
        costs += [edits + 1] if edits <= limit else []
    shared = _shared_start(wanted, folded)
    if shared >= MIN_LETTERS:
        endings = (len(wanted) - shared, len(folded) - shared)
        if max(endings) <= _MAX_ENDING and shared >= 2 * max(endings):
            costs.append(1)
        if endings[0] == 0 or (endings[1] == 0 and shared >= 0.4 * len(wanted)):
            costs.append(2)
    return min(costs, default=None)


def _shared_start(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _share_runs(connection: sqlite3.Connection, wanted: str) -> list[Candidate]:
    """Words that share runs of three letters with it, rarest runs first."""
    marked = _EDGE * 2 + wanted + _EDGE
    grams = list(dict.fromkeys(marked[at : at + 3] for at in range(len(marked) - 2)))
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM words").fetchone()
    limit = choose_limit(last)
    counts = count_rows(connection, "word_grams", grams, limit)
    ranked = rank_rows(
        connection,
        "word_grams",
        counts,
        limit=limit,
        budget=_GRAM_BUDGET,
        max_rows=_NUM_CANDIDATES,
    )
    return _read_words(connection, "id", [id_ for id_, _ in ranked])


def _share_start(connection: sqlite3.Connection, wanted: str) -> list[Candidate]:
    """The commonest words that begin with it, and those it begins with."""
    longer = connection.execute(
        "SELECT word, folded, num_documents FROM words WHERE word > ? AND word < ?"
        " ORDER BY num_documents DESC LIMIT ?",
        (wanted, wanted + "\U0010ffff", _NUM_CANDIDATES),
    ).fetchall()
    starts = [wanted[:end] for end in range(MIN_LETTERS, len(wanted))]
    return longer + _read_words(connection, "word", starts)


def _swapped(connection: sqlite3.Connection, wanted: str) -> set[Candidate]:
    """Words with two neighbours swapped: in a short word no run of three outlives that."""
    swapped = [
        wanted[:at] + wanted[at + 1] + wanted[at] + wanted[at + 2 :]
        for at in range(len(wanted) - 1)
    ]
    return set(_read_words(connection, "word", swapped))


def _read_words(
    connection: sqlite3.Connection, column: str, values: Sequence[object]
) -> list[Candidate]:
    marks = ",".join("?" * len(values))
    return connection.execute(
        f"SELECT word, folded, num_documents FROM words WHERE {column} IN ({marks})",  # noqa: S608
        list(values),
    ).fetchall()


def _find_words(texts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for text in texts:
        found.update(_WORD.findall(fold_accents(text)))
    return {w for w in found if MIN_LETTERS <= len(w) <= MAX_LETTERS and not is_spaceless(w)}


def _fold(word: str) -> str:
    return _EDGE * 2 + word.casefold() + _EDGE
