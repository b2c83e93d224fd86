"""A collection's vectors in FAISS, searched through the layout that their number asks for."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.layouts import Batch, Layout, Sample, build_ivf, make_flat
from index.selection import Integers, Selection
from index.vectorfile import read_index, write_index
from models.protocols import Vectors

# Comparing so many 8-bit codes of 384 dimensions takes about 1 ms.
_MAX_EXHAUSTIVE = 20_000


@dataclass(frozen=True, slots=True)
class VectorStamp:
    """What a set of vectors reflects: `generation` of the lineage `key`."""

    key: str
    generation: int
    dimension: int


class VectorIndex:
    """Inner-product search over vectors with ids; all methods may be called from any thread.

    It knows the generation of SQLite that it reflects, and nothing else about SQLite.
    """

    def __init__(self, key: str, dimension: int) -> None:
        self._lock = threading.RLock()
        self._index: Any = make_flat(dimension)
        self._last_id = 0
        self.layout = Layout()
        self.stamp = VectorStamp(key=key, generation=0, dimension=dimension)

    @classmethod
    def build(
        cls, stamp: VectorStamp, sample: Sample | None, batches: Iterable[Batch]
    ) -> VectorIndex:
        """A new index at `stamp` over all batches: IVF where there is a sample, otherwise flat."""
        built = cls(stamp.key, stamp.dimension)
        if sample is None:
            for ids, vectors in batches:
                built.apply([], ids, vectors, stamp.generation)
        else:
            built._index, built.layout = build_ivf(sample, batches)
            built._last_id = built._find_last_id()
        built.stamp = stamp
        return built

    @property
    def num_vectors(self) -> int:
        """Number of vectors held."""
        with self._lock:
            return int(self._index.ntotal)

    @property
    def is_exact(self) -> bool:
        """True where search compares the vectors themselves, all of them."""
        return self.layout.kind == "flat"

    def apply(
        self, removed: Sequence[int], added: Sequence[int], vectors: Vectors, generation: int
    ) -> None:
        """Bring the index to `generation`: drop `removed` ids, then add `vectors` under `added`.

        `vectors` is float32 of shape `(len(added), dimension)`. An id already held is replaced,
        so replaying twice is harmless.
        """
        import numpy as np

        with self._lock:
            # Ids only grow, so what is added is rarely held; looking for it reads every id.
            held = [id_ for id_ in added if id_ <= self._last_id]
            gone = np.array([*removed, *held], dtype=np.int64)
            if self._index.ntotal and len(gone):
                self._index.remove_ids(gone)
            if len(added):
                self._index.add_with_ids(
                    np.ascontiguousarray(vectors, dtype=np.float32),
                    np.array(added, dtype=np.int64),
                )
                self._last_id = max(self._last_id, *added)
            self.stamp = VectorStamp(self.stamp.key, generation, self.stamp.dimension)

    def search(
        self, vector: Vectors, max_hits: int, selection: Selection | None = None
    ) -> list[tuple[int, float]]:
        """Ids with their cosine similarity to the unit `vector`, best first, ties by id.

        Only ids of the selection are compared, if there is one. Where `is_exact` is false, the
        similarities are those of 8-bit codes.
        """
        import faiss

        with self._lock:
            num_held = int(self._index.ntotal)
            num_hits = min(max_hits, num_held)
            if selection is not None:
                num_hits = min(num_hits, selection.num_passages)
            if num_hits < 1:
                return []
            options: dict[str, Any] = {} if selection is None else {"sel": selection.selector}
            if self.is_exact:
                found = self._find(vector, num_hits, faiss.SearchParameters(**options))
            else:
                parameters: Any = faiss.SearchParametersIVF(**options)
                parameters.nprobe = self._count_probes(selection)
                found = self._find(vector, num_hits, parameters)
                if len(found) < num_hits:
                    parameters.nprobe = self.layout.num_lists
                    found = self._find(vector, num_hits, parameters)
        return sorted(found, key=lambda hit: (-hit[1], hit[0]))

    def _find(self, vector: Vectors, num_hits: int, parameters: Any) -> list[tuple[int, float]]:
        scores, ids = self._index.search(vector.reshape(1, -1), num_hits, params=parameters)
        hits = zip(ids[0].tolist(), scores[0].tolist(), strict=True)
        return [hit for hit in hits if hit[0] >= 0]

    def _count_probes(self, selection: Selection | None) -> int:
        """Number of lists to probe: of a small selection, all.

        Of a tenth of the vectors, ten times as many lists hold as many neighbours, at about the
        same price.
        """
        if selection is None:
            return self.layout.num_probes
        if selection.num_passages <= _MAX_EXHAUSTIVE:
            return self.layout.num_lists
        share = min(1.0, selection.num_passages / int(self._index.ntotal))
        return min(self.layout.num_lists, math.ceil(self.layout.num_probes / share))

    def ids(self) -> list[int]:
        """All ids held, ascending."""
        with self._lock:
            return sorted(id_ for part in self._id_parts() for id_ in part.tolist())

    def save(self, path: Path, file_key: str) -> None:
        """Write the vectors with their stamp and a checksum: aside, synced, renamed into place.

        `file_key` is what `load` asks for. Raises `OSError` and leaves the former file as it was.
        """
        with self._lock:
            write_index(
                path,
                self._index,
                self.layout,
                {
                    "file_key": file_key,
                    "generation": self.stamp.generation,
                    "dimension": self.stamp.dimension,
                },
            )

    @classmethod
    def load(cls, path: Path, file_key: str, key: str, dimension: int) -> VectorIndex | None:
        """The vectors in `path` as a part of the lineage `key`.

        None where the file is missing, damaged or not the one saved under `file_key`.
        """
        found = read_index(path, {"file_key": file_key, "dimension": dimension})
        if found is None:
            return None
        loaded = cls(key, dimension)
        loaded._index, loaded.layout, generation = found
        loaded._last_id = loaded._find_last_id()
        loaded.stamp = VectorStamp(key, generation, dimension)
        return loaded

    def _find_last_id(self) -> int:
        return max((int(part.max()) for part in self._id_parts() if len(part)), default=0)

    def _id_parts(self) -> list[Integers]:
        import faiss
        import numpy as np

        if self.is_exact:
            return [faiss.vector_to_array(self._index.id_map)]
        lists = self._index.invlists
        parts = []
        for number in range(self.layout.num_lists):
            size = lists.list_size(number)
            if size:
                parts.append(np.array(faiss.rev_swig_ptr(lists.get_ids(number), size)))
        return parts
