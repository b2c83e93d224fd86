"""Choosing: retrieval and the model's view on one scale, further parts of a question included."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from index.types import Document, Hit, Passage
from models.text.sentences import Sentence
from server.grounding.candidates import Candidate
from server.grounding.choice import READ_RULES, ChoiceRules, choose

DOCUMENT = Document("doc_1", "hr", "a.md", "text/markdown", "", 0, 1, 0, None, (), {})
RULES = ChoiceRules(model_weight=0.05)


def make_candidate(text: str, score: float, *, meaning: float = 0.5) -> Candidate:
    passage = Passage(1, "doc_1", 0, 0, len(text), (), None, 10, text)
    hit = Hit(passage, DOCUMENT, 1.0, 1, 0.5, 1)
    sentence = Sentence(0, len(text), "prose", text)
    return Candidate(hit, sentence, 0, len(text), "", score, meaning)


def test_without_a_view_the_best_by_retrieval_comes_first() -> None:
    candidates = [make_candidate("Badges are white.", 0.4), make_candidate("Keys are old.", 0.6)]
    chosen = choose("What colour are badges?", candidates, [0.0, 0.0], RULES)
    assert chosen[0].candidate.text == "Keys are old."


def test_the_models_view_decides_between_near_equals_only() -> None:
    near = [make_candidate("One thing.", 0.50), make_candidate("Another thing.", 0.49)]
    assert choose("Which?", near, [-1.0, 1.0], RULES)[0].candidate is near[1]
    far = [make_candidate("One thing.", 0.90), make_candidate("Another thing.", 0.30)]
    assert choose("Which?", far, [-1.0, 1.0], RULES)[0].candidate is far[0]


def test_a_sentence_on_the_rest_of_the_question_is_chosen_too() -> None:
    question = "What does a badge cost and when does the canteen open?"
    candidates = [
        make_candidate("A badge does cost 12 euros.", 0.60),
        make_candidate("A badge does cost nothing to staff.", 0.50),
        make_candidate("The canteen will open at nine.", 0.49),
    ]
    rules = replace(RULES, max_sentences=2)
    chosen = choose(question, candidates, [0.0] * 3, rules)
    assert [choice.candidate for choice in chosen] == [candidates[0], candidates[2]]


def test_a_question_known_to_have_two_parts_has_both_answered() -> None:
    question = "What does a badge cost and when does the canteen open?"
    candidates = [
        make_candidate("A badge does cost 12 euros.", 0.60),
        make_candidate("The canteen will open at nine.", 0.42),
    ]
    one, both = (
        choose(question, candidates, [0.0] * 2, READ_RULES.for_parts(number)) for number in (1, 2)
    )
    assert [choice.candidate for choice in one] == candidates[:1]
    assert [choice.candidate for choice in both] == candidates


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-30, 0)), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_at_most_so_many_each_once_and_the_best_always(
    drawn: list[tuple[float, float]], max_sentences: int
) -> None:
    candidates = [make_candidate(f"Text {i}.", score) for i, (score, _) in enumerate(drawn)]
    rules = replace(RULES, max_sentences=max_sentences)
    chosen = choose("Which text?", candidates, [view for _, view in drawn], rules)
    assert 1 <= len(chosen) <= max_sentences
    assert len({id(choice.candidate) for choice in chosen}) == len(chosen)
    assert chosen[0].score == max(choice.score for choice in chosen)
