from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.style import (
    ROWS,
    compare_style,
    has_list,
    has_summary,
    is_authoritative,
    measure_style,
    share_unigrams,
)

LISTED = "There are two:\n\n- one thing\n- another thing\n\nOverall, both are good."
PROSE = "It is one thing. It is sure."
TEACHER = [LISTED, PROSE + " " + PROSE, PROSE * 3, LISTED + "\n\nOverall, it is long."]
TEXTS = st.lists(st.sampled_from(["one", "two", "Two", "three.", "\n"]), max_size=12).map(" ".join)


def rows_of(answers: list[str], teacher: list[str]) -> dict[str, float]:
    return {row.row: row.interval.mean for row in measure_style(answers, teacher)}


@pytest.mark.parametrize(
    ("text", "is_list"),
    [
        ("- a thing\n- b thing", True),
        ("1. first\n2. second", True),
        ("* only one", False),
        ("Well - it is - prose.", False),
        ("In 2019. 3 were made.", False),
    ],
)
def test_a_list_has_two_items(text: str, is_list: bool) -> None:
    assert has_list(text) is is_list


@pytest.mark.parametrize(
    ("text", "is_summary"),
    [
        ("A.\n\nB.\n\nIn summary, C.", True),
        ("A.\n\n**Overall**, C.", True),
        ("In summary, C.", False),
        ("Overall, A.\n\nB.", False),
        ("A.\n\nOverallness is a word.", False),
    ],
)
def test_a_summary_is_the_last_of_several_paragraphs(text: str, is_summary: bool) -> None:
    assert has_summary(text) is is_summary


@pytest.mark.parametrize(
    ("text", "is_sure"),
    [
        ("Canberra is the capital.", True),
        ("The steps are:\n- one\n- two", True),
        ("I think it is Canberra.", False),
        ("It’s Canberra, but I’m not sure.", False),
        ("Perhaps Canberra is the capital.", False),
        ("Canberra is the capital of", False),
        ("", False),
    ],
)
def test_tone_is_read_from_hedges_and_endings(text: str, is_sure: bool) -> None:
    assert is_authoritative(text) is is_sure


@given(TEXTS, TEXTS)
def test_shared_unigrams_are_symmetric_and_whole_for_equal_words(a: str, b: str) -> None:
    assert share_unigrams(a, b) == share_unigrams(b, a)
    assert 0.0 <= share_unigrams(a, b) <= 1.0
    assert share_unigrams(a, a) == 1.0
    assert share_unigrams(a, " ".join(reversed(a.split()))) == 1.0


def test_the_teacher_is_its_own_likeness() -> None:
    assert rows_of(TEACHER, TEACHER) == {
        "lists": 1.0,
        "summary": 1.0,
        "unigrams": 1.0,
        "length": pytest.approx(1.0),
        "tone": 1.0,
    }


def test_rows_count_only_where_the_teacher_does_the_thing() -> None:
    answers = [PROSE, LISTED, PROSE, LISTED]
    rows = {row.row: row for row in measure_style(answers, TEACHER)}
    assert rows["lists"].num_answers == 2
    assert rows["lists"].interval.mean == 0.5
    assert rows["unigrams"].num_answers == 4


def test_length_correlates_as_numpy_says() -> None:
    mine, theirs = [3, 1, 7, 2], [5, 2, 4, 1]
    rows = rows_of(["x " * num for num in mine], ["y " * num for num in theirs])
    assert rows["length"] == pytest.approx(np.corrcoef(mine, theirs)[0, 1])


def test_rows_about_which_nothing_can_be_said_are_left_out() -> None:
    rows = rows_of([PROSE, PROSE], [PROSE, PROSE])
    assert set(rows) == {"unigrams", "tone"}


def test_a_system_that_took_on_the_manner_differs_clearly_from_one_that_did_not() -> None:
    teacher = TEACHER * 8
    changes = {row.row: row.interval for row in compare_style(teacher, ["no"] * 32, teacher)}
    assert set(changes) == set(ROWS) - {"length"}  # "no" is always one word long
    assert all(interval.low > 0 for interval in changes.values())
    same = compare_style(teacher, teacher, teacher)
    assert len(same) == len(ROWS)
    assert all(r.interval.low == r.interval.mean == r.interval.high == 0 for r in same)
