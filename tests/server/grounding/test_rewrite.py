"""Follow-up and many-part questions to searches, as properties of any conversation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.protocols import Message
from server.grounding.conversation import read_conversation
from server.grounding.courtesy import find_courtesy
from server.grounding.rewrite import (
    SearchPart,
    carry,
    find_entities,
    leans_on,
    plan_searches,
    rewrite_searches,
    split_question,
)
from tests.fakes import ScriptedEngine

QUESTIONS = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            "how much leave and by when must who approves the badge ? ; , or it NASA".split()
        ),
        max_size=24,
    ).map(" ".join),
)


def turns(*texts: str) -> list[Message]:
    return [Message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)]


@given(question=QUESTIONS, earlier=st.lists(QUESTIONS, max_size=4))
def test_the_first_search_keeps_the_question_as_it_is(question: str, earlier: list[str]) -> None:
    searches = plan_searches(question, turns(*earlier))
    assert searches[0].text == question
    assert searches[0].context == carry(question, turns(*earlier))


@given(question=QUESTIONS)
def test_the_parts_of_a_question_hold_all_its_words(question: str) -> None:
    parts = " ".join(split_question(question))
    lost = set(re.findall(r"\w+", question.casefold())) - set(re.findall(r"\w+", parts.casefold()))
    assert lost <= {"and", "or", "but", "also", "if", "so"}


@pytest.mark.parametrize("second", ["for how much is it insured", "of what value may a claim be"])
def test_a_second_question_may_begin_with_a_preposition(second: str) -> None:
    question = f"Where is a stolen laptop reported, and {second}?"
    assert split_question(question) == ["Where is a stolen laptop reported", f"{second}?"]


@given(question=QUESTIONS)
def test_nothing_is_carried_into_a_conversation_that_begins(question: str) -> None:
    assert carry(question, []) == ""
    assert carry(question, [Message("system", "Be kind to Ada Lovelace.")]) == ""


def test_a_question_with_two_parts_is_searched_whole_and_in_parts() -> None:
    question = (
        "How much mileage can I claim and by when must I hand the form in? Who approves payouts?"
    )
    searches = plan_searches(question, [])
    assert [part.text for part in searches[1:]] == [
        "How much mileage can I claim",
        "by when must I hand the form in?",
        "Who approves payouts?",
    ]
    assert "mileage" in searches[2].context
    assert "mileage" not in searches[1].context


@pytest.mark.parametrize(
    "question",
    [
        "What are the rules for bed and breakfast stays?",
        "Who pays, and how?",
        "Which forms do research and development need?",
        "",
    ],
)
def test_a_question_with_one_part_is_searched_once(question: str) -> None:
    assert plan_searches(question, []) == (SearchPart(question),)


def test_a_follow_up_takes_the_turn_before_and_the_names_of_its_answer_along() -> None:
    earlier = turns(
        "How much leave do parents get?", "At Ellarby the HR Service Desk grants 22 weeks."
    )
    carried = carry("And who approves it?", earlier)
    assert carried.startswith("How much leave do parents get?")
    assert "HR Service Desk" in carried
    assert "weeks" not in carried


def test_a_follow_up_to_a_follow_up_reaches_the_turn_that_names_the_subject() -> None:
    earlier = turns("How are laptops ordered?", "Through the shop.", "And who pays?", "The team.")
    assert "laptops" in carry("By when?", earlier)


def test_a_question_on_another_subject_takes_nothing_along() -> None:
    earlier = turns("How many weeks of leave do parents get?", "22 weeks.")
    assert carry("Which badge do visitors wear in the lobby?", earlier) == ""
    assert not leans_on("Which badge do visitors wear in the lobby?", "How much leave is there?")


def test_a_short_question_that_shares_a_word_with_the_turn_before_leans_on_it() -> None:
    earlier = turns("Who may carry over leave of a year?", "Everyone.")
    assert "year" in carry("Does sick leave expire early?", earlier)


def test_entities_are_names_abbreviations_and_identifiers() -> None:
    text = "We asked Ada Lovelace at NASA to set app.enabled in the config of team-blue."
    assert find_entities(text) == ["Ada Lovelace", "NASA", "app.enabled", "team-blue"]


@pytest.mark.parametrize(
    "text",
    [
        "thanks!",
        "Thank you so much",
        "Hello",
        "good morning",
        "ok great",
        "Vielen Dank!",
        "¡Hola!",
        "merci beaucoup",
        "grazie mille",
        "bedankt",
        "👍",
        "...",
        "Bye, and thanks for your help",
    ],
)
def test_turns_that_ask_nothing_get_a_reply(text: str) -> None:
    assert find_courtesy(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hello, who approves leave?",
        "thanks, and for contractors?",
        "Is Good Friday a holiday?",
        "What is the morning shift?",
        "OK-17",
        "yes",
        "no",
        "and then?",
        "Danke-Bonus",
        "leave",
    ],
)
def test_turns_that_ask_something_get_none(text: str) -> None:
    assert find_courtesy(text) is None


@given(question=QUESTIONS)
def test_a_courtesy_in_front_does_not_hide_a_question(question: str) -> None:
    if find_courtesy(question) is None:
        assert find_courtesy(f"{question} reimbursement") is None


def test_a_courtesy_is_answered_in_its_language() -> None:
    assert find_courtesy("Vielen Dank!") == "Gern geschehen."
    assert read_conversation(turns("Which badge?", "White.", "thank you")).courtesy == (
        "You're welcome."
    )


async def test_a_model_rewrites_follow_ups_alone_and_keeps_their_words_beside() -> None:
    engine = ScriptedEngine(["Who approves parental leave at Ellarby?"])
    messages = turns("How much leave do parents get?", "22 weeks.", "And who approves it?")
    searches = read_conversation(messages).searches
    rewritten = await rewrite_searches(engine, searches, messages)
    assert rewritten == (
        SearchPart("Who approves parental leave at Ellarby?", "And who approves it?"),
    )
    alone = turns("How much leave do parents get?")
    assert await rewrite_searches(engine, read_conversation(alone).searches, alone) == (
        SearchPart("How much leave do parents get?"),
    )
    assert len(engine.generations) == 1


@pytest.mark.parametrize("said", ["", "...", "word " * 300])
async def test_what_is_no_question_is_not_searched_for(said: str) -> None:
    messages = turns("How much leave do parents get?", "22 weeks.", "And who approves it?")
    searches = read_conversation(messages).searches
    assert await rewrite_searches(ScriptedEngine([said]), searches, messages) == searches
