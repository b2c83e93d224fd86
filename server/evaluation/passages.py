"""The passages of one collection, found by what stands in them rather than by a search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from index.collection import Library
from index.types import Document, Hit, Passage
from ingest.pipeline import IngestProgress, ingest
from models.imitation.errors import TrainingDataInvalid
from models.protocols import Embedder, Vectors
from server.evaluation.questions import Question

# Of one evidence: each place where it stands, as the passages that the place touches.
Span = list[list[Passage]]
# The offsets of such a place in its document, and the passages it touches.
Place = tuple[tuple[int, int], list[Passage]]


class PassagePool:
    """All passages of a collection by id, and the places of evidence in its documents."""

    def __init__(self, library: Library, collection: str) -> None:
        """Reads every passage. Raises `CollectionNotFound`."""
        self.collection = collection
        self._library = library
        self._documents = {d.id: d for d in library.documents(collection)}
        self._by_path: dict[str, Document] = {d.path: d for d in self._documents.values()}
        self._texts: dict[str, str] = {}
        self._passages: dict[int, Passage] = {}
        self._of_document: dict[str, list[Passage]] = {}
        for document in self._documents.values():
            passages = library.passages(document.id)
            self._of_document[document.id] = passages
            self._passages.update((passage.id, passage) for passage in passages)

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self._documents)

    @property
    def num_passages(self) -> int:
        """Number of passages."""
        return len(self._passages)

    @property
    def fingerprint(self) -> list[str]:
        """Path and content hash of every document, sorted."""
        return sorted(f"{d.path} {d.content_hash}" for d in self._documents.values())

    def locate(self, question: Question) -> list[Span]:
        """For each evidence that is found where it should be, all places where it stands there."""
        return [[touched for _, touched in places] for places in self._locate(question) if places]

    def find_holders(self, question: Question) -> list[frozenset[int]]:
        """For each evidence the ids of the passages that hold it; empty if it was not found.

        Those that hold it whole; where a cut went through every copy, those with most of it.
        """
        return [_choose_holders(places) for places in self._locate(question)]

    def _locate(self, question: Question) -> Iterator[list[Place]]:
        plain = question.evidence_plain or question.evidence
        for number, evidence in enumerate(question.evidence):
            named = question.docs[min(number, len(question.docs) - 1)] if question.docs else None
            documents = self._find_documents(named)
            places = self._find(documents, evidence)
            if not places and number < len(plain):
                places = self._find(documents, plain[number])
            yield places

    def _find_documents(self, path: str | None) -> Sequence[Document]:
        """The document of that path, or the only one whose path ends so; all without a path."""
        if path is None:
            return tuple(self._documents.values())
        if path in self._by_path:
            return (self._by_path[path],)
        ending = [d for p, d in self._by_path.items() if p.endswith(f"/{path.lstrip('./')}")]
        return ending if len(ending) == 1 else ()

    def _find(self, documents: Sequence[Document], evidence: str) -> list[Place]:
        words = evidence.split()
        if not words:
            return []
        pattern = re.compile(r"\s+".join(map(re.escape, words)))
        places = []
        for document in documents:
            passages = self._of_document[document.id]
            for found in pattern.finditer(self._read(document)):
                start, end = found.span()
                if touched := [p for p in passages if p.start < end and start < p.end]:
                    places.append(((start, end), touched))
        return places

    def _read(self, document: Document) -> str:
        if document.id not in self._texts:
            self._texts[document.id] = self._library.text(document.id)
        return self._texts[document.id]

    def to_hit(self, passage_id: int) -> Hit:
        """The passage as a hit that no search has scored."""
        passage = self._passages[passage_id]
        return Hit(passage, self._documents[passage.document_id], 0.0, 1, None, None)


def _choose_holders(places: Sequence[Place]) -> frozenset[int]:
    shares = {
        passage.id: (min(passage.end, end) - max(passage.start, start)) / (end - start)
        for (start, end), touched in places
        for passage in touched
    }
    most = max(shares.values(), default=0.0)
    return frozenset(id_ for id_, share in shares.items() if share >= most)


def ingest_set(
    folders: Sequence[Path],
    library: Library,
    embedder: Embedder,
    *,
    collection: str = "evaluation",
    progress: Callable[[IngestProgress], None] | None = None,
) -> list[str]:
    """Make the collection hold exactly the documents of `folders`; what did not change is kept.

    Files that cannot be read are returned, each with its reason. Raises `TrainingDataInvalid` if
    there is nothing to read, and what `ingest` raises.
    """
    for folder in folders:
        if not folder.is_dir():
            raise TrainingDataInvalid(f"there is no folder {folder}.", param="docs")
    summary = ingest(folders, collection, library, embedder, progress=progress)
    present = {*summary.added, *summary.updated, *summary.unchanged}
    stale = [d.id for d in library.documents(collection) if d.path not in present]
    if stale:
        library.delete(collection, stale)
    if not present:
        names = ", ".join(map(str, folders))
        raise TrainingDataInvalid(f"{names} holds no document that can be read.", param="docs")
    return [f"{failed.path}: {failed.error.message}" for failed in summary.failed]


class RememberingEmbedder:
    """The given embedder, which embeds no text twice: several systems read the same passages."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[str, Vectors] = {}
        self.identity = embedder.identity
        self.num_tokens = embedder.num_tokens

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One row a text, as the embedder itself gives it."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            rows = zip(new, self._embedder.encode(new), strict=True)
            self._vectors.update(rows)
        if not texts:
            return self._embedder.encode([])
        return np.stack([self._vectors[text] for text in texts])
