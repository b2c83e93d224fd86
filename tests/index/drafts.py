"""Documents for tests: every line of the text is a passage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from index.collection import Library
from index.types import Document, DocumentDraft, PassageDraft
from models.protocols import Embedder


def make_draft(
    path: str,
    *lines: str,
    title: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> DocumentDraft:
    passages = []
    start = 0
    for line in lines:
        passages.append(PassageDraft(start, start + len(line), ("Part",), None, len(line.split())))
        start += len(line) + 1
    text = "\n".join(lines)
    return DocumentDraft(
        path=path,
        media_type="text/plain",
        content_hash=hashlib.sha256(text.encode()).hexdigest(),
        size_bytes=len(text.encode()),
        text=text,
        page_starts=(),
        passages=tuple(passages),
        title=title,
        attributes={"year": 2024.0, "open": True} if attributes is None else attributes,
    )


def put_lines(
    library: Library, embedder: Embedder, path: str, *lines: str, collection: str = "docs"
) -> Document:
    library.create_collection(collection)
    return library.put(collection, make_draft(path, *lines), embedder.encode(lines))
