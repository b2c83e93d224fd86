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
        ("The answer is no. Ask again.", ["The answer is no.", "Ask again."]),
        ("We meet at 5 p.m. The room is 4.", ["We meet at 5 p.m.", "The room is 4."]),
        ("We meet at 5 p.m. Friday.", ["We meet at 5 p.m. Friday."]),
        (
            "Bring pens, paper, etc. The desk has none.",
            ["Bring pens, paper, etc.", "The desk has none."],
        ),
        ("Acme Inc. Headquarters is in Bonn.", ["Acme Inc. Headquarters is in Bonn."]),
        ("See Fig. 3 and pp. 4–6. Then stop.", ["See Fig. 3 and pp. 4–6.", "Then stop."]),
        ("J. R. R. Tolkien wrote it. He did.", ["J. R. R. Tolkien wrote it.", "He did."]),
        ("Take vitamin C. The dose is 5 mg.", ["Take vitamin C.", "The dose is 5 mg."]),
        (
            "Use v2.10.3 of app.py. See https://a.example/x?y=1. Done.",
            ["Use v2.10.3 of app.py.", "See https://a.example/x?y=1.", "Done."],
        ),
        ("Wait... then go. Wait... Then go.", ["Wait... then go.", "Wait...", "Then go."]),
        (
            "He left (see Sec. 4. It is long) early. We stayed.",
            ["He left (see Sec. 4. It is long) early.", "We stayed."],
        ),
        ("Type `a. B` twice. Then save.", ["Type `a. B` twice.", "Then save."]),
        ("She said “Stop. Wait.” Then he left.", ["She said “Stop. Wait.”", "Then he left."]),
        (
            "It is so.[3] Others differ. [4, 5] We agree.",
            ["It is so.[3]", "Others differ. [4, 5]", "We agree."],
        ),
        (
            "Der Antrag gilt ab dem 5. Mai 2025. Danach nicht.",
            ["Der Antrag gilt ab dem 5. Mai 2025.", "Danach nicht."],
        ),
        (
            "Das gilt z. B. Montag bzw. Dienstag. Sonst nicht.",
            ["Das gilt z. B. Montag bzw. Dienstag.", "Sonst nicht."],
        ),
        ("Steps: 1. Open it. 2. Close it.", ["Steps: 1. Open it.", "2. Close it."]),
        ("「はい。」と言った。次へ。", ["「はい。」と言った。", "次へ。"]),
        ("यह सही है। वह नहीं।", ["यह सही है।", "वह नहीं।"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("**Note.** Lock the door. *Now.*", ["**Note.**", "Lock the door.", "*Now.*"]),
        ("[...] The rest follows.", ["[...] The rest follows."]),
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


def test_a_wrapped_initial_is_no_list_item() -> None:
    assert texts("It was found by\nJ. Smith in May.") == ["It was found by J. Smith in May."]


def test_a_fence_is_closed_by_its_own_marks_only() -> None:
    markdown = "~~~~\na = 1\n```\n~~~\nb. C\n~~~~\nText. More."
    assert [(s.kind, s.text) for s in segment(markdown)] == [
        ("code", "a = 1"),
        ("code", "b. C"),
        ("prose", "Text."),
        ("prose", "More."),
    ]


def test_nested_items_are_sentences_of_their_own() -> None:
    markdown = "- Fruit. Fresh only.\n  - apples\n    1. red\n  - pears\n"
    assert texts(markdown) == ["Fruit.", "Fresh only.", "apples", "red", "pears"]


def test_a_page_break_ends_a_sentence() -> None:
    assert texts("Page one ends here\n\f\nPage two begins.") == [
        "Page one ends here",
        "Page two begins.",
    ]
