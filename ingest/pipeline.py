"""Files into a collection: found, read, split, embedded, and committed one document at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from index.collection import Library
from index.types import DocumentDraft
from ingest.errors import FileDamaged, IngestError, PathTaken
from ingest.files import MAX_FILE_BYTES, FoundFile, find_files, read_file
from ingest.readers.registry import read_content
from ingest.split import SplitSettings, Splitter
from models.protocols import Embedder, Vectors

# Passages embedded in one call: enough to sort by length, few enough to commit often.
_BATCH_PASSAGES = 64


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far a run is, told after every file and every batch of passages.

    `passages_per_s` and `eta_s` are None until something was embedded.
    """

    path: str
    num_documents_done: int
    num_documents: int
    num_passages: int
    passages_per_s: float | None
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that is not in, and why."""

    path: str
    error: IngestError


@dataclass(slots=True)
class IngestSummary:
    """What a run did: paths by outcome, notes on what was guessed or lost, passages written."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[FailedFile] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    num_passages: int = 0
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Limits of a run, how documents are split, and the attributes that all of them get.

    Without `attributes` a document that is there already keeps its own.
    """

    max_file_bytes: int = MAX_FILE_BYTES
    split: SplitSettings = field(default_factory=SplitSettings)
    attributes: Mapping[str, str | float | bool] | None = None


Attributes = Mapping[str, str | float | bool]
Progress = Callable[[IngestProgress], None]


def ingest(
    paths: Sequence[Path],
    collection: str,
    library: Library,
    embedder: Embedder,
    *,
    progress: Progress | None = None,
    settings: IngestSettings | None = None,
) -> IngestSummary:
    """Take files and folders into a collection, which is created where it is missing.

    Documents whose bytes are those of the last run are left alone; changed ones are replaced in
    one transaction. A file that cannot be read is listed in the summary and the rest goes on.
    Raises `NameInvalid`, `EmbedderMismatch`, `EmbedderUnavailable` or a storage error such as
    `StorageFull`; what was committed before is kept, and the same call later does what is left.
    """
    run = _Run(collection, library, embedder, progress, settings or IngestSettings())
    return run.take(find_files(paths))


def prepare_document(
    content: bytes,
    path: str,
    content_hash: str,
    splitter: Splitter,
    attributes: Attributes | None = None,
) -> tuple[DocumentDraft, tuple[str, ...]]:
    """The bytes of one file, read and split, with notes on what was guessed or lost.

    Raises an `IngestError`; a reader that breaks down on a file makes it `FileDamaged`.
    """
    try:
        document = read_content(content, path)
    except IngestError:
        raise
    except (Exception, RecursionError) as error:  # one file must not stop the others
        raise FileDamaged(
            f"{path} cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    draft = DocumentDraft(
        path=path,
        media_type=document.media_type,
        content_hash=content_hash,
        size_bytes=len(content),
        text=document.text,
        page_starts=document.page_starts,
        passages=splitter.split(document, path),
        title=document.title,
        attributes=dict(attributes or {}),
    )
    return draft, document.notes


class _Run:
    """One call of `ingest`."""

    def __init__(
        self,
        collection: str,
        library: Library,
        embedder: Embedder,
        progress: Progress | None,
        settings: IngestSettings,
    ) -> None:
        library.create_collection(collection)
        self._collection = collection
        self._library = library
        self._embedder = embedder
        self._progress = progress
        self._settings = settings
        self._splitter = Splitter(
            embedder.num_tokens, embedder.identity.window_tokens, settings.split
        )
        self._summary = IngestSummary()
        self._pending: list[tuple[DocumentDraft, bool]] = []
        self._started_s = time.monotonic()
        self._num_done = 0
        self._num_files = 0
        self._num_embedded = 0
        self._embed_s = 0.0
        self._bytes_left = 0
        self._bytes_embedded = 0

    def take(self, files: Sequence[FoundFile]) -> IngestSummary:
        self._num_files = len(files)
        sizes = [_size_bytes(file.location) for file in files]
        self._bytes_left = sum(sizes)
        claimed: set[str] = set()
        for file, size_bytes in zip(files, sizes, strict=True):
            try:
                self._prepare(file, claimed)
            except IngestError as error:
                self._fail(file.path, error)
            self._bytes_left -= size_bytes
            if sum(len(draft.passages) for draft, _ in self._pending) >= _BATCH_PASSAGES:
                self._commit()
        self._commit()
        if self._summary.added or self._summary.updated:
            self._library.settle(self._collection)
        self._summary.elapsed_s = time.monotonic() - self._started_s
        return self._summary

    def _prepare(self, file: FoundFile, claimed: set[str]) -> None:
        if file.error is not None:
            raise file.error
        if file.path in claimed:
            raise PathTaken(
                f"{file.location} would get the path {file.path}, as another file of this run;"
                " ingest it into another collection, or give the folder above both."
            )
        claimed.add(file.path)
        read = read_file(file.location, file.path, self._settings.max_file_bytes)
        former = self._library.find(self._collection, file.path)
        attributes = self._settings.attributes
        if attributes is None and former is not None:
            attributes = former.attributes
        if former is not None and former.content_hash == read.content_hash:
            if former.attributes != attributes:
                self._library.set_attributes(former.id, attributes or {})
            self._summary.unchanged.append(file.path)
            self._done(file.path)
            return
        draft, notes = prepare_document(
            read.content, file.path, read.content_hash, self._splitter, attributes
        )
        self._summary.notes += [(file.path, note) for note in notes]
        self._pending.append((draft, former is not None))

    def _commit(self) -> None:
        """Embed the pending documents' passages together, then commit each document."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        texts = [text for draft, _ in pending for text in self._splitter.embedded_texts(draft)]
        vectors = self._encode(texts, pending[0][0].path)
        first = 0
        for draft, is_update in pending:
            last = first + len(draft.passages)
            self._library.put(self._collection, draft, vectors[first:last])
            first = last
            (self._summary.updated if is_update else self._summary.added).append(draft.path)
            self._summary.num_passages += len(draft.passages)
            self._bytes_embedded += draft.size_bytes
            self._done(draft.path)

    def _encode(self, texts: Sequence[str], path: str) -> Vectors:
        import numpy as np

        parts: list[Vectors] = []
        for first in range(0, len(texts), _BATCH_PASSAGES):
            batch = texts[first : first + _BATCH_PASSAGES]
            started_s = time.monotonic()
            parts.append(self._embedder.encode(batch))
            self._embed_s += time.monotonic() - started_s
            self._num_embedded += len(batch)
            self._tell(path)
        return np.concatenate(parts) if parts else self._embedder.encode([])

    def _fail(self, path: str, error: IngestError) -> None:
        self._summary.failed.append(FailedFile(path, error))
        self._done(path)

    def _done(self, path: str) -> None:
        self._num_done += 1
        self._tell(path)

    def _tell(self, path: str) -> None:
        if self._progress is None:
            return
        elapsed_s = time.monotonic() - self._started_s
        waiting = sum(draft.size_bytes for draft, _ in self._pending)
        eta_s = None
        if self._bytes_embedded:
            eta_s = elapsed_s / self._bytes_embedded * (self._bytes_left + waiting)
        self._progress(
            IngestProgress(
                path=path,
                num_documents_done=self._num_done,
                num_documents=self._num_files,
                num_passages=self._num_embedded,
                passages_per_s=self._num_embedded / self._embed_s if self._embed_s else None,
                eta_s=eta_s,
            )
        )


def _size_bytes(location: Path) -> int:
    try:
        return location.stat().st_size
    except OSError:
        return 0  # reading it will say why
