"""Support: a sentence counts as backed only if nothing in it was changed."""

from __future__ import annotations

import pytest

from server.grounding.attribution import measure_support, strip_marks

SPAN = "The second parent, Ms Okafor says, receives seven weeks of leave at 80 % pay after 2025."


@pytest.mark.parametrize(
    "claim",
    [
        "The second parent, Ms Okafor says, receives seven weeks of leave at 80 % pay after 2025.",
        "the second parent",
        "Seven weeks of leave",
    ],
)
def test_a_verbatim_claim_is_fully_supported(claim: str) -> None:
    assert measure_support(claim, SPAN) == 1.0


@pytest.mark.parametrize(
    "claim",
    [
        "The second parent receives 9 weeks of leave at 80 % pay.",
        "The second parent receives seven weeks of leave at 90 % pay.",
        "The second parent, Ms Nakamura says, receives seven weeks of leave.",
        "The second parent receives no weeks of leave at 80 % pay.",
        "The second parent never receives seven weeks of leave.",
    ],
)
def test_one_altered_fact_takes_the_support_away(claim: str) -> None:
    assert measure_support(claim, SPAN) <= 0.4


def test_a_paraphrase_keeps_most_of_its_support() -> None:
    claim = "Second parents are receiving 7 weeks of leave."
    assert measure_support(claim, SPAN) >= 0.6


def test_an_invented_claim_has_hardly_any() -> None:
    assert measure_support("Dogs may sleep under desks on Fridays.", SPAN) < 0.2


def test_marks_are_not_part_of_a_claim() -> None:
    assert strip_marks("Seven weeks. [1][2, 3]") == "Seven weeks."
