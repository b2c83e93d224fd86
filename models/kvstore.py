"""States of passages, in RAM and on disk, found by what they were computed from."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.kvfolder import KvFolder, State, forget_states
from models.vocabulary import TokenIds

logger = logging.getLogger("mynah.kv")

# States that wait to be written; beyond that they stay in RAM alone.
_MAX_UNWRITTEN_BYTES = 256 << 20
_PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class KvStats:
    """What the store holds, and how often it had what was asked for.

    `is_on`: whether passages are reused at all. `num_waiting` are to be computed ahead.
    """

    num_states: int
    ram_bytes: int
    disk_bytes: int
    num_hits: int
    num_disk_hits: int
    num_misses: int
    is_on: bool = True
    num_waiting: int = 0


class KvStore:
    """Least recently used states under a byte budget each for RAM and disk. Safe for threads."""

    def __init__(
        self,
        identity: bytes,
        *,
        max_ram_bytes: int,
        folder: Path | None = None,
        max_disk_bytes: int = 0,
    ) -> None:
        """`identity` stands for all that changes a state besides its tokens.

        Without a folder, or without bytes for it, nothing is saved. Raises `OSError`.
        """
        self._identity = identity
        self._max_ram_bytes = max_ram_bytes
        self._folder = KvFolder(folder, max_disk_bytes) if folder and max_disk_bytes else None
        self._path = folder
        self._lock = threading.Lock()
        self._states: OrderedDict[bytes, tuple[str, State]] = OrderedDict()
        self._ram_bytes = self._unwritten_bytes = 0
        self._num_hits = self._num_disk_hits = self._num_misses = 0
        self._queue: queue.SimpleQueue[tuple[bytes, str, State] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        if self._folder is not None:
            self._writer = threading.Thread(target=self._write_all, name="mynah-kv", daemon=True)
            self._writer.start()

    @property
    def stats(self) -> KvStats:
        """Counts of now; hits and misses since the start."""
        with self._lock:
            return KvStats(
                len(self._states),
                self._ram_bytes,
                self._folder.num_bytes if self._folder else 0,
                self._num_hits,
                self._num_disk_hits,
                self._num_misses,
            )

    def key(self, prefix: TokenIds, tokens: TokenIds, owner: str) -> bytes:
        """The name of the state of `tokens` behind `prefix`, for one document alone."""
        digest = hashlib.blake2b(self._identity, digest_size=32)
        for part in (prefix.astype("<i4").tobytes(), tokens.astype("<i4").tobytes()):
            digest.update(len(part).to_bytes(8, "little") + part)
        digest.update(owner.encode())
        return digest.digest()

    def get(self, key: bytes, owner: str) -> State | None:
        """The state, from disk if it is not in RAM; None where it must be computed."""
        with self._lock:
            found = self._states.get(key)
            if found is not None:
                self._states.move_to_end(key)
                self._num_hits += 1
                return found[1]
        state = self._folder.read(key, owner) if self._folder else None
        with self._lock:
            self._num_hits += state is not None
            self._num_disk_hits += state is not None
            self._num_misses += state is None
        if state is not None:
            self._keep(key, owner, state)
        return state

    def fetch(self, key: bytes, owner: str) -> bool:
        """Bring a saved state into RAM ahead of its use; whether it is there now."""
        with self._lock:
            if key in self._states:
                return True
        state = self._folder.read(key, owner) if self._folder else None
        if state is not None:
            self._keep(key, owner, state)
        return state is not None

    def put(self, key: bytes, owner: str, state: State) -> None:
        """Keep a state, and have it saved by the thread that writes."""
        self._keep(key, owner, state)
        if self._folder is None:
            return
        with self._lock:
            if self._unwritten_bytes + state.nbytes > _MAX_UNWRITTEN_BYTES:
                return
            self._unwritten_bytes += state.nbytes
        self._queue.put((key, owner, state))

    def drop(self, key: bytes) -> None:
        """Forget a state of RAM that could not be used."""
        with self._lock:
            self._drop(key)

    def forget(self, owners: Collection[str]) -> None:
        """Forget the states of documents, in RAM and on disk, for good. Raises `OSError`."""
        with self._lock:
            for key in [key for key, (owner, _) in self._states.items() if owner in owners]:
                self._drop(key)
        if self._folder is not None and self._path is not None:
            forget_states(self._path, owners)

    def drop_gone(self, is_gone: Callable[[str], bool]) -> None:
        """Drop from RAM the states of documents that any process has had forgotten."""
        with self._lock:
            owners = {owner for owner, _ in self._states.values() if owner}
        gone = {owner for owner in owners if is_gone(owner)}
        with self._lock:
            for key in [key for key, (owner, _) in self._states.items() if owner in gone]:
                self._drop(key)

    def close(self) -> None:
        """Write what waits to be written, and stop. Idempotent."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None

    def _keep(self, key: bytes, owner: str, state: State) -> None:
        if state.nbytes > self._max_ram_bytes:
            return
        with self._lock:
            self._drop(key)
            self._states[key] = (owner, state)
            self._ram_bytes += state.nbytes
            while self._ram_bytes > self._max_ram_bytes:
                self._drop(next(iter(self._states)))

    def _drop(self, key: bytes) -> None:
        found = self._states.pop(key, None)
        if found is not None:
            self._ram_bytes -= found[1].nbytes

    def _write_all(self) -> None:
        """The thread that writes: a request never waits for the disk."""
        folder = self._folder
        while folder is not None and (item := self._queue.get()) is not None:
            key, owner, state = item
            folder.write(key, owner, state)
            with self._lock:
                self._unwritten_bytes -= state.nbytes


def identify(parts: Iterable[str], model: Path) -> bytes:
    """A hash of the model's file and of everything in `parts`; takes a second for each GB.

    Raises `OSError`.
    """
    digest = hashlib.blake2b(digest_size=32)
    with model.open("rb", buffering=0) as file:
        buffer = np.empty(_PART_BYTES, dtype=np.uint8)
        while num_read := file.readinto(buffer.data):
            digest.update(buffer[:num_read].data)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()
