"""What version 2 of the database derives from the rows of version 1."""

from __future__ import annotations

import json
import sqlite3

from index.filters import kind_of
from index.fts import add_words


def fill_from_version_1(connection: sqlite3.Connection) -> None:
    """Fill the tables of words and attributes, inside the transaction that created them."""
    rows = connection.execute("SELECT id, collection_id, attributes FROM documents").fetchall()
    for document_id, collection_id, attributes in rows:
        add_words(connection, document_id)
        connection.executemany(
            "INSERT INTO document_attributes VALUES(?, ?, ?, ?, ?)",
            (
                (collection_id, key, kind_of(value), value, document_id)
                for key, value in json.loads(attributes).items()
            ),
        )
