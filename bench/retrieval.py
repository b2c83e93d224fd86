"""Measure retrieval: whether the passage with the evidence comes back, and how high.

    python -m bench.retrieval ../shared/eval/dev

takes `docs/` into a temporary data directory through the real pipeline, asks every answerable
question of `questions.jsonl` and prints recall@1, recall@5 and MRR for vectors alone, BM25 alone
and both, fused by rank and by score. A passage counts when the evidence stands in it, white space
normalised; `overlap` counts one that holds 70 % of the evidence's words in a row.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from index.collection import Library
from index.retriever import HybridRetriever, RankingWeights
from index.types import Hit
from ingest.pipeline import IngestProgress, ingest
from models.embedder import SentenceEmbedder
from models.protocols import Embedder, Vectors
from server.evaluation.questions import Question, read_questions

_COLLECTION = "bench"
_DEPTH = 20
_OVERLAP = 0.7


class CachedEmbedder:
    """The given embedder, with its vectors kept in a folder between runs of a measurement."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self._embedder = embedder
        self._folder = folder
        self.identity = embedder.identity
        self.num_tokens = embedder.num_tokens
        folder.mkdir(parents=True, exist_ok=True)

    def encode(self, texts: Sequence[str]) -> Vectors:
        files = [self._folder / hashlib.blake2b(text.encode()).hexdigest()[:32] for text in texts]
        new = [index for index, file in enumerate(files) if not file.exists()]
        for index, vector in zip(
            new, self._embedder.encode([texts[index] for index in new]), strict=True
        ):
            files[index].write_bytes(vector.tobytes())
        return np.stack([np.frombuffer(file.read_bytes(), np.float32) for file in files])


def make_query(question: Question) -> str:
    """What is searched for: a follow-up together with the user's turn before it."""
    asked = [turn.content for turn in question.history if turn.role == "user"]
    return " ".join([*asked[-1:], question.text])


def contains(question: Question, hit: Hit) -> bool:
    """True if the whole evidence stands in the passage."""
    same = hit.document.path == question.docs[0]
    return same and _squeeze(question.evidence[0]) in _squeeze(hit.passage.text)


def overlaps(question: Question, hit: Hit) -> bool:
    """True if most of the evidence stands in the passage: its beginning or its end."""
    if hit.document.path != question.docs[0]:
        return False
    words = question.evidence[0].split()
    kept = max(1, round(_OVERLAP * len(words)))
    text = _squeeze(hit.passage.text)
    return " ".join(words[:kept]) in text or " ".join(words[-kept:]) in text


def measure(
    retriever: HybridRetriever,
    questions: Sequence[Question],
    is_found: Callable[[Question, Hit], bool],
) -> tuple[float, float, float]:
    """recall@1, recall@5 and mean reciprocal rank over the first 20 hits."""
    ranks = []
    for question in questions:
        hits = retriever.search(make_query(question), max_hits=_DEPTH)
        ranks.append(next((hit.rank for hit in hits if is_found(question, hit)), 0))
    num = max(1, len(ranks))
    return (
        sum(rank == 1 for rank in ranks) / num,
        sum(0 < rank <= 5 for rank in ranks) / num,
        sum(1 / rank for rank in ranks if rank) / num,
    )


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="holds docs/ and questions.jsonl")
    parser.add_argument("--cache", type=Path, help="keep vectors here to be quick the next time")
    arguments = parser.parse_args()
    embedder: Embedder = SentenceEmbedder()
    if arguments.cache:
        embedder = CachedEmbedder(embedder, arguments.cache)
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
        _report(library, embedder, questions)


def _report(library: Library, embedder: Embedder, questions: Sequence[Question]) -> None:
    modes = {
        "dense": RankingWeights(text=0.0),
        "bm25": RankingWeights(dense=0.0),
        "rrf": RankingWeights(fusion="ranks"),
        "hybrid": RankingWeights(),
    }
    groups = {
        "all": questions,
        "stand-alone": [q for q in questions if not q.history],
        "follow-up": [q for q in questions if q.history],
    }
    print(f"{'':8} {'questions':12} {'n':>4}  contains: r@1  r@5  MRR   overlap: r@1  r@5  MRR")
    for mode, weights in modes.items():
        retriever = HybridRetriever(library, embedder, weights)
        for group, members in groups.items():
            exact = measure(retriever, members, contains)
            loose = measure(retriever, members, overlaps)
            figures = "".join(f"{value:6.3f}" for value in exact)
            others = "".join(f"{value:6.3f}" for value in loose)
            print(f"{mode:8} {group:12} {len(members):4} {figures:>23} {others:>22}")


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
