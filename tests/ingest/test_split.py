from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.types import PassageDraft
from ingest.readers.base import ReadDocument, Section
from ingest.readers.markdown import MarkdownReader
from ingest.split import SplitSettings, Splitter, embedded_text
from models.embedder import SentenceEmbedder
from tests.fakes import HashingEmbedder

MARKDOWN_LINES = st.sampled_from(
    [
        "# One",
        "## Two",
        "### Two",
        "Setext",
        "===",
        "---",
        "```",
        "~~~",
        "# not a heading in a fence",
        "- item with some words",
        "1. first",
        "| a | b |",
        "",
        "   ",
        "A sentence. Another one! And a third? Yes: it is so; really, it is.",
        "word " * 60,
        "x" * 900,
        "漢字かな交じり文。" * 40,
        "👩‍👩‍👧‍👦🇩🇪é" * 30,
        "مرحبا بالعالم " * 30,
        "\x00\x01\x1f control \x7f",
        "a\u0301" * 500,
    ]
)
TEXTS = st.one_of(
    st.lists(MARKDOWN_LINES, max_size=25).map("\n".join),
    st.text(max_size=400),
    st.lists(st.text(alphabet="ab .\n\r\t\u2028,|`#-", max_size=80), max_size=20).map("".join),
)


def markdown(text: str) -> ReadDocument:
    return MarkdownReader().read(text.encode("utf-8"), "a.md")


def check_laws(
    document: ReadDocument, passages: tuple[PassageDraft, ...], splitter: Splitter, window: int
) -> None:
    text = document.text
    embedder = HashingEmbedder()
    covered = bytearray(len(text))
    last = 0
    for passage in passages:
        assert last <= passage.start < passage.end <= len(text)
        last = passage.end
        covered[passage.start : passage.end] = b"\x01" * (passage.end - passage.start)
        section = [s for s in document.sections if s.start <= passage.start < s.end]
        assert [s.headings for s in section] == [passage.headings]
        assert passage.end <= section[0].end
        header = splitter.header("folder/a-file.md", document.title, passage.headings)
        seen = embedded_text(header, text[passage.start : passage.end])
        assert embedder.num_tokens([seen]) == [passage.num_tokens]
        assert passage.num_tokens <= window
    for section_ in document.sections:
        for offset in range(section_.start, section_.end):
            assert covered[offset] or text[offset].isspace(), (offset, text[offset])


@settings(max_examples=120, deadline=None)
@given(text=TEXTS, window=st.sampled_from([24, 64, 256]))
def test_the_laws_of_splitting_hold_for_any_text(text: str, window: int) -> None:
    document = ReadDocument(text, "text/plain", (Section(0, len(text), ("One", "Two")),), "Title")
    splitter = Splitter(HashingEmbedder().num_tokens, window, SplitSettings(300, 80))
    check_laws(document, splitter.split(document, "folder/a-file.md"), splitter, window)


@settings(max_examples=80, deadline=None)
@given(lines=st.lists(MARKDOWN_LINES, max_size=25))
def test_the_laws_of_splitting_hold_for_any_markdown(lines: list[str]) -> None:
    text = "\n".join(line for line in lines if "\x00" not in line)
    document = markdown(text)
    splitter = Splitter(HashingEmbedder().num_tokens, 64, SplitSettings(300, 80))
    check_laws(document, splitter.split(document, "folder/a-file.md"), splitter, 64)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 50_000,
        "漢" * 50_000,
        "👩‍👩‍👧‍👦" * 5_000,
        "a\u0301" * 25_000,
        "word " * 10_000,
        "\u202eשלום" * 10_000,
        "\x01\x02\x03" * 10_000,
    ],
    ids=["latin", "cjk", "emoji", "marks", "words", "rtl", "control"],
)
def test_an_endless_line_fits_the_window_of_the_real_embedder(text: str) -> None:
    embedder = SentenceEmbedder()
    document = ReadDocument(text, "text/plain", (Section(0, len(text), ()),))
    passages = Splitter(embedder.num_tokens, 256).split(document, "a.txt")
    assert "".join(text[p.start : p.end] for p in passages) == text.replace(" ", " ").strip() or (
        "word" in text
    )
    assert max(p.num_tokens for p in passages) <= 256
    assert max(p.end - p.start for p in passages) <= 1000


def test_headings_longer_than_the_window_still_leave_room_for_text() -> None:
    headings = tuple(f"Heading {number} " + "very " * 300 for number in range(4))
    text = "Some words of text. " * 100
    document = ReadDocument(text, "text/plain", (Section(0, len(text), headings),))
    splitter = Splitter(HashingEmbedder().num_tokens, 64)
    for passage in splitter.split(document, "a.txt"):
        assert passage.num_tokens <= 64
        assert passage.headings == headings


def split_markdown(text: str, max_chars: int = 300, min_chars: int = 80) -> list[str]:
    document = markdown(text)
    splitter = Splitter(HashingEmbedder().num_tokens, 256, SplitSettings(max_chars, min_chars))
    return [document.text[p.start : p.end] for p in splitter.split(document, "a.md")]


def test_lists_tables_and_fences_that_fit_are_kept_whole() -> None:
    filler = "Filler sentence that takes some room in its passage. " * 4
    for block in (
        "- one item\n- another item\n\n- a third item after an empty line\n  with a second line",
        "| name | weeks |\n|---|---|\n| parental | 16 |\n| sick | 6 |",
        "```python\ndef f():\n\n    return 1\n```",
    ):
        passages = split_markdown(f"# Title\n\n{filler}\n\n{block}\n\n{filler}")
        assert any(block in passage for passage in passages), passages


def test_a_sentence_that_announces_a_list_stays_with_it() -> None:
    block = "You need:\n\n" + "\n".join(f"- thing number {n}" for n in range(8))
    passages = split_markdown("Sentence before it, quite long. " * 5 + "\n\n" + block)
    assert any(block in passage for passage in passages), passages


def test_a_heading_never_stands_alone_before_a_long_paragraph() -> None:
    passages = split_markdown("## Leave\n\n" + "A sentence about leave and more. " * 30)
    assert all(len(passage) > 40 for passage in passages)


def test_long_text_is_cut_between_sentences() -> None:
    text = " ".join(f"This is sentence number {n} of the paragraph." for n in range(40))
    for passage in split_markdown(text):
        assert passage.startswith("This is sentence")
        assert passage.endswith("of the paragraph.")


def test_pages_are_those_of_the_passages_first_character() -> None:
    text = "First page text.\n\f\nSecond page text."
    document = ReadDocument(text, "application/pdf", (Section(0, len(text), ()),), None, (0, 19))
    splitter = Splitter(HashingEmbedder().num_tokens, 256, SplitSettings(20, 5))
    assert [p.page for p in splitter.split(document, "a.pdf")] == [1, 2]


@pytest.mark.parametrize(
    ("path", "title", "headings", "expected"),
    [
        ("hr/parental-leave.md", None, (), "hr > parental leave"),
        ("hr/leave.md", "Leave", ("Leave", "Parents"), "hr > leave > Parents"),
        ("a.txt", "Title", ("One",), "a > Title > One"),
        ("v1.2/README", None, (), "v1.2 > README"),
    ],
)
def test_headers_name_everything_once(
    path: str, title: str | None, headings: tuple[str, ...], expected: str
) -> None:
    assert Splitter(HashingEmbedder().num_tokens, 256).header(path, title, headings) == expected
