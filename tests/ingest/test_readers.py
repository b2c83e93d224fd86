from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import (
    FileDamaged,
    FileEmpty,
    FileNotText,
    FileTooLarge,
    FormatUnsupported,
    IngestError,
    NoText,
)
from ingest.readers import docx
from ingest.readers.base import decode_text
from ingest.readers.registry import READERS, read_content


def headings(name: str, source: str) -> list[tuple[tuple[str, ...], str]]:
    document = read_content(source.encode(), name)
    return [(s.headings, document.text[s.start : s.end]) for s in document.sections]


# Text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_by_its_mark(encoding: str) -> None:
    assert decode_text("Grüße, 日本 👋".encode(encoding), "a.txt") == ("Grüße, 日本 👋", ())


def test_windows_1252_is_read_with_a_note() -> None:
    text, notes = decode_text("Grüße – “quoted” café".encode("cp1252"), "a.txt")
    assert text == "Grüße – “quoted” café"
    assert "Windows-1252" in notes[0]


def test_utf_8_with_a_broken_byte_stays_utf_8_with_a_note() -> None:
    text, notes = decode_text("Grüße ".encode() * 20 + b"\xff end", "a.txt")
    assert text == "Grüße " * 20 + "\ufffd end"
    assert notes == ("1 invalid places in the UTF-8 text were replaced by \ufffd",)


@pytest.mark.parametrize(
    "content", [b"\x00\x01\x02", b"\x7fELF" + bytes(range(32)) * 50, bytes(range(256)) * 10]
)
def test_a_binary_under_the_name_of_a_text_is_told(content: bytes) -> None:
    for name in ("a.txt", "a.md", "a.html"):
        with pytest.raises(FileNotText, match="bytes are not text"):
            read_content(content, name)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=400), name=st.sampled_from([f"a{s}" for s in READERS]))
def test_any_bytes_are_read_or_refused_with_a_reason(content: bytes, name: str) -> None:
    try:
        document = read_content(content, name)
    except IngestError as error:
        assert name in error.message  # noqa: PT017
        assert "\n" not in error.message  # noqa: PT017
    else:
        document.text.encode("utf-8")
        ends = [0, *(s.end for s in document.sections)]
        assert all(
            end <= s.start <= s.end <= len(document.text)
            for end, s in zip(ends, document.sections, strict=False)
        )


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\xef\xbb\xbf"])
def test_nothing_to_read_is_empty(content: bytes) -> None:
    with pytest.raises(FileEmpty):
        read_content(content, "a.txt")


def test_a_first_line_set_apart_is_the_title() -> None:
    assert read_content(b"Minutes of March\n\nAll were there.", "a.txt").title == "Minutes of March"
    assert read_content(b"Data\n====\nMore", "a.txt").title == "Data"
    assert read_content(b"Just some text.\nAnd more.", "a.txt").title is None


# Markdown


def test_markdown_is_kept_as_it_is_and_cut_at_headings() -> None:
    source = "intro\r\n\r\n# One #\r\ntext\r\n## *Two* [link](x)\r\nmore\r\n# Three {#id}\r\nend"
    assert headings("a.md", source) == [
        ((), "intro\r\n\r\n"),
        (("One",), "# One #\r\ntext\r\n"),
        (("One", "Two link"), "## *Two* [link](x)\r\nmore\r\n"),
        (("Three",), "# Three {#id}\r\nend"),
    ]


def test_setext_headings_count_but_rules_and_tables_do_not() -> None:
    source = "Title\n=====\n\ntext\n\n---\n\n- item\n---\nPart\n----\n| a |\n|---|\n"
    assert [path for path, _ in headings("a.md", source)] == [("Title",), ("Title", "Part")]


def test_headings_in_fences_are_code() -> None:
    source = "# A\n```sh\n# not\n~~~\n# nor this\n```\n# B\n~~~~\n```\n# not\n~~~~\n# C"
    assert [path for path, _ in headings("a.md", source)] == [("A",), ("B",), ("C",)]


def test_deeper_headings_end_with_their_parent() -> None:
    source = "# A\na\n### Deep\nx\n## B\ny\n# C\nz"
    paths = [path for path, _ in headings("a.md", source)]
    assert paths == [("A",), ("A", "Deep"), ("A", "B"), ("C",)]


def test_a_heading_with_nothing_below_it_goes_with_the_deeper_one() -> None:
    source = "# A\n\n## B\ntext\n## Empty\n## C\nmore\n### Last"
    assert headings("a.md", source) == [
        (("A", "B"), "# A\n\n## B\ntext\n"),
        (("A", "Empty"), "## Empty\n"),
        (("A", "C"), "## C\nmore\n"),
        (("A", "C", "Last"), "### Last"),
    ]


def test_front_matter_gives_the_title_and_no_passage() -> None:
    document = read_content(b'---\ntitle: "The Title"\ntags: [x]\n---\n# Body\ntext', "a.md")
    assert document.title == "The Title"
    assert document.text[document.sections[0].start :] == "# Body\ntext"
    assert read_content(b"---\n\nText under a rule\n\n---\nmore", "a.md").sections[0].start == 0


