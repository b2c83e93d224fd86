"""Errors of the layer that keeps and finds.

AppError
└── StoreError
    ├── CollectionNotFound   no collection of that name
    ├── DocumentNotFound     no document of that id or path
    ├── NameInvalid          a collection's name breaks the naming rule
    ├── FilterInvalid        a filter, or an attribute, has a wrong shape or value
    ├── RankingInvalid       weights or a threshold that no search can use
    ├── EmbedderMismatch     the collection was embedded by another embedder
    ├── StorageFull          the disk is full; nothing half-written was kept
    ├── StorageDamaged       the database cannot be read
    ├── StorageTooNew        the database was written by a newer Mynah
    ├── StorageBusy          another process has been writing for too long
    └── StorageUnwritable    the data directory may not be read or written
"""

from __future__ import annotations

from models.errors import AppError


class StoreError(AppError):
    """Something the store refuses or cannot do."""

    code = "store_error"


class CollectionNotFound(StoreError):
    """There is no collection of that name."""

    code = "collection_not_found"


class DocumentNotFound(StoreError):
    """There is no document of that id or path."""

    code = "document_not_found"


class NameInvalid(StoreError):
    """A collection's name breaks the naming rule."""

    code = "invalid_value"


class FilterInvalid(StoreError):
    """A filter, or an attribute of a document, has a wrong shape or value."""

    code = "invalid_value"


class RankingInvalid(StoreError):
    """Weights or a threshold that no search can use."""

    code = "invalid_value"


class EmbedderMismatch(StoreError):
    """The collection's vectors come from another embedder."""

    code = "embedder_mismatch"


class StorageFull(StoreError):
    """The disk is full; nothing half-written was kept."""

    code = "storage_full"


class StorageDamaged(StoreError):
    """The database cannot be read."""

    code = "storage_damaged"


class StorageTooNew(StoreError):
    """The database was written by a newer Mynah."""

    code = "storage_too_new"


class StorageBusy(StoreError):
    """Another process has been writing for longer than we wait."""

    code = "storage_busy"


class StorageUnwritable(StoreError):
    """The data directory may not be read or written."""

    code = "storage_unwritable"
