"""A collection embedded again, from the stored texts, for another embedder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from index.collection import Library
from index.types import Document, DocumentDraft
from ingest.readers.base import ReadDocument, Section
from ingest.split import SplitSettings, Splitter
from models.protocols import Embedder, Vectors

_BATCH_PASSAGES = 64


def reembed(
    collection: str,
    library: Library,
    embedder: Embedder,
    *,
    progress: Callable[[int, int], None] | None = None,
    settings: SplitSettings | None = None,
) -> int:
    """Number of passages written with vectors of `embedder`, which the library must be opened with.

    All at the end in one transaction: until then searches with the former embedder go on, and an
    interrupted run leaves the collection as it was. Passages that the new window does not hold
    are split again. `progress` gets the documents done and in all. Raises `CollectionNotFound`,
    or `DocumentNotFound` where documents came or went meanwhile.
    """
    documents = library.documents(collection)
    splitter = Splitter(embedder.num_tokens, embedder.identity.window_tokens, settings)

    def drafts() -> Iterator[tuple[str, DocumentDraft, Vectors]]:
        for num_done, document in enumerate(documents, start=1):
            draft = _draft(library, document, splitter, embedder)
            yield document.id, draft, _encode(embedder, splitter.embedded_texts(draft))
            if progress is not None:
                progress(num_done, len(documents))

    # Embedding takes minutes; no other writer should wait for it.
    embedded = list(drafts())
    return library.replace_passages(collection, iter(embedded), embedder.identity)


def _draft(
    library: Library, document: Document, splitter: Splitter, embedder: Embedder
) -> DocumentDraft:
    text = library.text(document.id)
    read = ReadDocument(
        text=text,
        media_type=document.media_type,
        sections=tuple(
            Section(passage.start, passage.end, passage.headings)
            for passage in library.passages(document.id)
        ),
        title=document.title,
        page_starts=document.page_starts,
    )
    return DocumentDraft(
        path=document.path,
        media_type=document.media_type,
        content_hash=document.content_hash,
        size_bytes=document.size_bytes,
        text=text,
        page_starts=document.page_starts,
        passages=splitter.keep_or_split(read, document.path),
        title=document.title,
        attributes=document.attributes,
    )


def _encode(embedder: Embedder, texts: list[str]) -> Vectors:
    import numpy as np

    parts = [
        embedder.encode(texts[first : first + _BATCH_PASSAGES])
        for first in range(0, len(texts), _BATCH_PASSAGES)
    ]
    return np.concatenate(parts) if parts else embedder.encode([])
