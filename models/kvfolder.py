"""The folder of saved states: one file each, whole or not there.

    kv/<owner>/<key>.kv    a state of a document's passage; `owner` is a hash of the document's id
    kv/<owner>             an empty file in its place: the document was deleted, nothing may come
    kv/shared/<key>.kv     states that belong to no document

A file is written aside, fsynced and renamed, and begins with a checksum: one that is damaged, cut
short or of another key is no state and is removed. Several processes may use one folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

logger = logging.getLogger("mynah.kv")

State = npt.NDArray[np.uint8]

# magic, version, key, length of the state, BLAKE2b of key and state.
_HEADER = struct.Struct("<4sI32sQ32s")
_MAGIC, _VERSION = b"MYKV", 1
_SHARED = "shared"
# What a killed process left half-written; a running one needs seconds.
_STALE_S = 3600.0
# Ids are never reused, and no request runs that long.
_TOMBSTONE_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class _Saved:
    path: Path
    num_bytes: int
    used_at: float


class KvFolder:
    """States on disk, at most `max_bytes` of them; the least recently used go first."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Create the folder. Raises `OSError` where that cannot be done."""
        self._folder = folder
        self._max_bytes = max_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_leftovers()
        self._num_bytes = self._evict()

    @property
    def num_bytes(self) -> int:
        """Bytes of all states, as this process knows them."""
        return self._num_bytes

    def read(self, key: bytes, owner: str) -> State | None:
        """The state, None where there is none that is whole."""
        path = self._path(key, owner)
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER.size)
                state = np.fromfile(file, dtype=np.uint8)
            os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            logger.warning("cannot read the saved state %s: %s", path.name, error.strerror)
            return None
        if len(head) == _HEADER.size and head == _header(key, state):
            return state
        logger.warning("the saved state %s is damaged; it is computed anew", path.name)
        with contextlib.suppress(OSError):
            path.unlink()
        return None

    def write(self, key: bytes, owner: str, state: State) -> bool:
        """Save a state, and whether that was done: not where its document was deleted meanwhile."""
        path = self._path(key, owner)
        aside = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_header(key, state))
                file.write(state.data)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(path)
            _sync_folder(path.parent)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            logger.warning("cannot save the state %s: %s", path.name, error.strerror)
            with contextlib.suppress(OSError):
                aside.unlink()
            return False
        self._num_bytes += _HEADER.size + state.nbytes
        if self._num_bytes > self._max_bytes:
            self._num_bytes = self._evict()
        return True

    def count(self) -> int:
        """Number of states, counted now."""
        return sum(1 for _ in self._saved())

    def _path(self, key: bytes, owner: str) -> Path:
        return self._folder / (_owner_name(owner) if owner else _SHARED) / f"{key.hex()}.kv"

    def _saved(self) -> Iterator[_Saved]:
        for path in self._folder.glob("*/*.kv"):
            with contextlib.suppress(OSError):  # Another process removed it.
                status = path.stat()
                yield _Saved(path, status.st_size, status.st_mtime)

    def _evict(self) -> int:
        """Remove the oldest beyond the budget; return the bytes that are left."""
        found = sorted(self._saved(), key=lambda saved: saved.used_at)
        total = sum(saved.num_bytes for saved in found)
        for saved in found:
            if total <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                saved.path.unlink()
            total -= saved.num_bytes
        return total

    def _remove_leftovers(self) -> None:
        now = time.time()
        for pattern, age_s in (("*/.*.tmp", _STALE_S), ("*", _TOMBSTONE_S)):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(OSError):
                    if path.is_file() and now - path.stat().st_mtime > age_s:
                        path.unlink()
        for path in self._folder.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)


class DeletionWatch:
    """Tells when any process has had documents forgotten in a folder of states."""

    def __init__(self, folder: Path) -> None:
        """Create the folder, for without one nothing is noted in it. Raises `OSError`."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._stamp, self._forgotten = self._read_stamp(), self._read_forgotten()

    def is_changed(self) -> bool:
        """Whether something happened since the last call; cheap, and true too often."""
        before, self._stamp = self._stamp, self._read_stamp()
        return self._stamp is None or self._stamp != before

    def has_new(self) -> bool:
        """Whether documents were forgotten since the last call, or may have been."""
        try:
            before, self._forgotten = self._forgotten, self._read_forgotten()
        except OSError:
            # Somebody removed the folder, and nothing was noted meanwhile.
            with contextlib.suppress(OSError):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return True
        return not self._forgotten <= before

    def is_gone(self, owner: str) -> bool:
        """Whether the states of that document were forgotten."""
        return bool(owner) and (self._folder / _owner_name(owner)).is_file()

    def _read_stamp(self) -> int | None:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return None

    def _read_forgotten(self) -> frozenset[str]:
        return frozenset(path.name for path in self._folder.iterdir() if path.is_file())


def forget_states(folder: Path, owners: Iterable[str]) -> None:
    """Delete the states of documents for good, also those that a running process saves later.

    Needs no engine. Raises `OSError` where files cannot be removed.
    """
    if not folder.is_dir():
        return
    for owner in owners:
        place = folder / _owner_name(owner)
        aside = folder / f".gone-{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.rename(aside)
        # A writer may have made the folder again in between.
        while not place.is_file():
            try:
                place.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                shutil.rmtree(place, ignore_errors=True)
        if aside.is_dir():
            shutil.rmtree(aside)
        else:
            aside.unlink(missing_ok=True)


def _owner_name(owner: str) -> str:
    return hashlib.blake2b(owner.encode(), digest_size=16).hexdigest()


def _header(key: bytes, state: State) -> bytes:
    digest = hashlib.blake2b(key, digest_size=32)
    digest.update(state.data)
    return _HEADER.pack(_MAGIC, _VERSION, key, state.nbytes, digest.digest())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
