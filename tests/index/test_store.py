from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from index.errors import (
    StorageBusy,
    StorageDamaged,
    StorageFull,
    StorageTooNew,
    StorageUnwritable,
)
from index.schema import SCHEMA_VERSION
from index.store import Store, insert_collection, read_collections
from models.protocols import EmbedderIdentity

IDENTITY = EmbedderIdentity("hashing", 64, 256)


def test_the_database_is_in_wal_mode_with_foreign_keys_and_secure_deletion(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.reading() as connection:
        values = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "foreign_keys", "secure_delete", "user_version")
        ]
    store.close()
    assert values == ["wal", 1, 1, SCHEMA_VERSION]


def test_a_newer_schema_is_refused_by_name_of_both_versions(tmp_path: Path) -> None:
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "mynah.db")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StorageTooNew, match=f"schema {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
        Store(tmp_path)


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "mynah.db").write_bytes(b"not a database at all, but long enough" * 100)
    with pytest.raises(StorageDamaged, match="cannot be read"):
        Store(tmp_path)


def test_a_database_with_a_broken_page_is_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as connection:
        insert_collection(connection, "docs", IDENTITY)
    store.close()
    path = tmp_path / "mynah.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with (
        pytest.raises(StorageDamaged, match="put it back from a copy"),
        Store(tmp_path).reading() as connection,
    ):
        read_collections(connection)


def test_a_folder_that_cannot_be_made_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StorageUnwritable, NotADirectoryError, FileExistsError)):
        Store(tmp_path / "file" / "data")


def test_an_error_inside_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def insert_and_fail() -> None:
        with store.writing() as connection:
            insert_collection(connection, "docs", IDENTITY)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        insert_and_fail()
    with store.reading() as connection:
        assert read_collections(connection) == []
    store.close()


def test_a_full_database_is_storage_full_and_keeps_what_was_committed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as connection:
        insert_collection(connection, "before", IDENTITY)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    def insert_many() -> None:
        with store.writing() as connection:
            for number in range(10_000):
                insert_collection(connection, f"c{number}", IDENTITY)

    with pytest.raises(StorageFull, match="No room left"):
        insert_many()
    with store.reading() as connection:
        assert [row.name for row in read_collections(connection)] == ["before"]
    store.close()


def test_a_writer_that_waits_too_long_is_told_who_writes(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path, busy_timeout_s=0.05)
    with first.writing(), pytest.raises(StorageBusy, match="Another process"), second.writing():
        pass
    first.close()
    second.close()


def test_readers_go_on_while_a_writer_writes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as writer:
        insert_collection(writer, "docs", IDENTITY)
        with store.reading() as reader:
            assert read_collections(reader) == []
    store.close()


def test_threads_opening_a_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_and_close(data_dir: Path) -> None:
        try:
            Store(data_dir).close()
        except BaseException as error:
            errors.append(error)

    # Of fifty new stores, several had a thread told that the file was locked, before it waited.
    for count in range(50):
        data_dir = tmp_path / str(count)
        threads = [threading.Thread(target=open_and_close, args=(data_dir,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
