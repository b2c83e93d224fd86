"""The SQLite database: connections, transactions and the table of collections."""

from __future__ import annotations

import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from index.errors import CollectionNotFound, NameInvalid
from index.migration import fill_from_version_1
from index.schema import DATABASE_NAME, connect, prepare_schema, storage_errors
from index.types import CollectionInfo
from models.protocols import EmbedderIdentity

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection as the database keeps it."""

    id: int
    name: str
    embedder: EmbedderIdentity
    vectors_key: str
    file_key: str
    generation: int
    log_start: int
    created_s: int
    layout: str
    recall: float | None


class Store:
    """Connections to `<data_dir>/mynah.db`; creates both where they are missing.

    Raises `StorageTooNew`, `StorageDamaged`, `StorageFull`, `StorageBusy` or `StorageUnwritable`,
    here and in every transaction.
    """

    def __init__(self, data_dir: Path, busy_timeout_s: float = 30.0) -> None:
        self.path = data_dir / DATABASE_NAME
        self._busy_timeout_s = busy_timeout_s
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False
        with storage_errors(self.path):
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = self._connect()
            try:
                prepare_schema(connection, fill_from_version_1)
            except BaseException:
                connection.close()
                raise
        self._idle.append(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one unchanging state of the database until the block ends."""
        with storage_errors(self.path), self._borrowed() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that commits at the end, or leaves nothing on an error.

        One writer at a time, over threads and processes; others wait for the busy timeout.
        """
        with self._write_lock, storage_errors(self.path), self._borrowed() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after a full disk.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def empty_journal(self) -> None:
        """Move the write-ahead log into the database, so that it keeps no copy of deleted text.

        Where readers hold it, the next checkpoint does so.
        """
        with self._write_lock, storage_errors(self.path), self._borrowed() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def close(self) -> None:
        """Close every connection; idempotent."""
        with self._pool_lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        return connect(self.path, self._busy_timeout_s)

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        with self._pool_lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        finally:
            with self._pool_lock:
                keep = not self._is_closed
                if keep:
                    self._idle.append(connection)
            if not keep:
                connection.close()


def insert_collection(
    connection: sqlite3.Connection, name: str, embedder: EmbedderIdentity
) -> CollectionRow:
    """The new collection's row. Raises `NameInvalid`; the name must not be taken."""
    if not _NAME.fullmatch(name):
        raise NameInvalid(
            f"{name!r} cannot name a collection: use 1 to 64 of a-z, 0-9, '.', '_' and '-',"
            " starting with a letter or digit.",
            param="collection",
        )
    connection.execute(
        "INSERT INTO collections(name, embedder_model, embedder_dimension, embedder_window,"
        " vectors_key, created_s) VALUES(?, ?, ?, ?, ?, ?)",
        (
            name,
            embedder.model,
            embedder.dimension,
            embedder.window_tokens,
            secrets.token_hex(8),
            int(time.time()),
        ),
    )
    return read_collection(connection, name)


def find_collection(connection: sqlite3.Connection, name: str) -> CollectionRow | None:
    """The collection of that name, if there is one."""
    rows = _select_collections(connection, "WHERE name = ?", (name,))
    return rows[0] if rows else None


def read_collection(connection: sqlite3.Connection, name: str) -> CollectionRow:
    """The collection of that name. Raises `CollectionNotFound`, naming those that exist."""
    row = find_collection(connection, name)
    if row is None:
        names = [known.name for known in read_collections(connection)]
        listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise CollectionNotFound(
            f"There is no collection {name!r}"
            + (f"; there are: {listed}." if names else "; none exists yet."),
            param="collection",
        )
    return row


def read_collections(connection: sqlite3.Connection) -> list[CollectionRow]:
    """Every collection, by name."""
    return _select_collections(connection, "ORDER BY name", ())


def count_collection(connection: sqlite3.Connection, row: CollectionRow) -> CollectionInfo:
    """Name and size of a collection."""
    num_documents, num_passages = connection.execute(
        "SELECT count(*), coalesce(sum(num_passages), 0) FROM documents WHERE collection_id = ?",
        (row.id,),
    ).fetchone()
    return CollectionInfo(
        name=row.name,
        num_documents=num_documents,
        num_passages=num_passages,
        embedder_model=row.embedder.model,
        created_s=row.created_s,
        layout=row.layout,
        recall=row.recall,
    )


def advance_generation(connection: sqlite3.Connection, row: CollectionRow) -> int:
    """The generation that the running transaction's changes to the collection belong to."""
    connection.execute("UPDATE collections SET generation = generation + 1 WHERE id = ?", (row.id,))
    (generation,) = connection.execute(
        "SELECT generation FROM collections WHERE id = ?", (row.id,)
    ).fetchone()
    return int(generation)


def _select_collections(
    connection: sqlite3.Connection, clause: str, values: tuple[str, ...]
) -> list[CollectionRow]:
    columns = (
        "id, name, embedder_model, embedder_dimension, embedder_window, vectors_key, file_key,"
        " generation, log_start, created_s, layout, recall"
    )
    rows = connection.execute(f"SELECT {columns} FROM collections {clause}", values)  # noqa: S608
    return [
        CollectionRow(
            id=id_,
            name=name,
            embedder=EmbedderIdentity(model, dimension, window),
            vectors_key=key,
            file_key=file_key,
            generation=generation,
            log_start=log_start,
            created_s=created_s,
            layout=layout,
            recall=recall,
        )
        for (
            id_,
            name,
            model,
            dimension,
            window,
            key,
            file_key,
            generation,
            log_start,
            created_s,
            layout,
            recall,
        ) in rows
    ]
