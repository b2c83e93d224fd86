from __future__ import annotations

import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.metrics import (
    CitedSentence,
    contains_all,
    contains_answer,
    exact_match,
    normalise_squad,
    score_citations,
    token_f1,
)

# Words that normalisation treats in every way, so that made texts meet each other often.
WORDS = st.sampled_from(
    ["the", "The", "a", "an", "A.", "cat", "Cat,", "cats", "them", "U.S.", "7:40", "--", "naïve",
     "Ωmega", "İ", "and", "an'", "\u00a0", "\t", "1,000", "“quoted”", "a-b", "_"]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=30)


def plain_normalise(text: str) -> str:
    """The four steps of the official definition, one after the other."""
    lowered = text.lower()
    bare = "".join(char for char in lowered if char not in set(string.punctuation))
    without = re.sub(r"\b(a|an|the)\b", " ", bare)
    return " ".join(without.split())


def plain_f1(prediction: str, gold: str) -> float:
    said, wanted = plain_normalise(prediction).split(), plain_normalise(gold).split()
    if not said or not wanted:
        return float(said == wanted)
    left = list(wanted)
    same = 0
    for word in said:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def plain_gold(answers: Sequence[str]) -> list[str]:
    return [answer for answer in answers if plain_normalise(answer)] or [""]


@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_scores_are_those_of_the_official_definition(prediction: str, answers: list[str]) -> None:
    assert normalise_squad(prediction) == plain_normalise(prediction)
    gold = plain_gold(answers)
    expected = float(max(plain_normalise(prediction) == plain_normalise(g) for g in gold))
    assert exact_match(prediction, answers) == expected
    assert token_f1(prediction, answers) == pytest.approx(
        max(plain_f1(prediction, g) for g in gold), abs=1e-12
    )


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_a_gold_answer_itself_scores_in_full(answer: str, others: list[str]) -> None:
    if plain_normalise(answer):
        assert exact_match(answer, [*others, answer]) == 1.0
        assert token_f1(answer, [*others, answer]) == 1.0


@given(TEXTS, st.lists(TEXTS, max_size=4), TEXTS)
def test_scores_keep_their_laws(prediction: str, answers: list[str], another: str) -> None:
    em, f1 = exact_match(prediction, answers), token_f1(prediction, answers)
    assert em in (0.0, 1.0)
    assert em <= f1 <= 1.0, "an exact match shares every word"
    if plain_gold(answers) != [""]:
        assert token_f1(prediction, [*answers, another]) >= f1, "a further variant takes nothing"
    if plain_normalise(prediction) and plain_normalise(another):
        assert token_f1(prediction, [another]) == token_f1(another, [prediction])
        assert exact_match(prediction, [another]) == exact_match(another, [prediction])


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "f1"),
    [
        ("The Eiffel Tower!", ["eiffel tower"], 1.0, 1.0),
        ("in 1889", ["1889"], 0.0, 2 / 3),
        ("a cat sat", ["cat", "the cat sat"], 1.0, 1.0),
        ("cat cat dog", ["cat"], 0.0, 0.5),
        ("Denver Broncos", ["the Carolina Panthers"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("", ["something"], 0.0, 0.0),
        ("something", [], 0.0, 0.0),
        ("the", [], 1.0, 1.0),
    ],
)
def test_known_examples(prediction: str, answers: list[str], em: float, f1: float) -> None:
    assert exact_match(prediction, answers) == em
    assert token_f1(prediction, answers) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("text", "answers", "is_in"),
    [
        ("It opens at 7:40.", ["7.40"], True),
        ("There are 300 of them.", ["30"], False),
        ("Nothing is known.", ["no"], False),
        ("No, it is not.", ["no"], True),
        ("Anything", ["?"], False),
        ("", ["?"], False),
        ("So it was the Donau", ["Danube", "Donau"], True),
    ],
)
def test_an_answer_is_contained_on_token_boundaries(
    text: str, answers: list[str], is_in: bool
) -> None:
    assert contains_answer(text, answers) is is_in


@given(TEXTS, TEXTS, st.sampled_from(["cat", "naïve", "7:40"]))
def test_what_was_written_into_a_text_is_contained_in_it(
    before: str, after: str, answer: str
) -> None:
    assert contains_answer(f"{before} {answer} {after}", [answer])


def test_strict_scoring_wants_one_of_every_group() -> None:
    groups = [["12 months", "annually"], ["HANDLING_INSTRUCTIONS"]]
    assert contains_all("HANDLING_INSTRUCTIONS, annually", ["x"], groups)
    assert not contains_all("annually", ["annually"], groups)
    assert contains_all("annually", ["annually"], [])


# Passage 1 states A and B, passage 2 states B, passage 3 states C and D halves it.
STATED = {1: {"A", "B"}, 2: {"B"}, 3: {"C1"}, 4: {"C2"}}


def supports(sentence: str, numbers: Sequence[int]) -> bool:
    stated = set().union(*(STATED[number] for number in numbers))
    return {"A": {"A"}, "B": {"B"}, "C": {"C1", "C2"}}[sentence] <= stated


@pytest.mark.parametrize(
    ("sentences", "recall", "precision"),
    [
        ([("A", (1,))], 1.0, 1.0),
        ([("A", ())], 0.0, 0.0),
        ([("A", (2,))], 0.0, 0.0),
        ([("A", (9,))], 0.0, 0.0),
        ([("A", (1, 2))], 1.0, 0.5),
        ([("B", (1, 2))], 1.0, 1.0),
        ([("C", (3, 4))], 1.0, 1.0),
        ([("C", (3,))], 0.0, 0.0),
        ([("A", (1, 1))], 1.0, 1.0),
        ([("A", (1,)), ("B", (4,))], 0.5, 0.5),
        ([], 0.0, 0.0),
    ],
)
def test_citations_are_scored_as_alce_defines_it(
    sentences: list[tuple[str, tuple[int, ...]]], recall: float, precision: float
) -> None:
    score = score_citations([CitedSentence(*s) for s in sentences], 4, supports)
    assert (score.recall, score.precision) == (recall, precision)
