"""Documents to draft from: those of a collection, or a folder's files as they would be ingested."""

from __future__ import annotations

from pathlib import Path

from index.collection import Library
from ingest.errors import IngestError
from ingest.files import find_files, read_file
from ingest.readers.registry import read_content
from models.imitation.errors import TrainingDataInvalid
from server.evaluation.authoring.drafts import Source


def read_collection(library: Library, collection: str) -> list[Source]:
    """Every document of a collection, by path. Raises `CollectionNotFound`."""
    return [
        Source(
            document.path,
            document.title or "",
            library.text(document.id),
            tuple((p.start, p.end, p.headings) for p in library.passages(document.id)),
        )
        for document in library.documents(collection)
    ]


def read_folder(folder: Path, max_file_bytes: int) -> tuple[list[Source], list[str]]:
    """The documents of a folder, and why others could not be read.

    Raises `TrainingDataInvalid` if there is nothing to read.
    """
    sources: list[Source] = []
    failures: list[str] = []
    for found in find_files([folder]):
        try:
            if found.error is not None:
                raise found.error
            file = read_file(found.location, found.path, max_file_bytes)
            document = read_content(file.content, found.path)
        except IngestError as error:
            failures.append(f"{found.path}: {error.message}")
            continue
        sections = tuple((s.start, s.end, tuple(s.headings)) for s in document.sections)
        sources.append(Source(found.path, document.title or "", document.text, sections))
    if not sources:
        raise TrainingDataInvalid(f"{folder} holds no document that can be read.", param="docs")
    return sources, failures
