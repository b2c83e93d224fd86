"""The tables of `mynah.db`, how a connection to it is set up, and what its errors mean."""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from index.errors import (
    StorageBusy,
    StorageDamaged,
    StorageFull,
    StorageTooNew,
    StorageUnwritable,
    StoreError,
)
from index.scripts import separate

SCHEMA_VERSION = 2
DATABASE_NAME = "mynah.db"

_WAL_RETRY_S = 0.005

# `generation` counts a collection's committed changes; `vectors_key` names the lineage of its
# vectors (a new one with each embedder), `file_key` the one file that holds them, `layout` and
# `recall` how they are laid out there; `log_start` is the generation before which deletions are no
# longer logged. A document's passages have successive ids, from `first_passage` on.
_TABLES = """
CREATE TABLE collections(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  embedder_model TEXT NOT NULL,
  embedder_dimension INTEGER NOT NULL,
  embedder_window INTEGER NOT NULL,
  vectors_key TEXT NOT NULL,
  file_key TEXT NOT NULL DEFAULT '',
  generation INTEGER NOT NULL DEFAULT 0,
  log_start INTEGER NOT NULL DEFAULT 0,
  created_s INTEGER NOT NULL,
  layout TEXT NOT NULL DEFAULT 'flat',
  recall REAL
) STRICT;

CREATE TABLE documents(
  id TEXT PRIMARY KEY,
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  path TEXT NOT NULL,
  media_type TEXT NOT NULL,
  content_hash TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  num_passages INTEGER NOT NULL,
  created_s INTEGER NOT NULL,
  title TEXT,
  page_starts TEXT NOT NULL,
  attributes TEXT NOT NULL,
  first_passage INTEGER NOT NULL DEFAULT 0,
  UNIQUE(collection_id, path)
) STRICT;

CREATE TABLE document_texts(
  document_id TEXT PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
  text TEXT NOT NULL
) STRICT;

CREATE TABLE passages(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  start_offset INTEGER NOT NULL,
  end_offset INTEGER NOT NULL,
  page INTEGER,
  num_tokens INTEGER NOT NULL,
  headings TEXT NOT NULL,
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  embedding BLOB NOT NULL
) STRICT;
CREATE INDEX passages_by_document ON passages(document_id, ordinal);
CREATE INDEX passages_by_generation ON passages(collection_id, generation);

CREATE TABLE deletions(
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  passage_id INTEGER NOT NULL
) STRICT;
CREATE INDEX deletions_by_generation ON deletions(collection_id, generation);
"""

# The attributes of documents in a form that filters can look up, a row for each.
_ATTRIBUTES = """
CREATE TABLE document_attributes(
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  kind TEXT NOT NULL,
  value ANY NOT NULL,
  document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  PRIMARY KEY(collection_id, key, kind, value, document_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX attributes_by_document ON document_attributes(document_id);
CREATE INDEX documents_by_passage ON documents(collection_id, first_passage, num_passages);
"""

# FTS5 keeps no copy of the text: `passage_words` indexes the passages as `separate` writes them.
# It stems English endings: that found more than whole words, and leaves other languages' words
# findable as they are. `words` are all words that occur, `folded` with a mark at both ends, and
# `word_grams` finds those that resemble a word by the runs of three letters they share.
_WORDS = """
CREATE VIRTUAL TABLE passage_words USING fts5(
  text, headings, name, content='',
  tokenize="porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
CREATE TABLE words(
  id INTEGER PRIMARY KEY,
  word TEXT NOT NULL UNIQUE,
  folded TEXT NOT NULL,
  num_documents INTEGER NOT NULL
) STRICT;
CREATE INDEX words_unused ON words(id) WHERE num_documents < 1;
CREATE VIRTUAL TABLE word_grams USING fts5(
  folded, content='words', content_rowid='id', tokenize='trigram'
);
"""

# From the first version: a column before the words lets them be filled from it.
_FROM_VERSION_1 = """
ALTER TABLE collections ADD COLUMN layout TEXT NOT NULL DEFAULT 'flat';
ALTER TABLE collections ADD COLUMN recall REAL;
ALTER TABLE documents ADD COLUMN first_passage INTEGER NOT NULL DEFAULT 0;
UPDATE documents SET first_passage = coalesce(
  (SELECT min(id) FROM passages WHERE document_id = documents.id), 0);
DROP TABLE passage_words;
DROP VIEW passage_search;
"""


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode with WAL, foreign keys and secure deletion switched on.

    It may be handed from thread to thread, used by one at a time.
    """
    connection = sqlite3.connect(
        path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False
    )
    try:
        _switch_to_wal(connection, busy_timeout_s)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.create_function("separate", 1, separate, deterministic=True)
    except BaseException:
        connection.close()
        raise
    return connection


def _switch_to_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    # SQLite doesn't wait here as it waits elsewhere: it reads the mode before it asks to write,
    # and of two connections that have both read, one is told at once that the file is locked.
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
        time.sleep(_WAL_RETRY_S)


def prepare_schema(
    connection: sqlite3.Connection, fill: Callable[[sqlite3.Connection], None]
) -> None:
    """Create the tables in a new database, bring an older one up; refuse a newer one.

    `fill` writes what version 2 derives from the rows of version 1. All or nothing: a process
    that is killed meanwhile leaves the database as it was. Raises `StorageTooNew`.
    """
    if _version(connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > SCHEMA_VERSION:
            raise StorageTooNew(
                f"This data directory was written by a newer Mynah (schema {version}, this one"
                f" knows up to {SCHEMA_VERSION}); update Mynah or choose another --data-dir."
            )
        if version < SCHEMA_VERSION:
            _run(connection, _TABLES if version == 0 else _FROM_VERSION_1)
            _run(connection, _ATTRIBUTES + _WORDS)
            if has_fts_erase():
                for table in ("passage_words", "word_grams"):
                    connection.execute(
                        f"INSERT INTO {table}({table}, rank) VALUES('secure-delete', 1)"
                    )
            if version == 1:
                fill(connection)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def has_fts_erase() -> bool:
    """True where this SQLite can take deleted words out of FTS5 segments at once (3.42)."""
    return sqlite3.sqlite_version_info >= (3, 42)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Inside, errors of SQLite and of the disk become the `StoreError` that says what is wrong."""
    try:
        yield
    except sqlite3.Error as error:
        translated = _translate(error, path)
        if translated is None:
            raise
        raise translated from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(
                f"No room left to write in {path.parent}; what was committed before is kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageUnwritable(f"{path.parent} cannot be written: {error.strerror}.") from (
                error
            )
        raise


def _translate(error: sqlite3.Error, path: Path) -> StoreError | None:
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    reads = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and extended not in reads):
        return StorageFull(
            f"No room left to write {path} ({error}); what was committed before is kept."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageBusy(f"Another process is writing to {path}; try again when it is done.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageUnwritable(f"{path} cannot be opened for writing ({error}).")
    if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR):
        return None
    return StorageDamaged(
        f"{path} cannot be read ({error}); put it back from a copy, or move it away and ingest"
        " again."
    )
