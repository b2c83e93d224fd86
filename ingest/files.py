"""Files of the user: found in stable order, read whole, told when they change meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import (
    FileChanged,
    FileEmpty,
    FileMissing,
    FileTooLarge,
    FileUnreadable,
    FormatUnsupported,
    IngestError,
)
from ingest.readers.registry import is_supported

MAX_FILE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to take in: where it lies, the path it gets in the collection, or why it cannot."""

    location: Path
    path: str
    error: IngestError | None = None


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's bytes with their SHA-256 in hexadecimal digits."""

    content: bytes
    content_hash: str


def find_files(paths: Sequence[Path]) -> list[FoundFile]:
    """Files under the given paths, each once, by path.

    A folder gives its files of known kinds with paths relative to it, hidden ones left out; a
    file that is named itself is taken whatever it is. What cannot be read comes with its error.
    """
    found: list[FoundFile] = []
    seen: set[tuple[int, int]] = set()
    for given in paths:
        for file in _find(given):
            identity = _identity(file.location)
            if identity is None or identity not in seen:
                found.append(file)
            if identity is not None:
                seen.add(identity)
    return found


def read_file(location: Path, name: str, max_bytes: int = MAX_FILE_BYTES) -> FileContent:
    """The bytes of a file as they were at one moment.

    A file that is written to meanwhile is read once more. Raises `FileMissing`, `FileUnreadable`,
    `FileTooLarge`, `FileEmpty` or `FileChanged`.
    """
    for _ in range(2):
        try:
            with location.open("rb") as file:
                before = os.fstat(file.fileno())
                if not stat.S_ISREG(before.st_mode):
                    raise FormatUnsupported(f"{name} is not a regular file.")
                if before.st_size > max_bytes:
                    raise FileTooLarge(
                        f"{name} has {before.st_size / 1e6:,.0f} MB; at most"
                        f" {max_bytes / 1e6:,.0f} MB are read. Split it, or raise the limit."
                    )
                content = file.read(max_bytes + 1)
            after = location.stat()
        except OSError as error:
            raise _translate(error, name) from error
        is_same = _version(before) == _version(after) and len(content) == after.st_size
        if is_same:
            if not content:
                raise FileEmpty(f"{name} is empty (0 bytes).")
            return FileContent(content, hashlib.sha256(content).hexdigest())
    raise FileChanged(f"{name} is being written to; ingest it again when that is done.")


def as_text(path: str) -> str:
    """A path as text that can be stored: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def _find(given: Path) -> Iterator[FoundFile]:
    try:
        mode = given.stat().st_mode
    except OSError as error:
        yield FoundFile(given, as_text(str(given)), _translate(error, as_text(str(given))))
        return
    if not stat.S_ISDIR(mode):
        yield FoundFile(given, as_text(given.name))
        return
    errors: list[OSError] = []
    # Links to folders are followed: a set of the folders above stops loops.
    yield from _walk(given, given, frozenset(), errors)
    for failure in errors:
        place = as_text(str(failure.filename))
        yield FoundFile(Path(failure.filename), place, _translate(failure, place))


def _walk(
    root: Path, folder: Path, above: frozenset[tuple[int, int]], errors: list[OSError]
) -> Iterator[FoundFile]:
    try:
        info = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        errors.append(error)
        return
    here = (info.st_dev, info.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        location = Path(entry.path)
        try:
            is_folder = entry.is_dir()
        except OSError as error:
            errors.append(error)
            continue
        if is_folder:
            yield from _walk(root, location, above | {here}, errors)
        elif is_supported(entry.name):
            yield FoundFile(location, as_text(location.relative_to(root).as_posix()))


def _identity(location: Path) -> tuple[int, int] | None:
    try:
        info = location.stat()
    except OSError:
        return None  # reading it will say why
    return info.st_dev, info.st_ino


def _version(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ino


def _translate(error: OSError, name: str) -> IngestError:
    if isinstance(error, FileNotFoundError):
        return FileMissing(f"{name} does not exist.", param="path")
    return FileUnreadable(f"{name} cannot be read: {error.strerror or error}.")