# HTML


def test_html_keeps_structure_and_drops_surroundings() -> None:
    document = read_content(
        b"""<html><head><title>Site | Rules</title><style>x{}</style></head><body>
        <header><a>Home</a></header><nav>Menu</nav><main><h1>Rules</h1><p>Be <b>kind</b>.<br>Always.
        </p><ul><li>One</li><li>Two<ul><li>Deep</li></ul></li></ul><table><tr><th>Who</th>
        <th>Days</th></tr><tr><td>All</td><td>26</td></tr></table><pre>code *here*</pre>
        <script>evil()</script><p hidden>secret</p><h2>More</h2><p>a_b &amp; c*d</p></main>
        <footer>Imprint</footer></body></html>""",
        "a.html",
    )
    text = document.text
    assert document.title == "Site | Rules"
    assert [s.headings for s in document.sections] == [("Rules",), ("Rules", "More")]
    assert "- One" in text
    assert "| All | 26 |" in text
    assert "code *here*" in text
    assert "a_b & c*d" in text
    for gone in ("Menu", "Home", "Imprint", "evil", "secret", "x{}"):
        assert gone not in text


def test_html_names_its_own_encoding() -> None:
    source = '<meta charset="iso-8859-1"><p>Grüße</p>'.encode("latin-1")
    assert read_content(source, "a.html").text == "Grüße\n"
    wrong = '<meta charset="nonsense"><p>Grüße</p>'.encode()
    assert read_content(wrong, "a.html").text == "Grüße\n"


def test_html_nested_thousands_deep_is_still_read() -> None:
    document = read_content(b"<div>" * 20_000 + b"deep text" + b"</div>" * 20_000, "a.html")
    assert "deep text" in document.text


def test_html_without_content_is_empty() -> None:
    with pytest.raises(FileEmpty):
        read_content(b"<html><script>x</script><nav>Menu</nav></html>", "a.html")


# DOCX

_NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def make_docx(body: str, title: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
            'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
            '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-'
            'officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
            'relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        )
        archive.writestr(
            "word/document.xml",
            f"<w:document {_NAMESPACE}><w:body>{body}</w:body></w:document>",
        )
        archive.writestr(
            "docProps/core.xml",
            '<cp:coreProperties xmlns:cp="x" xmlns:dc="y">'
            f"<dc:title>{title}</dc:title></cp:coreProperties>",
        )
    return buffer.getvalue()


def paragraph(text: str, style: str = "") -> str:
    marks = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{marks}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_docx_keeps_headings_and_its_title() -> None:
    content = make_docx(
        paragraph("Expenses", "Heading1") + paragraph("Trains are paid in full."),
        "Travel &amp; pay",
    )
    document = read_content(content, "a.docx")
    assert document.title == "Travel & pay"
    assert document.text == "# Expenses\n\nTrains are paid in full.\n"
    assert document.sections[0].headings == ("Expenses",)
    assert document.media_type.endswith("wordprocessingml.document")


def test_docx_without_text_says_so() -> None:
    with pytest.raises(NoText):
        read_content(make_docx("<w:p/>"), "a.docx")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 rubbish", "not a whole DOCX"),
        (b"no zip at all", "not a whole DOCX"),
        (make_docx(paragraph("x"))[:-60], "not a whole DOCX"),
        (make_docx("<w:p><broken"), "damaged DOCX"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "password"),
    ],
)
def test_a_damaged_docx_says_so(content: bytes, reason: str) -> None:
    with pytest.raises(FileDamaged, match=reason):
        read_content(content, "a.docx")


def test_a_zip_of_something_else_is_no_docx() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileDamaged, match="not a DOCX"):
        read_content(buffer.getvalue(), "a.docx")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "x")
        with archive.open("word/document.xml", "w") as member:
            for _ in range(docx.MAX_UNPACKED_BYTES // 10_000_000 + 1):
                member.write(bytes(10_000_000))
    assert len(buffer.getvalue()) < 1_000_000
    with pytest.raises(FileTooLarge, match="unpacks to"):
        read_content(buffer.getvalue(), "a.docx")


# Choice of reader


def test_the_bytes_win_over_a_wrong_name_where_they_are_sure() -> None:
    assert read_content(b"<!DOCTYPE html><p>Hello</p>", "page").media_type == "text/html"
    assert read_content(b"Hello there", "README").media_type == "text/plain"
    with pytest.raises(FileDamaged):
        read_content(b"%PDF-1.4 broken", "a.txt")


@pytest.mark.parametrize("name", ["a.png", "a.xlsx", "a.doc", "archive.tar.gz"])
def test_other_kinds_are_refused_with_what_is_read(name: str) -> None:
    with pytest.raises(FormatUnsupported, match=r"\.docx .*\.md .*\.pdf"):
        read_content(b"\x89PNG and so on", name)
