"""HTML: the content of a page as Markdown, without what stands around it."""

from __future__ import annotations

import re
from typing import Any

from ingest.errors import FileEmpty
from ingest.readers.base import ReadDocument, Section, clean_title, decode_text
from ingest.readers.markdown import markdown_sections

_DROPPED_TAGS = [
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "canvas",
    "iframe",
    "object",
    "embed",
    "form",
    "button",
    "input",
    "select",
    "textarea",
    "nav",
    "footer",
    "aside",
    "head",
]
_DROPPED_ROLES = ("navigation", "banner", "contentinfo", "search", "complementary")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


class HtmlReader:
    """Reads HTML; headings, lists, tables and code come out as Markdown."""

    media_type = "text/html"

    def read(self, content: bytes, name: str) -> ReadDocument:
        """The document's content as Markdown. Raises `FileNotText` or `FileEmpty`."""
        source, notes = _decode(content, name)
        return read_html(source, name, notes)


def read_html(source: str, name: str, notes: tuple[str, ...] = ()) -> ReadDocument:
    """The content of an HTML source as Markdown with its sections. Raises `FileEmpty`."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(source, "html.parser")
    title = clean_title(soup.title.get_text(" ") if soup.title else None)
    content: Any = soup.find("main") or soup.find("article") or soup.body or soup
    _drop_surroundings(content)
    try:
        text = _to_markdown(content)
        sections = markdown_sections(text)
    except RecursionError:
        text = content.get_text("\n")
        sections = (Section(0, len(text), ()),)
        notes = (*notes, "nested too deeply for headings and lists to be kept")
    if not text.strip():
        raise FileEmpty(f"{name} has no text outside of scripts, menus and forms.")
    title = title or next((s.headings[0] for s in sections if s.headings), None)
    return ReadDocument(
        text=text,
        media_type=HtmlReader.media_type,
        sections=sections,
        title=title,
        notes=notes,
    )


def _decode(content: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    declared = re.search(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{2,40})", content[:4096], re.I)
    if declared and not content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            return content.decode(declared[1].decode("ascii")), ()
        except (LookupError, UnicodeDecodeError):
            pass  # the declaration is wrong; look at the bytes instead
    return decode_text(content, name)


def _drop_surroundings(content: Any) -> None:
    from bs4 import Comment

    for comment in content.find_all(string=lambda string: isinstance(string, Comment)):
        comment.extract()
    for tag in content.find_all(_DROPPED_TAGS):
        tag.decompose()
    for tag in content.find_all(attrs={"role": _DROPPED_ROLES}):
        tag.decompose()
    for tag in content.find_all(attrs={"hidden": True}) + content.find_all(style=_HIDDEN):
        tag.decompose()
    for tag in content.find_all("header"):
        # A page's banner goes; the head of an article holds its title.
        if tag.find(["h1", "h2"]) is None:
            tag.decompose()


def _to_markdown(content: Any) -> str:
    from markdownify import MarkdownConverter

    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
        strip=["a", "img"],
        table_infer_header=True,
        newline_style="BACKSLASH",
        strong_em_symbol="*",
    )
    text = converter.convert_soup(content)
    text = text.replace("\xa0", " ").replace("\\\n", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
