"""Plain text: as it stands, one section."""

from __future__ import annotations

import re

from ingest.readers.base import ReadDocument, Section, decode_text

_UNDERLINE = re.compile(r"[=\-~*_]{3,}")
_MAX_TITLE_CHARS = 100


class TextReader:
    """Reads plain text; a short underlined first line gives the title."""

    media_type = "text/plain"

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document with its text unchanged. Raises `FileNotText`."""
        text, notes = decode_text(content, name)
        return ReadDocument(
            text=text,
            media_type=self.media_type,
            sections=(Section(0, len(text), ()),),
            title=_find_title(text),
            notes=notes,
        )


def _find_title(text: str) -> str | None:
    lines = [line.strip() for line in text[:2000].lstrip("\ufeff").strip().split("\n", 2)[:2]]
    first = lines[0] if lines else ""
    is_set_apart = len(lines) > 1 and (not lines[1] or _UNDERLINE.fullmatch(lines[1]))
    if not first or len(first) > _MAX_TITLE_CHARS or not is_set_apart or first[-1] in ".,;:":
        return None
    return " ".join(first.split())
