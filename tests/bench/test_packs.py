"""The questions that refusing and choosing are fitted on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.packs import Asked, write_packs

PACK = "three-otters-campsite"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    folder: Path = tmp_path_factory.mktemp("packs")
    return list(write_packs(folder, lambda name: name == PACK))


def find(asked: list[Asked], question: str) -> list[Asked]:
    return [one for one in asked if one.messages[-1].content == question]


def test_an_answer_is_cut_at_its_citations(asked: list[Asked]) -> None:
    (prices,) = find(asked, "two adults, small tent, one night in May. Prices?")
    assert prices.is_answerable
    assert prices.said[1] == "On top come 8.50 per adult and 4.00 per child from 4 to 15."
    assert prices.cited == (f"{PACK}/0-prices-2026.md",)


def test_a_refusal_that_goes_on_with_the_nearest_passage_is_one(asked: list[Asked]) -> None:
    (bicycles,) = find(asked, "Do you rent out bicycles?")
    assert not bicycles.is_answerable
    assert bicycles.cited == (f"{PACK}/5-boats-and-beach.md",)
    (depth,) = find(asked, "how deep is the lake?")
    assert not depth.is_answerable
    assert not depth.cited


def test_thanks_are_no_question_but_stand_before_the_next(asked: list[Asked]) -> None:
    assert not find(asked, "Cheers.")
    assert all(one.messages[-1].role == "user" for one in asked)
    assert len(asked) == 21
