"""The vectors of all collections: kept level with the database, laid out anew as they grow."""

from __future__ import annotations

import dataclasses
import secrets
import threading
from pathlib import Path

from index.layouts import MAX_FLAT
from index.replay import build_vectors, replay, trim_log
from index.schema import storage_errors
from index.store import CollectionRow, Store, read_collection
from index.vectors import VectorIndex


class VectorCache:
    """FAISS indexes by collection; each lies in a file of `folder` between runs."""

    def __init__(self, store: Store, folder: Path, max_flat: int = MAX_FLAT) -> None:
        self._store = store
        self._folder = folder
        self._max_flat = max_flat
        self._lock = threading.RLock()
        self._indexes: dict[int, VectorIndex] = {}
        self._tried: dict[int, str] = {}

    def find(self, name: str) -> VectorIndex:
        """The collection's vectors, level with the database.

        Cheap where nothing has changed: one row is read. Raises `CollectionNotFound` or a storage
        error.
        """
        with self._lock, self._store.reading() as connection:
            row = read_collection(connection, name)
            index = self._indexes.get(row.id)
            if index is None or self._is_outdated(row, index):
                index = self._load(row)
            if (index.stamp.key, index.stamp.generation) != (row.vectors_key, row.generation):
                index = replay(connection, name, index, self._max_flat)
            self._indexes[row.id] = index
            return index

    def save(self, name: str) -> None:
        """Write the vectors beside the database, in another layout if they outgrew theirs.

        Raises `CollectionNotFound` or a storage error; nothing is lost then.
        """
        index = self.find(name)
        is_outgrown = index.layout.is_outgrown(index.num_vectors, self._max_flat)
        if is_outgrown:
            index = self._rebuild(name)
        # In one transaction with the note of which file it is: one that outlived its database,
        # say because that was put back from a copy, is never taken for this one.
        with self._store.writing() as connection:
            row = read_collection(connection, name)
            file_key = secrets.token_hex(8)
            index.save(self._path(row), file_key)
            connection.execute(
                "UPDATE collections SET file_key = ?, layout = ?, recall = ? WHERE id = ?",
                (file_key, index.layout.kind, index.layout.recall, row.id),
            )
            trim_log(connection, row, index.stamp.generation)
        self._tried[row.id] = file_key
        if is_outgrown:
            # Lists take up to twice their room while they are filled; read back, they fit.
            with self._lock:
                self._indexes[row.id] = self._load(dataclasses.replace(row, file_key=file_key))

    def forget(self, row: CollectionRow) -> None:
        """Drop a deleted collection's vectors and their file."""
        with self._lock, storage_errors(self._store.path):
            self._indexes.pop(row.id, None)
            self._tried.pop(row.id, None)
            self._path(row).unlink(missing_ok=True)

    def _rebuild(self, name: str) -> VectorIndex:
        """The vectors laid out anew; searches go on with the former ones meanwhile."""
        with self._store.reading() as connection:
            row = read_collection(connection, name)
            built = build_vectors(connection, row, self._max_flat)
        with self._lock:
            self._indexes[row.id] = built
        return self.find(name)

    def _is_outdated(self, row: CollectionRow, index: VectorIndex) -> bool:
        """True where another process has laid the vectors out anew, in a file not yet tried."""
        return row.layout != index.layout.kind and self._tried.get(row.id) != row.file_key

    def _load(self, row: CollectionRow) -> VectorIndex:
        self._tried[row.id] = row.file_key
        dimension = row.embedder.dimension
        with storage_errors(self._store.path):
            index = VectorIndex.load(self._path(row), row.file_key, row.vectors_key, dimension)
        return index or VectorIndex(row.vectors_key, dimension)

    def _path(self, row: CollectionRow) -> Path:
        return self._folder / f"{row.name}.faiss"
