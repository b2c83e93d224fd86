"""Measure search: milliseconds a query, memory and recall, beside bare FAISS in the same run.

    python -m bench.search                      # 100,000 passages, text and vectors
    python -m bench.search --num-vectors 1000000  # vectors alone, in SQLite and FAISS

The library is real and lies in a temporary folder; texts and vectors are those of
`bench/synthetic.py`. A query's vector is known beforehand, so embedding takes no time. Searching
runs in a process of its own on one thread, so that its memory is that of search alone; the ways of
searching take turns with bare FAISS on every query, and medians are compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.synthetic import DIMENSION, Corpus, KnownVectors, Query
from index import documents as rows
from index.collection import Library
from index.dense import search_vectors
from index.filters import Filter, parse_filter
from index.retriever import HybridRetriever
from index.store import advance_generation, read_collection
from index.types import RankingOptions

_COLLECTION = "bench"
_DEPTH = 100
_DOCUMENTS_PER_COMMIT = 500
_FILTERS: Mapping[str, object] = {
    "none": None,
    "1 %": {"type": "eq", "key": "flag", "value": True},
    "5 %": {"type": "eq", "key": "team", "value": "team-3"},
    "50 %": {"type": "gte", "key": "year", "value": 2020},
    "95 %": {"type": "ne", "key": "team", "value": "team-3"},
}


def write_passages(library: Library, corpus: Corpus) -> None:
    """Commit the corpus's documents with text, words, attributes and vectors."""
    parts = (part for batch in corpus.vectors() for part in np.split(batch, len(batch) // 10))
    drafts = zip(corpus.documents(), parts, strict=True)
    while group := list(islice(drafts, _DOCUMENTS_PER_COMMIT)):
        with library.store.writing() as connection:
            row = read_collection(connection, _COLLECTION)
            generation = advance_generation(connection, row)
            for draft, vectors in group:
                rows.insert_document(connection, row, draft, vectors, generation)


def write_vectors(library: Library, corpus: Corpus) -> None:
    """Commit passages that have a vector and no words."""
    for vectors in corpus.vectors():
        with library.store.writing() as connection:
            row = read_collection(connection, _COLLECTION)
            generation = advance_generation(connection, row)
            document = "doc_" + str(generation)
            connection.execute(
                "INSERT INTO documents VALUES(?, ?, ?, 'text/plain', '', 0, ?, 0, NULL, '[]', '{}',"
                " coalesce((SELECT max(id) FROM passages), 0) + 1)",
                (document, row.id, document, len(vectors)),
            )
            connection.executemany(
                "INSERT INTO passages(document_id, collection_id, generation, ordinal,"
                " start_offset, end_offset, num_tokens, headings, name, text, embedding)"
                " VALUES(?, ?, ?, ?, 0, 0, 0, '', '', '', ?)",
                ((document, row.id, generation, at, v.tobytes()) for at, v in enumerate(vectors)),
            )


def measure(folder: Path, corpus: Corpus, num_queries: int, *, has_text: bool) -> dict[str, Any]:
    """Figures of one library, searched in this process."""
    import faiss

    faiss.omp_set_num_threads(1)
    # Before anything else is held: memory that was freed would be used again, and not be seen.
    before = _read_rss_bytes()
    started_s = time.perf_counter()
    with Library(folder, KnownVectors([])) as library:
        library.vectors(_COLLECTION)
        load_s = time.perf_counter() - started_s
        memory = _read_rss_bytes() - before
    queries = corpus.queries(num_queries)
    embedder = KnownVectors(queries)
    with Library(folder, embedder) as library:
        index = library.vectors(_COLLECTION)
        flat = faiss.IndexFlatIP(DIMENSION)
        for vectors in corpus.vectors():
            flat.add(vectors)
        exact = [flat.search(query.vector[None], 10)[1][0] + 1 for query in queries]
        found = [_search_dense(library, query, None) for query in queries]
        ways: dict[str, Callable[[Query], object]] = {
            "FAISS flat": lambda q: flat.search(q.vector[None], _DEPTH),
            f"FAISS {index.layout.kind}": lambda q: index._index.search(q.vector[None], _DEPTH),
            "vectors": lambda q: _search_dense(library, q, None),
        }
        if not index.is_exact:
            index._index.nprobe = index.layout.num_probes
        if has_text:
            ways |= _make_ways(library, embedder)
        return {
            "num_vectors": index.num_vectors,
            "layout": index.layout.kind,
            "recall_at_build": index.layout.recall,
            "recall_at_10": float(
                np.mean(
                    [
                        len(set(a[:10]) & set(b.tolist())) / 10
                        for a, b in zip(found, exact, strict=True)
                    ]
                )
            ),
            "num_lists": index.layout.num_lists,
            "num_probes": index.layout.num_probes,
            "memory_mb": round(memory / 1e6, 1),
            "load_s": round(load_s, 2),
            "ms": time_ways(ways, queries),
        }


def time_ways(
    ways: Mapping[str, Callable[[Query], object]], queries: Sequence[Query]
) -> dict[str, dict[str, float]]:
    """Milliseconds of each way, the ways taking turns on every query.

    p50 and p95 by the clock, and the median of the processor's time, which is what is left of the
    clock's on a machine that does nothing else.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for query in queries:
        for name, search in ways.items():
            started_s, cpu_s = time.perf_counter(), time.thread_time()
            search(query)
            taken[name].append((time.perf_counter() - started_s, time.thread_time() - cpu_s))
    figures = {}
    for name, pairs in taken.items():
        wall_ms, cpu_ms = np.array(pairs).T * 1e3
        figures[name] = {
            "p50": float(np.median(wall_ms)),
            "p95": float(np.percentile(wall_ms, 95)),
            "cpu": float(np.median(cpu_ms)),
        }
    return figures


def _make_ways(library: Library, embedder: KnownVectors) -> dict[str, Callable[[Query], object]]:
    hybrid = HybridRetriever(library, embedder)
    by_words = RankingOptions(embedding_weight=0.0)
    ways: dict[str, Callable[[Query], object]] = {
        "words": lambda q: hybrid.search(q.text, ranking=by_words)
    }
    for name, data in _FILTERS.items():
        ways[f"hybrid, filter {name}"] = _search_with(
            hybrid, None if data is None else parse_filter(data)
        )
    return ways


def _search_with(retriever: HybridRetriever, filters: Filter | None) -> Callable[[Query], object]:
    return lambda query: retriever.search(query.text, filters=filters)


def _search_dense(library: Library, query: Query, filters: Filter | None) -> list[int]:
    index = library.vectors(_COLLECTION)
    selection = library.select([_COLLECTION], filters).by_collection[_COLLECTION]
    hits = search_vectors(library.store, index, query.vector, _DEPTH, selection)
    return [id_ for id_, _ in hits]


def _read_rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _run(folder: Path, num: int, num_queries: int, *, has_text: bool) -> dict[str, Any]:
    corpus = Corpus(num)
    with Library(folder, KnownVectors([])) as library:
        library.create_collection(_COLLECTION)
        started_s = time.monotonic()
        (write_passages if has_text else write_vectors)(library, corpus)
        written_s = time.monotonic()
        library.settle(_COLLECTION)
        settled_s = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(measure, (folder, corpus, num_queries), {"has_text": has_text})
    figures["write_s"] = round(written_s - started_s, 1)
    figures["settle_s"] = round(settled_s - written_s, 1)
    figures["file_mb"] = round(
        sum(path.stat().st_size for path in (folder / "vectors").iterdir()) / 1e6, 1
    )
    figures["database_mb"] = round((folder / "mynah.db").stat().st_size / 1e6, 1)
    return figures


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--num-passages", type=int, default=100_000)
    parser.add_argument("--num-vectors", type=int, help="measure vectors alone, so many")
    parser.add_argument("--num-queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    num = arguments.num_vectors or arguments.num_passages
    with tempfile.TemporaryDirectory() as folder:
        figures = _run(
            Path(folder), num, arguments.num_queries, has_text=arguments.num_vectors is None
        )
    figures["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(figures, indent=1) if arguments.json else _format(figures))


def _format(figures: Mapping[str, Any]) -> str:
    lines = [f"{name:16} {value}" for name, value in figures.items() if name != "ms"]
    timings = figures["ms"]
    bare = timings["FAISS flat"]
    lines.append(f"\n{'':24}   p50 ms   p95 ms   cpu ms  p50 and cpu over those of FAISS flat")
    lines += [
        f"{name:24} {ms['p50']:8.2f} {ms['p95']:8.2f} {ms['cpu']:8.2f}"
        f" {ms['p50'] / bare['p50']:8.2f} {ms['cpu'] / bare['cpu']:8.2f}"
        for name, ms in timings.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
