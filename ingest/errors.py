"""Errors of the layer that turns files into passages.

AppError
└── IngestError
    ├── FileMissing         there is nothing at that path
    ├── FileUnreadable      permissions or the disk refuse to give the bytes
    ├── FileEmpty           no bytes, or nothing but white space
    ├── FileTooLarge        more bytes than one document may have
    ├── FileNotText         bytes of something else under the name of a text file
    ├── FileDamaged         the format is known, but this file is broken or locked
    ├── FileChanged         it was written to while it was read
    ├── FormatUnsupported   no reader for this kind of file
    ├── NoText              nothing but pictures: there is no text layer
    └── PathTaken           two files of one run claim the same path
"""

from __future__ import annotations

from models.errors import AppError


class IngestError(AppError):
    """A file that cannot be taken in; the others are."""

    code = "ingest_error"


class FileMissing(IngestError):
    """There is nothing at that path."""

    code = "file_not_found"


class FileUnreadable(IngestError):
    """Permissions or the disk refuse to give the bytes."""

    code = "file_unreadable"


class FileEmpty(IngestError):
    """No bytes, or nothing but white space."""

    code = "file_empty"


class FileTooLarge(IngestError):
    """More bytes than one document may have."""

    code = "file_too_large"


class FileNotText(IngestError):
    """Bytes of something else under the name of a text file."""

    code = "file_not_text"


class FileDamaged(IngestError):
    """The format is known, but this file is broken or locked."""

    code = "file_damaged"


class FileChanged(IngestError):
    """The file was written to while it was read."""

    code = "file_changed"


class FormatUnsupported(IngestError):
    """There is no reader for this kind of file."""

    code = "unsupported_file"


class NoText(IngestError):
    """The file holds nothing but pictures: there is no text layer."""

    code = "no_text"


class PathTaken(IngestError):
    """Two files of one run claim the same path in the collection."""

    code = "path_taken"
