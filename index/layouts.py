"""How vectors are laid out in FAISS: flat while they are few, inverted lists of 8-bit codes beyond.

A flat index compares every vector, in float32 (1,536 bytes for 384 dimensions). An inverted-file
index (IVF) puts the vectors into lists by the nearest of many centroids and compares those of the
nearest lists alone, each dimension coded in 8 bits: a quarter of the memory, and a small part of
the time. How many lists are probed is set when it is built, by the recall that sampled vectors get.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.protocols import Vectors

Kind = Literal["flat", "ivf-sq8"]
Batch = tuple[list[int], Vectors]

# Comparing so many vectors of 384 dimensions takes about 2 ms on one core.
MAX_FLAT = 20_000
# Centroids are learned from so many vectors for each list, in so many rounds of k-means: FAISS
# wants at least 39, and more of either hardly moved the recall.
POINTS_PER_LIST = 40
_NUM_ROUNDS = 10
_MIN_LISTS = 16
# Lists are learned anew once the vectors are this many times those they were learned from.
_MAX_GROWTH = 4

NUM_QUERIES = 128
_DEPTH = 10
# So many candidates are compared again exactly for each hit that is wanted.
WIDENING = 3
TARGET_RECALL = 0.98
# Of the lists, at most this share is probed, whatever the recall.
_MAX_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Layout:
    """How vectors are laid out; `num_built` is their number when the lists were learned.

    `recall` is recall@10 against exact search, after the candidates were compared again exactly.
    """

    kind: Kind = "flat"
    num_lists: int = 0
    num_probes: int = 0
    num_built: int = 0
    recall: float | None = None

    def is_outgrown(self, num_vectors: int, max_flat: int = MAX_FLAT) -> bool:
        """True where so many vectors should be laid out anew."""
        if self.kind == "flat":
            return num_vectors > max_flat
        return num_vectors > _MAX_GROWTH * self.num_built or num_vectors <= max_flat // 2


@dataclass(frozen=True, slots=True)
class Sample:
    """What an IVF index is built by: vectors to learn from, float32 `(num, dimension)`."""

    training: Vectors
    num_vectors: int


def choose_num_lists(num_vectors: int) -> int:
    """The power of two nearest to twice the root of the number of vectors."""
    return int(max(_MIN_LISTS, 2 ** round(math.log2(2 * math.sqrt(max(1, num_vectors))))))


def make_flat(dimension: int) -> Any:
    """An empty FAISS index with ids that compares every vector."""
    import faiss

    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def build_ivf(sample: Sample, batches: Iterable[Batch]) -> tuple[Any, Layout]:
    """An IVF index over all the batches of ids and vectors, and its layout with measured recall.

    The queries of the measurement are vectors of the sample, each moved by half the difference of
    two others: as far from any passage as a question is, in directions that occur.
    """
    import faiss

    dimension = sample.training.shape[1]
    num_lists = choose_num_lists(sample.num_vectors)
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer,
        dimension,
        num_lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    index.cp.niter = _NUM_ROUNDS
    index.cp.max_points_per_centroid = POINTS_PER_LIST
    index.cp.min_points_per_centroid = 1
    index.train(sample.training)
    queries = _make_queries(sample.training)
    exact = _ExactSearch(queries)
    for ids, vectors in batches:
        index.add_with_ids(vectors, np.array(ids, dtype=np.int64))
        exact.add(ids, vectors)
    num_probes, recall = _choose_num_probes(index, queries, exact.ids)
    return index, Layout("ivf-sq8", num_lists, num_probes, int(index.ntotal), recall)


class _ExactSearch:
    """The ids nearest to some queries, found while vectors pass by in batches."""

    def __init__(self, queries: Vectors) -> None:
        self._queries = queries
        self._scores = np.full((len(queries), _DEPTH), -np.inf, dtype=np.float32)
        self.ids = np.full((len(queries), _DEPTH), -1, dtype=np.int64)

    def add(self, ids: list[int], vectors: Vectors) -> None:
        scores = np.concatenate([self._scores, self._queries @ vectors.T], axis=1)
        others = np.broadcast_to(np.array(ids, dtype=np.int64), (len(self._queries), len(ids)))
        every = np.concatenate([self.ids, others], axis=1)
        best = np.argpartition(-scores, _DEPTH - 1, axis=1)[:, :_DEPTH]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self.ids = np.take_along_axis(every, best, axis=1)


def _make_queries(training: Vectors) -> Vectors:
    generator = np.random.default_rng(0)
    num = min(NUM_QUERIES, len(training))
    chosen, first, second = (generator.choice(len(training), num, replace=False) for _ in range(3))
    moved = training[chosen] + 0.5 * (training[first] - training[second])
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.ascontiguousarray(moved / np.maximum(norms, 1e-9), dtype=np.float32)


def _choose_num_probes(
    index: Any, queries: Vectors, exact: npt.NDArray[np.int64]
) -> tuple[int, float]:
    recall = 0.0
    for num_probes in _powers(max(1, int(index.nlist * _MAX_SHARE))):
        index.nprobe = num_probes
        _, found = index.search(queries, _DEPTH * WIDENING)
        recall = _measure_recall(found, exact)
        if recall >= TARGET_RECALL:
            break
    return num_probes, recall


def _powers(last: int) -> Iterator[int]:
    yield from (1 << power for power in range(2, 32) if 1 << power < last)
    yield last


def _measure_recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    hits = wanted = 0
    for ids, truth in zip(found.tolist(), exact.tolist(), strict=True):
        nearest = {id_ for id_ in truth if id_ >= 0}
        hits += len(nearest & set(ids))
        wanted += len(nearest)
    return hits / max(1, wanted)
