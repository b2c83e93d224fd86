"""Segmentation: exact slices, in order, nothing with words lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.sentences import segment


def texts(markdown: str) -> list[str]:
    return [sentence.text for sentence in segment(markdown)]


@given(st.text(alphabet=st.sampled_from(list("aB1 .!?\n|-*#>`'\")[]:;,é。\f\r")), max_size=200))
def test_sentences_are_slices_in_order_that_do_not_overlap(text: str) -> None:
    position = 0
    for sentence in segment(text):
        assert position <= sentence.start < sentence.end <= len(text)
        assert " ".join(text[sentence.start : sentence.end].split()).strip("| ") == (
            sentence.text.strip("| ")
        )
        position = sentence.end


@given(st.lists(st.text(alphabet="abcdefgh", min_size=1, max_size=8), min_size=1, max_size=40))
def test_no_word_of_plain_prose_is_lost(words: list[str]) -> None:
    prose = " ".join(
        word.capitalize() + "." if i % 5 == 4 else word for i, word in enumerate(words)
    )
    found = re.findall(r"\w+", " ".join(texts(prose)))
    assert [word.lower() for word in found] == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ask Dr. Ito. She knows.", ["Ask Dr. Ito.", "She knows."]),
        ("Bring e.g. a badge. Then enter.", ["Bring e.g. a badge.", "Then enter."]),
        ("It costs 3.50 euros. Pay by card.", ["It costs 3.50 euros.", "Pay by card."]),
        ("The U.S. Army said so. We agree.", ["The U.S. Army said so.", "We agree."]),
        ("Really?! Yes… Perhaps.", ["Really?!", "Yes…", "Perhaps."]),
        ("He said “Stop.” Then he left.", ["He said “Stop.”", "Then he left."]),
        ("休暇は五日です。翌年に繰り越せます。", ["休暇は五日です。", "翌年に繰り越せます。"]),
        ("See form no. 5 today.", ["See form no. 5 today."]),
    ],
)
def test_a_stop_ends_a_sentence_only_where_one_ends(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_list_items_are_sentences_without_their_markers() -> None:
    markdown = "You need:\n\n- a badge\n- [x] a key,\n  which Bo has\n1. a form\n"
    assert texts(markdown) == ["You need:", "a badge", "a key, which Bo has", "a form"]


def test_table_rows_are_sentences_and_their_rule_is_not() -> None:
    markdown = "| Tier | Limit |\n|------|:-----:|\n| Gold | 40 |\n"
    assert [(s.kind, s.text) for s in segment(markdown)] == [
        ("row", "Tier | Limit"),
        ("row", "Gold | 40"),
    ]


def test_headings_are_told_apart() -> None:
    markdown = "# Leave\nText one.\n\nTitle\n-----\nText two."
    assert [(s.kind, s.text) for s in segment(markdown)] == [
        ("heading", "Leave"),
        ("prose", "Text one."),
        ("heading", "Title"),
        ("prose", "Text two."),
    ]


def test_code_lines_are_kept_whole_and_fences_dropped() -> None:
    markdown = "Run:\n```sh\nmake all. Now\n```\nDone."
    assert texts(markdown) == ["Run:", "make all. Now", "Done."]


def test_a_page_break_ends_a_sentence() -> None:
    assert texts("Page one ends here\n\f\nPage two begins.") == [
        "Page one ends here",
        "Page two begins.",
    ]
