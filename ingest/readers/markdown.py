"""Markdown: the source as it stands, cut into sections at its headings."""

from __future__ import annotations

import re

from ingest.readers.base import (
    Heading,
    ReadDocument,
    Section,
    build_sections,
    clean_title,
    decode_text,
)

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t\r]*")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t\r]*")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_STARTS_BLOCK = re.compile(r"\s*([-*+>|]|\d+[.)]\s|$)| {4}")
_FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?\n)??\1[ \t]*(\r?\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title[ \t]*[:=][ \t]*(.+?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
_MAX_FRONT_CHARS = 20_000


class MarkdownReader:
    """Reads Markdown; headings inside code fences and front matter are not headings."""

    media_type = "text/markdown"

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document with its source unchanged. Raises `FileNotText`."""
        text, notes = decode_text(content, name)
        start, front_title = read_front_matter(text)
        sections = markdown_sections(text, start)
        title = front_title or next((s.headings[0] for s in sections if s.headings), None)
        return ReadDocument(
            text=text,
            media_type=self.media_type,
            sections=sections,
            title=title,
            notes=notes,
        )


def read_front_matter(text: str) -> tuple[int, str | None]:
    """Offset behind a YAML or TOML front matter (0 without one), and the title it gives."""
    match = _FRONT_MATTER.match(text[:_MAX_FRONT_CHARS])
    if match is None or not match[2] or not re.search(r"^[\w-]+[ \t]*[:=]", match[2], re.MULTILINE):
        return 0, None
    title = _FRONT_TITLE.search(match[2])
    return match.end(), clean_title(title[1].strip("\"'")) if title else None


def markdown_sections(text: str, start: int = 0) -> tuple[Section, ...]:
    """Sections of Markdown from `start` on, each beginning with its heading line."""
    return build_sections(text, start, _find_headings(text, start))


def _find_headings(text: str, start: int) -> list[Heading]:
    found: list[Heading] = []
    fence: str | None = None
    # Where the one-line paragraph begins that a Setext line would underline.
    paragraph: int | None = None
    was_paragraph = False
    offset = start
    while offset < len(text):
        end = text.find("\n", offset)
        end = len(text) if end < 0 else end
        line = text[offset:end]
        opening = _FENCE.match(line)
        if fence is not None:
            if opening and opening[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
        elif opening:
            fence, paragraph = opening[1], None
        elif match := _ATX.fullmatch(line):
            found.append(Heading(offset, end, len(match[1]), clean_title(match[2])))
            paragraph = None
        elif paragraph is not None and (match := _SETEXT.fullmatch(line)):
            level = 1 if match[1][0] == "=" else 2
            found.append(Heading(paragraph, end, level, clean_title(text[paragraph:offset])))
            paragraph = None
        elif _STARTS_BLOCK.match(line):
            # What follows a list, quote or table line is a rule or a border, not an underline.
            paragraph = None
        else:
            paragraph = None if was_paragraph else offset
            was_paragraph = True
            offset = end + 1
            continue
        was_paragraph = False
        offset = end + 1
    return found
