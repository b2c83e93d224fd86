"""Measure retrieval: whether the passage with the evidence comes back, how high, and how soon.

    python -m bench.retrieval ../shared/eval/dev [--reranker FOLDER]

takes `docs/` into a temporary data directory through the real pipeline, asks every answerable
question of `questions.jsonl` as a conversation and prints recall@1/5/10, MRR@20 and nDCG@10 with
95 % bootstrap intervals over the questions: for vectors alone, words alone and both, and for
stand-alone against follow-up questions. A passage counts when evidence stands in it, white space
normalised, or in a copy of it that was collapsed into it.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from index.collection import Library
from index.retriever import HybridRetriever
from index.types import Hit, RankingOptions
from ingest.pipeline import IngestProgress, ingest
from models.embedder import SentenceEmbedder
from models.imitation.statistics import bootstrap_difference, bootstrap_mean
from models.protocols import Embedder, Reranker, Vectors
from models.reranker import CrossEncoderReranker
from server.evaluation.questions import Question, read_questions
from server.grounding.conversation import read_conversation
from server.grounding.searching import search_all

_COLLECTION = "bench"
_DEPTH = 20
_NDCG_DEPTH = 10
_SYSTEMS = {
    "dense": RankingOptions(text_weight=0.0),
    "bm25": RankingOptions(embedding_weight=0.0),
    "fused": RankingOptions(ranker="none"),
    "hybrid": RankingOptions(),
}


class CachedEmbedder:
    """The given embedder, with its vectors kept in a folder between runs of a measurement."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        self._folder = folder
        self.identity = embedder.identity
        self.num_tokens = embedder.num_tokens
        folder.mkdir(parents=True, exist_ok=True)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One row a text, read from the folder where it is there."""
        files = [self._folder / hashlib.blake2b(text.encode()).hexdigest()[:32] for text in texts]
        new = [index for index, file in enumerate(files) if not file.exists()]
        for index, vector in zip(
            new, self._embedder.encode([texts[index] for index in new]), strict=True
        ):
            files[index].write_bytes(vector.tobytes())
        if not texts:
            return self._embedder.encode([])
        return np.stack([np.frombuffer(file.read_bytes(), np.float32) for file in files])


@dataclass(frozen=True, slots=True)
class Finding:
    """Where the evidence of one question came back.

    `ranks` are those of the hits that hold its first evidence, `all_ranks` of those that hold any
    of its `num_evidence` pieces; `elapsed_ms` is that of the searches.
    """

    ranks: tuple[int, ...]
    all_ranks: tuple[int, ...]
    num_evidence: int
    elapsed_ms: float

    def recall(self, depth: int) -> float:
        """1.0 if the best such hit is among the first `depth`."""
        return float(any(rank <= depth for rank in self.ranks))

    @property
    def reciprocal_rank(self) -> float:
        """1 / rank of the best such hit, 0.0 without one."""
        return 1 / self.ranks[0] if self.ranks else 0.0

    @property
    def ndcg(self) -> float:
        """Discounted gain of the first ten hits over that of the best order, gains 0 or 1."""
        gain = sum(1 / math.log2(rank + 1) for rank in self.all_ranks if rank <= _NDCG_DEPTH)
        num_best = min(max(self.num_evidence, len(self.all_ranks)), _NDCG_DEPTH)
        best = sum(1 / math.log2(rank + 1) for rank in range(1, num_best + 1))
        return gain / best if best else 0.0


def holds_evidence(question: Question, number: int, hit: Hit) -> bool:
    """True if that evidence of the question, whole, stands in the passage or in a copy of it."""
    paths = {hit.document.path, *(document.path for document in hit.copies)}
    path = question.docs[min(number, len(question.docs) - 1)]
    return path in paths and _squeeze(question.evidence[number]) in _squeeze(hit.passage.text)


def find(retriever: HybridRetriever, question: Question, options: RankingOptions) -> Finding:
    """One question searched as the server does it."""
    searches = read_conversation(question.messages).searches
    started_s = time.perf_counter()
    hits = search_all(retriever, searches, collections=None, max_hits=_DEPTH, ranking=options)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    numbers = range(len(question.evidence))
    return Finding(
        ranks=tuple(hit.rank for hit in hits if holds_evidence(question, 0, hit)),
        all_ranks=tuple(
            hit.rank for hit in hits if any(holds_evidence(question, n, hit) for n in numbers)
        ),
        num_evidence=len(question.evidence),
        elapsed_ms=elapsed_ms,
    )


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="holds docs/ and questions.jsonl")
    parser.add_argument("--cache", type=Path, help="keep vectors here to be quick the next time")
    parser.add_argument("--reranker", type=Path, help="folder of a cross-encoder")
    arguments = parser.parse_args()
    embedder: Embedder = SentenceEmbedder()
    if arguments.cache:
        embedder = CachedEmbedder(embedder, arguments.cache)
    reranker = CrossEncoderReranker(arguments.reranker) if arguments.reranker else None
    questions = [
        question
        for question in read_questions(arguments.folder / "questions.jsonl")
        if question.is_answerable
    ]
    with (
        tempfile.TemporaryDirectory() as data_dir,
        Library(Path(data_dir), embedder) as library,
    ):
        started_s = time.monotonic()
        summary = ingest(
            [arguments.folder / "docs"], _COLLECTION, library, embedder, progress=_show
        )
        print(
            f"\n{len(summary.added)} documents, {summary.num_passages} passages,"
            f" {len(summary.failed)} failed, {time.monotonic() - started_s:.0f} s"
        )
        _report(library, embedder, questions, reranker)


def _report(
    library: Library,
    embedder: Embedder,
    questions: Sequence[Question],
    reranker: Reranker | None,
) -> None:
    print(
        f"{'':8}{'questions':12}{'n':>4}{'r@1':>20}{'r@5':>20}{'r@10':>20}{'MRR':>20}{'nDCG':>20}"
    )
    found: dict[str, list[Finding]] = {}
    for name, options in _SYSTEMS.items():
        retriever = HybridRetriever(library, embedder, reranker=reranker)
        found[name] = [find(retriever, question, options) for question in questions]
        again = [find(retriever, question, options).elapsed_ms for question in questions]
        groups = {
            "all": found[name],
            "stand-alone": [
                f for f, q in zip(found[name], questions, strict=True) if not q.history
            ],
            "follow-up": [f for f, q in zip(found[name], questions, strict=True) if q.history],
        }
        for group, members in groups.items():
            if members:
                print(f"{name:8}{group:12}{len(members):4}{_format(members)}")
        first = statistics.median(f.elapsed_ms for f in found[name])
        print(f"{name:8}median {first:.1f} ms, {statistics.median(again):.1f} ms when asked again")
    for half in ("dense", "bm25"):
        gain = bootstrap_difference(
            [f.reciprocal_rank for f in found["hybrid"]], [f.reciprocal_rank for f in found[half]]
        )
        print(f"MRR of hybrid less {half}: {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")


def _format(members: Sequence[Finding]) -> str:
    columns = [
        [f.recall(1) for f in members],
        [f.recall(5) for f in members],
        [f.recall(10) for f in members],
        [f.reciprocal_rank for f in members],
        [f.ndcg for f in members],
    ]
    intervals = map(bootstrap_mean, columns)
    return "".join(f"{i.mean:8.3f} [{i.low:.2f}, {i.high:.2f}]".rjust(20) for i in intervals)


def _show(progress: IngestProgress) -> None:
    print(
        f"\r{progress.num_documents_done}/{progress.num_documents} documents,"
        f" {progress.num_passages} passages",
        end="",
        flush=True,
    )


def _squeeze(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
