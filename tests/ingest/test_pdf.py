from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ingest.errors import FileDamaged, NoText
from ingest.readers.base import ReadDocument
from ingest.readers.registry import read_content
from tests.ingest.pdf_maker import Line, make_pdf

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"


def make_page(number: int, *lines: str, heading: str | None = None) -> list[Line]:
    page: list[Line] = [(72, 800, 9, "Acme Ltd - Internal"), (280, 40, 9, f"Page {number} of 3")]
    y = 750.0
    if heading:
        page.append((72, y, 18, heading))
        y -= 40
    for line in lines:
        if line:
            page.append((72, y, 11, line))
        y -= 14
    return page


def read(content: bytes) -> ReadDocument:
    return read_content(content, "a.pdf")


PAGES = [
    make_page(
        1,
        "Every employee has 26 days of holiday in a year and may carry over",
        "five of them. The compa-",
        "ny closes between Christmas and New Year, and a well-",
        "known rule applies: ask first. This is a well-known fact.",
        "",
        "",
        "A second paragraph stands apart from the first one.",
        heading="Holiday",
    ),
    make_page(2, "Parents receive 16 weeks of leave after a birth.", heading="Parents"),
    make_page(3, "• first point of a list", "• second point", "The end of it (really)."),
]


def test_lines_become_running_text_without_running_heads() -> None:
    document = read(make_pdf(PAGES))
    assert "may carry over five of them. The company closes between" in document.text
    assert "a well-known rule applies" in document.text
    assert "This is a well-known fact.\n\nA second paragraph" in document.text
    assert "Internal" not in document.text
    assert "of 3" not in document.text


def test_pages_start_where_page_starts_says() -> None:
    document = read(make_pdf(PAGES))
    assert len(document.page_starts) == 3
    starts = [*document.page_starts, len(document.text)]
    pages = [document.text[a:b] for a, b in pairwise(starts)]
    assert [page.split()[0] for page in pages] == ["Holiday", "Parents", "•"]


def test_larger_type_makes_sections() -> None:
    document = read(make_pdf(PAGES))
    found = [(s.headings, document.text[s.start : s.end].split()[0]) for s in document.sections]
    assert found == [(("Holiday",), "Holiday"), (("Parents",), "Parents")]
    assert document.title == "Holiday"


def test_list_items_keep_their_lines() -> None:
    assert "• first point of a list\n• second point" in read(make_pdf(PAGES)).text


def test_the_title_comes_from_the_metadata_unless_it_is_a_file_name() -> None:
    assert read(make_pdf(PAGES, title="Staff handbook")).title == "Staff handbook"
    assert read(make_pdf(PAGES, title="Microsoft Word - x.doc")).title == "Holiday"


def test_an_empty_page_keeps_the_numbers_of_the_others() -> None:
    document = read(make_pdf([PAGES[0], [], PAGES[1]]))
    assert document.text[document.page_starts[2] :].startswith("Parents")


def test_a_scan_has_no_text() -> None:
    with pytest.raises(NoText, match="no text layer"):
        read(make_pdf([[], []]))


@pytest.mark.parametrize("content", [b"%PDF-1.4\nrubbish", b"%PDF-", b"%PDF-1.7\n" + bytes(5000)])
def test_a_damaged_file_says_so(content: bytes) -> None:
    with pytest.raises(FileDamaged, match=r"a\.pdf is not a PDF that can be opened"):
        read(content)


def test_a_cut_off_file_is_damaged_or_read_as_far_as_it_goes() -> None:
    whole = make_pdf(PAGES)
    with suppress(FileDamaged):
        assert "holiday" in read(whole[: len(whole) * 2 // 3]).text


def test_an_encrypted_file_is_told_from_a_damaged_one() -> None:
    content = make_pdf(PAGES)
    locked = content.replace(
        b"/Info",
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <"
        + b"41" * 32
        + b"> /U <"
        + b"42" * 32
        + b"> /P -4 >> /ID [<00><00>] /Info",
    )
    with pytest.raises(FileDamaged, match="is encrypted"):
        read(locked)


@pytest.mark.parametrize("path", sorted(HANDBOOK.rglob("*.pdf")), ids=lambda path: path.name)
def test_the_handbooks_pdfs_read_well(path: Path) -> None:
    document = read_content(path.read_bytes(), path.name)
    assert len(document.page_starts) > 1
    assert document.title
    assert any(section.headings for section in document.sections)
    assert "\x02" not in document.text
    assert "\ufffe" not in document.text
