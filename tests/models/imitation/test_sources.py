from __future__ import annotations

import json
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from models.imitation.examples import Question, locate
from models.imitation.questions import ask, ask_number
from models.imitation.sources import (
    Decontaminator,
    Passage,
    Section,
    passages_of,
    sections_of,
    split_sentences,
)

RUN = "one two three four five six seven eight nine ten eleven twelve"


class TestDecontaminator:
    def test_a_run_of_twelve_words_is_found_and_eleven_are_not(self, tmp_path: Path) -> None:
        path = tmp_path / "held.jsonl"
        path.write_text(json.dumps({"question": "Who?", "evidence": [{"quote": RUN}]}))
        guard = Decontaminator([path])
        assert guard.hits(f"So: {RUN.upper()}!")
        assert not guard.hits(RUN.removesuffix(" twelve"))
        assert guard.hits_question("who")
        assert not guard.hits_question("why")


class TestSplitSentences:
    @given(st.text(alphabet="aB1.!?\"') \n-", max_size=80))
    def test_sentences_cover_every_visible_character_in_order(self, text: str) -> None:
        position = 0
        for sentence in split_sentences(text):
            start = text.index(sentence, position)
            assert not text[position:start].strip()
            position = start + len(sentence)
        assert not text[position:].strip()


class TestSections:
    def test_sections_carry_their_heading_path_and_no_code(self) -> None:
        text = "# Guide\nIntro.\n## Leave\nSixteen weeks.\n```\n# not a heading\n```\n# Next\nEnd."
        assert sections_of(text, "t") == [
            Section(("Guide",), "Intro."),
            Section(("Guide", "Leave"), "Sixteen weeks."),
            Section(("Next",), "End."),
        ]

    def test_passages_are_whole_sentences_of_the_section(self) -> None:
        text = " ".join(f"Sentence number {i} has a few words." for i in range(40))
        passages = passages_of(Section(("H",), text), "f.md", 200)
        assert len(passages) > 3
        assert " ".join(passage.text for passage in passages) == text
        assert all(len(passage.text) <= 200 for passage in passages)
        assert {passage.title for passage in passages} == {"f.md > H"}


class TestQuestions:
    def test_asking_for_a_number_does_not_give_it_away(self) -> None:
        for seed in range(50):
            question = ask_number("Each parent receives 16 weeks of leave.", random.Random(seed))
            assert question
            assert "16" not in question

    def test_a_question_is_a_function_of_its_seed(self) -> None:
        sentence = "Employees must submit the form within 30 days because payroll closes early."
        for seed in range(30):
            assert ask(sentence, "Forms", random.Random(seed)) == ask(
                sentence, "Forms", random.Random(seed)
            )


class TestLocate:
    def test_a_copy_of_the_gold_sentence_elsewhere_counts_as_gold(self) -> None:
        question = Question("When?", ("Doors close at nine.",), 0)
        other = Passage("b", "Read this. Doors close at nine. Thank you.")
        assert locate(question, "gone", [other]).passage == 0
        assert locate(question, "gone", [Passage("c", "Nothing.")]).gold == ()


class TestSentences:
    def test_sentences_are_verbatim_in_order_and_leave_only_white_space(self) -> None:
        text = 'It costs 5.50 euros, e.g. at noon. "Why?" she said.\n- one item'
        text += "\n\nDr. Who left. 3 did."
        found = split_sentences(text)
        assert found == [
            "It costs 5.50 euros, e.g. at noon.", '"Why?" she said.', "- one item",
            "Dr. Who left.", "3 did.",
        ]  # fmt: skip
        position = 0
        for sentence in found:
            start = text.index(sentence, position)
            assert not text[position:start].strip()
            position = start + len(sentence)
