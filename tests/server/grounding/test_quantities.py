"""One value in many spellings, and no two values in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.grounding.quantities import find_quantities


def say_the_same(one: str, other: str) -> bool:
    (a,), (b,) = find_quantities(one), find_quantities(other)
    return a.matches(b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,200 litres", "1200 l"),
        ("2.500 Euro", "€2,500"),
        ("twenty-five days", "25 days"),
        ("two hundred and fifty", "250"),
        ("1.4 million", "1,400,000"),
        ("80 %", "80 per cent"),
        ("EUR 40", "40 euros"),
        ("£75", "75 pounds"),
        ("two weeks", "14 days"),
        ("90 minutes", "1.5 hours"),
        ("18 months", "1.5 years"),
        ("5 pm", "17:00"),
        ("2:30 am", "02:30"),
        ("half past six", "18:30"),
        ("noon", "12:00"),
        ("31 August 2027", "August 31, 2027"),
        ("15. März 2026", "2026-03-15"),
        ("3rd of March", "3 March 2024"),
        ("0.5 km", "500 metres"),
        ("ISO-9001", "iso-9001"),
    ],
)
def test_spellings_of_one_value_match(one: str, other: str) -> None:
    assert say_the_same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7 weeks", "7 days"),
        ("12 euros", "12 dollars"),
        ("5 pm", "05:00"),
        ("3 March 2024", "3 March 2025"),
        ("3 March 2024", "3 March"),
        ("OPS-4", "OPS-7"),
        ("1,200", "1,300"),
        ("fourteen", "forty"),
    ],
)
def test_different_values_do_not_match(one: str, other: str) -> None:
    assert not say_the_same(one, other)


@given(st.integers(0, 999_999), st.integers(0, 999_999))
def test_numbers_match_exactly_where_they_are_equal(a: int, b: int) -> None:
    assert say_the_same(f"{a:,} items", f"{a} items")
    if a != b:
        assert not say_the_same(f"{a} items", f"{b} items")


@given(st.text(max_size=60))
def test_quantities_are_slices_in_order(text: str) -> None:
    position = 0
    for quantity in find_quantities(text):
        assert position <= quantity.start < quantity.end <= len(text)
        position = quantity.end


def test_a_month_that_is_a_word_is_no_date() -> None:
    assert find_quantities("Staff may march in.") == []
