"""Which reader a file gets: by its suffix, checked against its first bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

from ingest.errors import FileEmpty, FormatUnsupported, NoText
from ingest.readers.base import ReadDocument, Reader
from ingest.readers.docx import DocxReader
from ingest.readers.html import HtmlReader
from ingest.readers.markdown import MarkdownReader
from ingest.readers.pdf import PdfReader
from ingest.readers.text import TextReader

_MARKDOWN, _TEXT, _HTML, _PDF, _DOCX = (
    MarkdownReader(),
    TextReader(),
    HtmlReader(),
    PdfReader(),
    DocxReader(),
)
READERS: dict[str, Reader] = {
    ".md": _MARKDOWN,
    ".markdown": _MARKDOWN,
    ".mdx": _MARKDOWN,
    ".txt": _TEXT,
    ".text": _TEXT,
    ".rst": _TEXT,
    ".adoc": _TEXT,
    ".org": _TEXT,
    ".log": _TEXT,
    ".csv": _TEXT,
    ".tsv": _TEXT,
    ".html": _HTML,
    ".htm": _HTML,
    ".xhtml": _HTML,
    ".pdf": _PDF,
    ".docx": _DOCX,
}


def is_supported(name: str) -> bool:
    """True if a file of that name has a suffix that some reader knows."""
    return PurePosixPath(name).suffix.lower() in READERS


def choose_reader(content: bytes, name: str) -> Reader:
    """The reader for these bytes. Raises `FormatUnsupported`.

    The suffix decides, unless the bytes begin as a PDF. Without a known suffix, PDF and HTML are
    told by their first bytes and anything else must be text.
    """
    suffix = PurePosixPath(name).suffix.lower()
    head = content[:1024].lstrip()
    if head.startswith(b"%PDF-"):
        return _PDF
    if suffix in READERS:
        return READERS[suffix]
    if suffix == "" and head[:200].lower().startswith((b"<!doctype html", b"<html")):
        return _HTML
    if suffix == "" and b"\x00" not in content[:4096]:
        return _TEXT
    known = " ".join(sorted(READERS))
    raise FormatUnsupported(
        f"{name} is of a kind that is not read ({suffix or 'no suffix, and not text'}); these are:"
        f" {known}"
    )


def read_content(content: bytes, name: str) -> ReadDocument:
    """The document in these bytes. Raises the `IngestError` that says why there is none."""
    if not content:
        raise FileEmpty(f"{name} is empty (0 bytes).")
    document = choose_reader(content, name).read(content, name)
    body = "".join(document.text[s.start : s.end] for s in document.sections)
    if not body.strip().strip("\ufeff"):
        if document.page_starts:
            raise NoText(f"{name} has no text layer (a scan?); run text recognition on it first.")
        raise FileEmpty(f"{name} holds nothing but white space.")
    return document
