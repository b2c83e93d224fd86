"""Sentences, lists and tables to questions: what they ask and what they take as the answer."""

from __future__ import annotations

import pytest

from server.evaluation.authoring.drafts import Draft, Source
from server.evaluation.authoring.english import (
    clean,
    first_clause,
    is_subject,
    lower_first,
    stands_alone,
    third_person,
    to_asker,
)
from server.evaluation.authoring.rules import word_sentence
from server.evaluation.authoring.structures import (
    draft_headings,
    draft_lists,
    draft_tables,
    draft_terms,
)

WORDS = frozenset("reports keys reviews expenses permits security".split())


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "The second parent receives seven weeks of leave at full pay, to be taken soon.",
            "How many weeks of leave at full pay does the second parent receive?",
            "seven weeks",
        ),
        ("A lost badge costs £12.", "How much does a lost badge cost?", "£12"),
        ("The induction takes about three hours.", "How long does the induction take?", "three"),
        ("You can hold at most 24 hours of TOIL, and it lapses.",
         "How many hours of TOIL can I hold at most?", "24 hours"),
        ("The notice period is one month.", "How long is the notice period?", "one month"),
        ("The mileage rate is £0.41 per mile.", "How much is the mileage rate?", "£0.41"),
        ("Security updates are installed within ten days of release.",
         "How soon are security updates installed after release?", "ten days"),
        ("The canteen opens at 11:30.", "When does the canteen open?", "11:30"),
        ("The siren is tested on Mondays.", "When is the siren tested?", "Mondays"),
        ("Reports must be sent by 15 March.", "By when must reports be sent?", "15 March"),
        ("Ada Quist is responsible for the boiler.",
         "Who is responsible for the boiler?", "Ada Quist"),
        ("Tomasz Żeleńczyk, Director of Operations, is responsible for safety.",
         "Who is responsible for safety?", "Tomasz Żeleńczyk"),
        ("The line manager approves claims up to £1,200.",
         "Who approves claims up to £1,200?", "line manager"),
        ("The boiler is checked by Ada Quist.", "Who is the boiler checked by?", "Ada Quist"),
        ("Keys are kept in the gatehouse.", "Where are keys kept?", "the gatehouse"),
        ("An intermittent siren means a gas alarm in Hall 3.",
         "What does an intermittent siren mean?", "a gas alarm in Hall 3"),
        ("If you lose your badge, tell the lobby at once.",
         "What should I do if I lose my badge?", "tell the lobby at once"),
        ("To book a room, write to the front desk.",
         "How do I book a room?", "write to the front desk"),
        ("If a request reaches you by accident, pass it on.",
         "What should be done if a request reaches me by accident?", "pass it on"),
    ],
)  # fmt: skip
def test_a_sentence_is_turned_into_its_question(sentence: str, question: str, answer: str) -> None:
    found = word_sentence(sentence, WORDS)
    assert found, sentence
    assert found[0].question == question
    assert answer in found[0].answers


@pytest.mark.parametrize(
    "sentence",
    [
        "It costs £12.",
        "This is one of the reasons.",
        "Core hours are 10:00 to 15:00.",
        "If so, go.",
        "Hello there.",
        "Die Kantine öffnet um halb zwölf.",
        "In 2009 we merged with another maker.",
        "",
    ],
)
def test_what_reads_badly_is_left_alone(sentence: str) -> None:
    assert word_sentence(sentence, WORDS) == []


def questions_of(drafts: list[Draft]) -> list[tuple[str, tuple[str, ...]]]:
    return [(draft.wording.question, draft.wording.answers) for draft in drafts]


def test_headings_that_ask_are_questions() -> None:
    text = (
        "## Can you have a second screen?\n\nAt work every desk has two of them.\n\n"
        "## How to reset your password\n\nOpen the account page and press Forgotten.\n\n"
        "## Overview\n\nThis page is about screens and other things.\n\n"
        "## 3. Guest network\n\nThe guest network needs no password at all.\n"
    )
    found = questions_of(list(draft_headings(Source("a.md", "A", text), WORDS)))
    assert found == [
        ("Can I have a second screen?", ("At work every desk has two of them",)),
        ("How do I reset my password?", ("Open the account page and press Forgotten",)),
        (
            "What do the documents say about Guest network?",
            ("The guest network needs no password at all",),
        ),
    ]


def test_glossaries_are_definitions() -> None:
    text = (
        "**BOM.** Bill of all materials. A released one has a letter.\n\n"
        "- **Spate**: the state in which everybody is on duty.\n\n"
        "**See.** See the other page.\n"
    )
    assert questions_of(list(draft_terms(Source("a.md", "A", text)))) == [
        ("What does BOM mean?", ("Bill of all materials",)),
        ("What is meant by “Spate”?", ("the state in which everybody is on duty",)),
    ]


def test_a_list_wants_all_its_items() -> None:
    text = "The kit includes:\n\n- a torch;\n- two keys;\n- the **map** (on paper).\n\nKeep it.\n"
    (draft,) = draft_lists(Source("a.md", "A", text), WORDS)
    assert draft.wording.question == "What does the kit include?"
    assert draft.wording.all_of == (("torch",), ("two keys",), ("map",))
    assert draft.evidence in text
    assert draft.evidence.endswith("(on paper).")


def test_cells_are_asked_for_by_column_and_row() -> None:
    text = (
        "| Product | Product lead | Built at | Notes |\n|---|---|---|---|\n"
        "| Heron | Callum Ferriby | Hall 2 | new |\n"
        "| Curlew | Femi Oduya | Hall 2 | old |\n"
    )
    found = list(draft_tables(Source("a.md", "A", text), WORDS))
    assert questions_of(found) == [
        ("Who is the product lead for Heron?", ("Callum Ferriby",)),
        ("Who is the product lead for Curlew?", ("Femi Oduya",)),
        ("And for Curlew?", ("Femi Oduya",)),
    ]
    assert [turn["content"] for turn in found[2].history] == [
        "Who is the product lead for Heron?", "Callum Ferriby",
    ]  # fmt: skip
    assert all(draft.evidence in text for draft in found)


def test_phrases_are_read_as_people_do() -> None:
    assert clean("Ask **Ada** on [the *desk*](x.md) or `x`") == "Ask Ada on the desk or x"
    assert lower_first("The badge", frozenset()) == "the badge"
    assert lower_first("Reports", WORDS) == "reports"
    assert lower_first("Curlew buoys", WORDS) == "Curlew buoys"
    assert lower_first("DMR files", frozenset(["dmr"])) == "DMR files"
    assert to_asker("you are sure that your desk is given to you") == (
        "I am sure that my desk is given to me"
    )
    assert [third_person(v) for v in ("take", "pass", "carry", "pay", "have")] == [
        "takes", "passes", "carries", "pays", "has",
    ]  # fmt: skip
    assert first_clause("one thing, and another", 5) == "one thing"
    assert first_clause("a very long clause that goes on", 5) == ""
    assert is_subject("The second parent")
    assert not any(map(is_subject, ("It", "If you", "The man who came", "This one", "A (b)")))
    assert stands_alone("When does the canteen open?")
    assert not stands_alone("When does it open again?")
