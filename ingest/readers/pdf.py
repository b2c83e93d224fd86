"""PDF: the text layer page by page, as running text."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest.errors import FileDamaged
from ingest.readers.base import Heading, ReadDocument, build_sections, clean_title
from ingest.readers.lines import PageLine, PageText, drop_repeated, join_lines, rank_headings

if TYPE_CHECKING:
    import pypdfium2

PAGE_SEPARATOR = "\n\f\n"
# PDFium may be used by one thread of a process at a time.
_PDFIUM_LOCK = threading.Lock()
_NO_TITLE = re.compile(r"untitled|microsoft word\b|\.(docx?|pdf|indd|tex|dvi|odt)$", re.IGNORECASE)
_BOLD = re.compile(r"bold|black|heavy", re.IGNORECASE)
_LEADERS = re.compile(r"(?:\s?[.·]){5,}")
_HYPHENATED = re.compile(r"\w+-\w+")
_UNSEEN = str.maketrans({"\x00": None, "\ufeff": None, "\xad": "\x02", "\ufffe": "\x02"})


class PdfReader:
    """Reads the text layer of a PDF.

    Lines are joined to paragraphs, hyphens at their ends closed, running heads and page numbers
    left out; lines in larger type become headings. `page_starts` is exact.
    """

    media_type = "application/pdf"

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document's text; without a text layer it is nothing but page separators.

        Raises `FileDamaged`, also for a file locked by a password.
        """
        import pypdfium2

        with _PDFIUM_LOCK:
            try:
                pdf = pypdfium2.PdfDocument(content)
            except pypdfium2.PdfiumError as error:
                if "password" in str(error).lower():
                    raise FileDamaged(
                        f"{name} is encrypted; save it without a password first."
                    ) from error
                raise FileDamaged(f"{name} is not a PDF that can be opened: {error}") from error
            try:
                title = pdf.get_metadata_dict().get("Title")
                pages, notes = _read_pages(pdf)
            finally:
                pdf.close()
        if not pages:
            raise FileDamaged(f"{name} is a PDF without any page that can be read.")
        return _assemble(pages, _useful_title(title), notes)


def _read_pages(pdf: pypdfium2.PdfDocument) -> tuple[list[list[PageLine]], tuple[str, ...]]:
    import pypdfium2

    pages: list[list[PageLine]] = []
    unreadable: list[str] = []
    for index in range(len(pdf)):
        try:
            page = pdf[index]
            text_page = page.get_textpage()
        except pypdfium2.PdfiumError:
            unreadable.append(str(index + 1))
            pages.append([])
            continue
        pages.append(_read_lines(text_page))
        text_page.close()
        page.close()
    if len(unreadable) == len(pages):
        return [], ()
    notes = (f"pages that could not be read: {', '.join(unreadable)}",) if unreadable else ()
    return pages, notes


def _read_lines(text_page: pypdfium2.PdfTextPage) -> list[PageLine]:
    """Lines of a page with their box and type, positions in points."""
    lines: list[PageLine] = []
    offset = 0
    for raw in text_page.get_text_range().split("\r\n"):
        text = raw.translate(_UNSEEN).strip()
        start, offset = offset, offset + _num_units(raw) + 2
        if not text:
            continue
        first = start + _num_units(raw[: len(raw) - len(raw.lstrip())])
        last = start + _num_units(raw.rstrip()) - 1
        # Bullets come from other fonts; the first letter shows the type of the line.
        letter = next((i for i, c in enumerate(raw) if c.isalnum()), 0)
        letter = start + _num_units(raw[:letter])
        _, bottom, _, top = text_page.get_charbox(letter, loose=True)
        lines.append(
            PageLine(
                text=_LEADERS.sub(" …", text).encode("utf-8", "replace").decode("utf-8"),
                left=text_page.get_charbox(first, loose=True)[0],
                right=text_page.get_charbox(last, loose=True)[2],
                bottom=bottom,
                size=round(top - bottom, 1),
                is_bold=_is_bold(text_page, letter) and _is_bold(text_page, last),
            )
        )
    return lines


def _num_units(text: str) -> int:
    """Length as PDFium counts it: a character beyond U+FFFF as two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _is_bold(text_page: pypdfium2.PdfTextPage, index: int) -> bool:
    import ctypes

    from pypdfium2.raw import FPDFText_GetFontInfo

    name = ctypes.create_string_buffer(128)
    FPDFText_GetFontInfo(text_page, index, name, len(name), ctypes.byref(ctypes.c_int()))
    return _BOLD.search(name.value.decode("utf-8", "replace")) is not None


def _assemble(
    pages: list[list[PageLine]], title: str | None, notes: tuple[str, ...]
) -> ReadDocument:
    pages = drop_repeated(pages)
    levels = rank_headings(pages)
    texts: list[str] = []
    page_starts: list[int] = []
    headings: list[Heading] = []
    offset = 0
    words = frozenset(
        word for page in pages for line in page for word in _HYPHENATED.findall(line.text)
    )
    for lines in pages:
        page: PageText = join_lines(lines, levels, words)
        page_starts.append(offset)
        headings += [
            replace(heading, start=offset + heading.start, end=offset + heading.end)
            for heading in page.headings
        ]
        texts.append(page.text)
        offset += len(page.text) + len(PAGE_SEPARATOR)
    text = PAGE_SEPARATOR.join(texts)
    return ReadDocument(
        text=text,
        media_type=PdfReader.media_type,
        sections=build_sections(text, 0, headings),
        title=title or next((heading.title for heading in headings if heading.level == 1), None),
        page_starts=tuple(page_starts),
        notes=notes,
    )


def _useful_title(title: str | None) -> str | None:
    title = clean_title(title)
    return None if title is None or len(title) < 4 or _NO_TITLE.search(title) else title
