"""The library of collections: the only writer of rows, words and vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from index import documents as rows
from index.errors import DocumentNotFound
from index.filters import Filter
from index.fts import erase_words
from index.layouts import MAX_FLAT
from index.replay import change_embedder, check_embedder
from index.selections import SelectionCache, Selections
from index.store import (
    Store,
    advance_generation,
    count_collection,
    find_collection,
    insert_collection,
    read_collection,
    read_collections,
)
from index.types import CollectionInfo, Document, DocumentDraft, Passage
from index.vectorcache import VectorCache
from index.vectors import VectorIndex
from models.protocols import Embedder, EmbedderIdentity, Vectors


class Library:
    """All collections of one data directory, for one embedder.

    Every change is one SQLite transaction; FAISS follows from it. Several processes may hold a
    library on the same directory: each sees what the others committed at its next search.
    """

    def __init__(
        self,
        data_dir: Path,
        embedder: Embedder,
        *,
        busy_timeout_s: float = 30.0,
        max_flat: int = MAX_FLAT,
        forget: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """Open or create the library. Raises as `Store` does; loads no model.

        A collection of more than `max_flat` vectors is searched through inverted lists. `forget`
        is given the ids of documents while they are deleted, for what is kept of them elsewhere;
        if it raises they stay.
        """
        self.data_dir = data_dir
        self.store = Store(data_dir, busy_timeout_s)
        self._embedder = embedder
        self._forget = forget
        self._vectors = VectorCache(self.store, data_dir / "vectors", max_flat)
        self._selections = SelectionCache()

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; idempotent. Vectors not settled are replayed at the next open."""
        self.store.close()

    # Collections

    def collections(self) -> list[CollectionInfo]:
        """Every collection, by name."""
        with self.store.reading() as connection:
            return [count_collection(connection, row) for row in read_collections(connection)]

    def collection(self, name: str) -> CollectionInfo:
        """Name and size of one collection. Raises `CollectionNotFound`."""
        with self.store.reading() as connection:
            return count_collection(connection, read_collection(connection, name))

    def create_collection(self, name: str) -> CollectionInfo:
        """The collection of that name, new or as it was.

        Raises `NameInvalid`, and `EmbedderMismatch` where it exists with another embedder.
        """
        identity = self._embedder.identity
        with self.store.writing() as connection:
            row = find_collection(connection, name)
            if row is None:
                row = insert_collection(connection, name, identity)
            check_embedder(row, identity)
            return count_collection(connection, row)

    def delete_collection(self, name: str) -> CollectionInfo:
        """Delete a collection with all its documents. Raises `CollectionNotFound`."""
        with self.store.writing() as connection:
            row = read_collection(connection, name)
            info = count_collection(connection, row)
            generation = advance_generation(connection, row)
            documents = rows.read_documents(connection, name, "", info.num_documents)
            for document in documents:
                rows.remove_document(connection, row, document.id, generation)
            self._forget_states([document.id for document in documents])
            connection.execute("DELETE FROM collections WHERE id = ?", (row.id,))
            erase_words(connection)
        self._vectors.forget(row)
        self.store.empty_journal()
        return info

    # Documents

    def put(self, collection: str, draft: DocumentDraft, vectors: Vectors) -> Document:
        """Commit a document, in the place of the one that has its path in the collection.

        `vectors` is float32 of shape `(len(draft.passages), dimension)`. Raises
        `CollectionNotFound`, `EmbedderMismatch` or a storage error; then nothing was changed.
        """
        identity = self._embedder.identity
        if vectors.shape != (len(draft.passages), identity.dimension):
            raise ValueError(f"{len(draft.passages)} passages need as many vectors")
        with self.store.writing() as connection:
            row = read_collection(connection, collection)
            check_embedder(row, identity)
            generation = advance_generation(connection, row)
            former = rows.find_document(connection, draft.path, collection)
            if former is not None:
                rows.remove_document(connection, row, former.id, generation)
                self._forget_states([former.id])
            document_id = rows.insert_document(connection, row, draft, vectors, generation)
            return rows.read_document(connection, document_id)

    def delete(self, collection: str | None, keys: Sequence[str]) -> list[Document]:
        """Delete documents by id, or by path where a collection is named, and return them.

        All or none: raises `DocumentNotFound` or `CollectionNotFound` before anything is deleted.
        When this returns, no row, word, vector or file holds anything of them.
        """
        with self.store.writing() as connection:
            if collection is not None:
                read_collection(connection, collection)
            found = (rows.read_document(connection, key, collection) for key in keys)
            deleted = {document.id: document for document in found}
            names = sorted({document.collection for document in deleted.values()})
            for name in names:
                row = read_collection(connection, name)
                generation = advance_generation(connection, row)
                for document in deleted.values():
                    if document.collection == name:
                        rows.remove_document(connection, row, document.id, generation)
            self._forget_states(list(deleted))
        for name in names:
            self.settle(name)
        return list(deleted.values())

    def set_attributes(
        self, document_id: str, attributes: Mapping[str, str | float | bool]
    ) -> Document:
        """Give a document other attributes. Raises `DocumentNotFound` or `FilterInvalid`."""
        with self.store.writing() as connection:
            document = rows.read_document(connection, document_id)
            row = read_collection(connection, document.collection)
            advance_generation(connection, row)
            rows.write_attributes(connection, row.id, document_id, attributes)
            return rows.read_document(connection, document_id)

    def find(self, collection: str, path: str) -> Document | None:
        """The document at that path of the collection, if there is one."""
        with self.store.reading() as connection:
            document = rows.find_document(connection, path, collection)
        return document if document is not None and document.path == path else None

    def document(self, key: str, collection: str | None = None) -> Document:
        """The document of that id, or of that path in `collection`. Raises `DocumentNotFound`."""
        with self.store.reading() as connection:
            return rows.read_document(connection, key, collection)

    def documents(
        self, collection: str | None = None, *, after: str = "", max_documents: int = 1_000_000
    ) -> list[Document]:
        """Documents by collection and path; in one collection those behind the path `after`.

        Raises `CollectionNotFound`.
        """
        with self.store.reading() as connection:
            if collection is not None:
                read_collection(connection, collection)
            return rows.read_documents(connection, collection, after, max_documents)

    def text(self, document_id: str) -> str:
        """A document's whole text, into which all offsets point. Raises `DocumentNotFound`."""
        with self.store.reading() as connection:
            return rows.read_text(connection, document_id)

    def passages(self, document_id: str) -> list[Passage]:
        """A document's passages in order. Raises `DocumentNotFound`."""
        with self.store.reading() as connection:
            rows.read_document(connection, document_id)
            return list(rows.iterate_passages(connection, document_id))

    # Re-embedding

    def replace_passages(
        self,
        collection: str,
        drafts: Iterator[tuple[str, DocumentDraft, Vectors]],
        identity: EmbedderIdentity,
    ) -> int:
        """Give the documents of a collection new passages and vectors, all in one transaction.

        `drafts` yields document id, draft and vectors of the embedder `identity`; the number of
        passages written is returned. Documents not yielded raise `DocumentNotFound` at the end,
        as does one deleted meanwhile: then the collection is as it was.
        """
        num_passages = 0
        with self.store.writing() as connection:
            row = read_collection(connection, collection)
            generation = advance_generation(connection, row)
            missing = {d.id for d in rows.read_documents(connection, collection, "", 1 << 60)}
            for document_id, draft, vectors in drafts:
                if document_id not in missing:
                    raise DocumentNotFound(f"{draft.path} was deleted while it was embedded.")
                missing.remove(document_id)
                rows.remove_passages(connection, row, document_id, generation)
                rows.insert_passages(
                    connection, row, document_id, draft, vectors=vectors, generation=generation
                )
                num_passages += len(draft.passages)
            if missing:
                raise DocumentNotFound(
                    f"{len(missing)} documents were added to {collection!r} while it was embedded;"
                    " run the same command again."
                )
            change_embedder(connection, row, identity, generation)
        self.settle(collection)
        return num_passages

    def _forget_states(self, document_ids: Sequence[str]) -> None:
        if self._forget is not None and document_ids:
            self._forget(document_ids)

    # Search

    def select(self, names: Sequence[str], filters: Filter | None) -> Selections:
        """The passages that a search of these collections may find. Raises `CollectionNotFound`."""
        with self.store.reading() as connection:
            return self._selections.find(connection, names, filters)

    def vectors(self, name: str) -> VectorIndex:
        """The collection's vectors, level with the database, as `VectorCache.find` says."""
        return self._vectors.find(name)

    def settle(self, name: str) -> None:
        """Finish a run of changes to a collection: call it once behind the last `put`.

        Writes the vectors beside the database, takes deleted words out of the word index and the
        journal, and shortens the log of deletions. Raises `CollectionNotFound` or a storage
        error; nothing is lost then, the next open replays.
        """
        self._vectors.save(name)
        with self.store.writing() as connection:
            erase_words(connection)
        self.store.empty_journal()
