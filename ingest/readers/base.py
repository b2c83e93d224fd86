"""What every reader returns, and what they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ingest.errors import FileNotText

_HEAD_BYTES = 65_536
_CONTROL_BYTES = bytes({*range(9), *range(14, 32)} - {27})


@dataclass(frozen=True, slots=True)
class Section:
    """The slice `[start, end)` of a text that stands under the heading path `headings`."""

    start: int
    end: int
    headings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A file as text.

    `sections` are in order and do not overlap; what lies outside them (a front matter) is kept in
    `text` but never becomes a passage. `notes` say in words what was lost or guessed.
    """

    text: str
    media_type: str
    sections: tuple[Section, ...]
    title: str | None = None
    page_starts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading that fills `[start, end)` of a text; `title` is None if it has no words."""

    start: int
    end: int
    level: int
    title: str | None


class Reader(Protocol):
    """Bytes of one format to text."""

    media_type: str

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document; `name` is for messages. Raises an `IngestError` subclass."""
        ...


def decode_text(content: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    """Bytes of a text file as text, with a note where that needed a guess.

    UTF-8 or what a byte order mark says; else Windows-1252, where bytes that it leaves undefined
    become U+FFFD. Raises `FileNotText` for bytes that are no text at all.
    """
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            text = content.decode(encoding, errors="replace")
            return text, _lost_note(text.count("\ufffd"), encoding)
    head = content[:_HEAD_BYTES]
    if b"\x00" in content or len(head) - len(head.translate(None, _CONTROL_BYTES)) > len(head) / 50:
        raise FileNotText(
            f"{name} has the name of a text file, but its bytes are not text (a binary file?)."
        )
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="replace")
    num_lost = text.count("\ufffd")
    num_wide = sum(1 for character in text if character > "\x7f") - num_lost
    # Where most sequences are valid it is UTF-8 with a few broken bytes, else a code page.
    if num_wide >= num_lost:
        return text, _lost_note(num_lost, "UTF-8")
    return content.decode("cp1252", errors="replace"), (
        "not UTF-8; read as Windows-1252, so letters with accents may be wrong",
    )


def build_sections(text: str, start: int, headings: Sequence[Heading]) -> tuple[Section, ...]:
    """Sections of the text from `start` on, each beginning with its heading.

    A heading with nothing but a deeper one below it goes into that one's section.
    """
    sections: list[Section] = []
    path: list[Heading] = []
    section_start = body_start = start
    level = 0
    for heading in [*headings, Heading(len(text), len(text), 0, None)]:
        is_bare = not text[body_start : heading.start].strip()
        if not (is_bare and heading.level > level) and text[section_start : heading.start].strip():
            titles = tuple(above.title for above in path if above.title)
            sections.append(Section(section_start, heading.start, titles))
            section_start = heading.start
        path = [*(above for above in path if above.level < heading.level), heading]
        body_start, level = heading.end, heading.level
    return tuple(sections)


def clean_title(text: str | None) -> str | None:
    """A title or heading on one line, without Markdown marks; None if nothing is left."""
    if text is None:
        return None
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\s*\{[#.][^}]*\}\s*$", "", text)
    text = re.sub(r"[*`]+|(?<!\w)_+|_+(?!\w)", "", text)
    return " ".join(text.split()) or None


def _lost_note(num_lost: int, encoding: str) -> tuple[str, ...]:
    if not num_lost:
        return ()
    return (f"{num_lost} invalid places in the {encoding} text were replaced by \ufffd",)
