"""A collection's vectors in FAISS, and the file that caches them between runs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.protocols import Vectors

_MAGIC = b"MYNAHVEC1\n"
_STALE_S = 600.0


@dataclass(frozen=True, slots=True)
class VectorStamp:
    """What a set of vectors reflects: `generation` of the lineage `key`, in float32."""

    key: str
    generation: int
    dimension: int


class VectorIndex:
    """Exact inner-product search over vectors with ids; all methods may be called from any thread.

    It knows the generation of SQLite that it reflects, and nothing else about SQLite.
    """

    def __init__(self, key: str, dimension: int) -> None:
        self._lock = threading.RLock()
        self._index: Any = _new_index(dimension)
        self.stamp = VectorStamp(key=key, generation=0, dimension=dimension)

    @property
    def num_vectors(self) -> int:
        """Number of vectors held."""
        with self._lock:
            return int(self._index.ntotal)

    def apply(
        self, removed: Sequence[int], added: Sequence[int], vectors: Vectors, generation: int
    ) -> None:
        """Bring the index to `generation`: drop `removed` ids, then add `vectors` under `added`.

        `vectors` is float32 of shape `(len(added), dimension)`. An id already held is replaced,
        so replaying twice is harmless.
        """
        import numpy as np

        with self._lock:
            gone = np.array([*removed, *added], dtype=np.int64)
            if self._index.ntotal and len(gone):
                self._index.remove_ids(gone)
            if len(added):
                self._index.add_with_ids(
                    np.ascontiguousarray(vectors, dtype=np.float32),
                    np.array(added, dtype=np.int64),
                )
            self.stamp = VectorStamp(self.stamp.key, generation, self.stamp.dimension)

    def search(self, vector: Vectors, max_hits: int) -> list[tuple[int, float]]:
        """Ids with their cosine similarity to the unit `vector`, best first, ties by id."""
        with self._lock:
            num_hits = min(max_hits, int(self._index.ntotal))
            if num_hits < 1:
                return []
            scores, ids = self._index.search(vector.reshape(1, -1), num_hits)
        hits = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def ids(self) -> list[int]:
        """All ids held, ascending."""
        import faiss

        with self._lock:
            return sorted(faiss.vector_to_array(self._index.id_map).tolist())

    def save(self, path: Path, file_key: str) -> None:
        """Write the vectors with their stamp and a checksum: aside, synced, renamed into place.

        `file_key` is what `load` asks for. Raises `OSError` and leaves the former file as it was.
        """
        import faiss

        with self._lock:
            payload: memoryview = faiss.serialize_index(self._index).data
            stamp = self.stamp
        header = json.dumps(
            {
                "file_key": file_key,
                "generation": stamp.generation,
                "dimension": stamp.dimension,
                "num_bytes": len(payload),
                "blake2b": hashlib.blake2b(payload).hexdigest(),
            }
        )
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_leftovers(path)
        aside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with aside.open("wb") as file:
                file.write(_MAGIC + header.encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    @classmethod
    def load(cls, path: Path, file_key: str, key: str, dimension: int) -> VectorIndex | None:
        """The vectors in `path` as a part of the lineage `key`.

        None where the file is missing, damaged or not the one saved under `file_key`.
        """
        import faiss
        import numpy as np

        try:
            with path.open("rb") as file:
                if file.readline(64) != _MAGIC:
                    return None
                header = json.loads(file.readline(4096))
                stamp = VectorStamp(key, int(header["generation"]), dimension)
                is_ours = (header["file_key"], header["dimension"]) == (file_key, dimension)
                checksum = header["blake2b"]
                payload = file.read()
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        if not is_ours or hashlib.blake2b(payload).hexdigest() != checksum:
            return None
        loaded = cls(key, dimension)
        loaded._index = faiss.deserialize_index(np.frombuffer(payload, dtype=np.uint8))
        loaded.stamp = stamp
        return loaded


def remove_leftovers(path: Path) -> None:
    """Delete half-written files that killed processes left beside `path`."""
    oldest_s = time.time() - _STALE_S
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        try:
            if leftover.stat().st_mtime < oldest_s:
                leftover.unlink()
        except FileNotFoundError:
            continue  # another process was quicker


def _new_index(dimension: int) -> Any:
    import faiss

    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
