"""Measure retrieval: whether the passage with the evidence comes back, how high, and how soon.

    python -m bench.retrieval ../shared/eval/dev [--reranker FOLDER] [--systems hybrid,read]
    python -m bench.retrieval --packs

takes `docs/` into a temporary data directory through the real pipeline, asks every answerable
question of `questions.jsonl` as a conversation and prints recall@1/5/10, MRR@20 and nDCG@10 with
95 % bootstrap intervals over the questions: for vectors alone, words alone and both, and read
together with the question, and for stand-alone against follow-up questions. A passage counts when
evidence stands in it, white space normalised, or in a copy of it that was collapsed into it.

With `--packs` the documents are those of all organisations of the written conversations in one
collection, and the questions those of the organisations that no training saw; a passage counts when
the written answer cites it. They are short, and seldom name their organisation: the figures are
lower than over one organisation's documents, and only differences mean something.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bench.packs import Asked, is_pack_kept_back, write_packs
from index.collection import Library
from index.retriever import HybridRetriever
from index.types import Hit, RankingOptions
from ingest.pipeline import IngestProgress, ingest
from models.embedder import SentenceEmbedder
from models.imitation.statistics import bootstrap_difference, bootstrap_mean
from models.protocols import Embedder, Message, Vectors
from models.reader import SentenceReader
from models.reranker import CrossEncoderReranker
from server.evaluation.questions import Question, read_questions
from server.grounding.conversation import read_conversation
from server.grounding.searching import search_all

_COLLECTION = "bench"
_DEPTH = 20
_NDCG_DEPTH = 10
# As the server ranks, with the reader; the others are without.
_READ = "read"
_SYSTEMS = {
    "dense": RankingOptions(text_weight=0.0),
    "bm25": RankingOptions(embedding_weight=0.0),
    "fused": RankingOptions(ranker="none"),
    "hybrid": RankingOptions(),
    _READ: RankingOptions(),
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


@dataclass(frozen=True, slots=True)
class Sought:
    """A question, and for each piece of its evidence whether a hit holds it."""

    messages: Sequence[Message]
    tests: tuple[Callable[[Hit], bool], ...]

    @property
    def is_follow_up(self) -> bool:
        """Whether other turns stand before it."""
        return len(self.messages) > 1


def seek_evidence(question: Question) -> Sought:
    """A question of a set, with the passages that hold its evidence."""
    numbers = range(len(question.evidence))
    tests = tuple(partial(holds_evidence, question, number) for number in numbers)
    return Sought(question.messages, tests)


def seek_cited(asked: Asked) -> Sought:
    """A question of a written conversation, with the passages that its answer cites."""
    return Sought(asked.messages, (lambda hit: hit.document.path in asked.cited,))


def holds_evidence(question: Question, number: int, hit: Hit) -> bool:
    """True if that evidence of the question, whole, stands in the passage or in a copy of it."""
    paths = {hit.document.path, *(document.path for document in hit.copies)}
    path = question.docs[min(number, len(question.docs) - 1)]
    return path in paths and _squeeze(question.evidence[number]) in _squeeze(hit.passage.text)


def find(retriever: HybridRetriever, sought: Sought) -> Finding:
    """One question searched as the server does it."""
    searches = read_conversation(sought.messages).searches
    started_s = time.perf_counter()
    hits = search_all(retriever, searches, collections=None, max_hits=_DEPTH)
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    return Finding(
        ranks=tuple(hit.rank for hit in hits if sought.tests[0](hit)),
        all_ranks=tuple(hit.rank for hit in hits if any(test(hit) for test in sought.tests)),
        num_evidence=len(sought.tests),
        elapsed_ms=elapsed_ms,
    )


def main() -> None:
    """Run the measurement named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("folder", type=Path, nargs="?", help="holds docs/ and questions.jsonl")
    asked.add_argument("--packs", action="store_true", help="the written conversations")
    parser.add_argument("--systems", default=",".join(_SYSTEMS), help="which of them, by commas")
    parser.add_argument("--cache", type=Path, help="keep vectors here to be quick the next time")
    parser.add_argument("--reranker", type=Path, help="folder of a cross-encoder")
    arguments = parser.parse_args()
    embedder: Embedder = SentenceEmbedder()
    if arguments.cache:
        embedder = CachedEmbedder(embedder, arguments.cache)
    reranker = CrossEncoderReranker(arguments.reranker) if arguments.reranker else None
    systems = {name: _SYSTEMS[name] for name in arguments.systems.split(",")}
    with (
        tempfile.TemporaryDirectory() as scratch,
        Library(Path(scratch) / "data", embedder) as library,
    ):
        docs, questions = (
            _read_packs(Path(scratch) / "docs") if arguments.packs else _read_set(arguments.folder)
        )
        started_s = time.monotonic()
        summary = ingest([docs], _COLLECTION, library, embedder, progress=_show)
        print(
            f"\n{len(summary.added)} documents, {summary.num_passages} passages,"
            f" {len(summary.failed)} failed, {time.monotonic() - started_s:.0f} s"
        )
        retrievers = {
            name: HybridRetriever(
                library,
                embedder,
                options=options,
                reranker=reranker,
                reader=SentenceReader() if name == _READ else None,
            )
            for name, options in systems.items()
        }
        _report(retrievers, questions)


def _read_set(folder: Path) -> tuple[Path, list[Sought]]:
    questions = read_questions(folder / "questions.jsonl")
    return folder / "docs", [seek_evidence(q) for q in questions if q.is_answerable]


def _read_packs(docs: Path) -> tuple[Path, list[Sought]]:
    asked = list(write_packs(docs, lambda _: True))
    return docs, [
        seek_cited(question)
        for question in asked
        if question.cited and is_pack_kept_back(question.collection)
    ]


def _report(retrievers: Mapping[str, HybridRetriever], questions: Sequence[Sought]) -> None:
    print(
        f"{'':8}{'questions':12}{'n':>4}{'r@1':>20}{'r@5':>20}{'r@10':>20}{'MRR':>20}{'nDCG':>20}"
    )
    found: dict[str, list[Finding]] = {}
    for name, retriever in retrievers.items():
        found[name] = [find(retriever, question) for question in questions]
        again = [find(retriever, question).elapsed_ms for question in questions]
        pairs = [*zip(found[name], questions, strict=True)]
        groups = {
            "all": found[name],
            "stand-alone": [f for f, q in pairs if not q.is_follow_up],
            "follow-up": [f for f, q in pairs if q.is_follow_up],
        }
        for group, members in groups.items():
            if members:
                print(f"{name:8}{group:12}{len(members):4}{_format(members)}")
        first = statistics.median(f.elapsed_ms for f in found[name])
        print(f"{name:8}median {first:.1f} ms, {statistics.median(again):.1f} ms when asked again")
    ranks = {name: [f.reciprocal_rank for f in members] for name, members in found.items()}
    for name, other in (("hybrid", "dense"), ("hybrid", "bm25"), (_READ, "hybrid")):
        if name in ranks and other in ranks:
            gain = bootstrap_difference(ranks[name], ranks[other])
            print(
                f"MRR of {name} less {other}: {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            )


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
