from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.imitation.examples import Example, Question, locate, merge
from models.imitation.rows import (
    ANSWER,
    NO_PARENT,
    NOTHING,
    QUESTION,
    VERDICT,
    Row,
    RowBuilder,
    ancestors,
)
from models.imitation.sources import Passage, split_sentences
from models.imitation.tokenizer import ASSISTANT, END, NO, PAD, REFUSAL

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH = 1024


def build(tokenizer: Tokenizer, examples: list[Example], length: int = LENGTH) -> list[Row]:
    return list(RowBuilder(tokenizer, length, random.Random(0)).rows(examples, 2))


def learned(row: Row, tokenizer: Tokenizer) -> list[str]:
    """Return the text that the answer and verdict targets of each segment spell."""
    texts: dict[int, list[int]] = {}
    header = None
    for index in range(len(row.tokens)):
        if row.kinds[index] not in (ANSWER, VERDICT):
            continue
        if row.tokens[index] == tokenizer.token_to_id(ASSISTANT):
            header = int(row.targets[index])  # the first token of the leaf that comes next
            continue
        segment = int(row.segments[index])
        if segment not in texts:
            texts[segment] = []
            if header is not None and int(row.tokens[index]) == header:
                texts[segment].append(header)
                header = None
        texts[segment].append(int(row.targets[index]))
    return [tokenizer.decode(ids, skip_special_tokens=False) for ids in texts.values()]


class TestRowBuilder:
    def test_answer_targets_decode_to_the_assistant_turns(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        for example in examples:
            (row,) = build(tokenizer, [example])
            spelled = learned(row, tokenizer)
            for question in example.questions:
                turn = (
                    f"{question.gold[0]} [{question.passage + 1}]{END}"
                    if question.gold
                    else f"{REFUSAL}{END}"
                )
                assert turn in spelled
            # Whatever else is learned is a verdict against a candidate.
            turns = [text for text in spelled if text != f"{NO}{END}" and text != NO]
            assert len(turns) == len(example.questions)

    def test_passages_and_wrong_candidates_are_not_learned_as_answers(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        no, end = tokenizer.token_to_id(NO), tokenizer.token_to_id(END)
        for row in build(tokenizer, examples):
            trunk = row.segments == 0
            assert not np.isin(row.kinds[trunk], (ANSWER, VERDICT, QUESTION)).any()
            for segment in np.unique(row.segments):
                where = np.flatnonzero(row.segments == segment)
                if no in row.tokens[where]:
                    assert (row.kinds[where[:-2]] == NOTHING).all()
                    assert row.targets[where[-2:]].tolist() == [no, end]

    def test_questions_without_an_answer_accept_no_sentence(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        for example in examples:
            only = replace(example, questions=(Question("Capital of France?", (), -1),))
            (row,) = build(tokenizer, [only])
            accepted = [
                text for text in learned(row, tokenizer) if NO not in text and REFUSAL not in text
            ]
            assert accepted == []

    def test_a_row_is_a_function_of_its_seed(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        for one, two in zip(build(tokenizer, examples), build(tokenizer, examples), strict=True):
            assert (one.tokens == two.tokens).all()
            assert (one.targets == two.targets).all()

    def test_every_example_that_fits_is_packed_once(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        rows = build(tokenizer, examples * 9, length=700)
        trunks = sum(
            int(
                (
                    row.parents[: row.segments[row.tokens != tokenizer.token_to_id(PAD)].max() + 1]
                    == NO_PARENT
                ).sum()
            )
            for row in rows
        )
        assert trunks == len(examples) * 9

    def test_targets_follow_tokens_inside_a_segment(
        self, tokenizer: Tokenizer, examples: list[Example]
    ) -> None:
        for row in build(tokenizer, examples):
            inside = (row.segments[:-1] == row.segments[1:]) & (row.kinds[:-1] > 0)
            assert (row.targets[:-1][inside] == row.tokens[1:][inside]).all()


class TestAncestors:
    def test_a_leaf_sees_its_branch_and_trunk_but_no_sibling(self) -> None:
        parents = np.array([NO_PARENT, 0, 1, 1, 0, 4, NO_PARENT], np.uint8)
        seen = ancestors(parents)
        assert [np.flatnonzero(row).tolist() for row in seen] == [
            [0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 4], [0, 4, 5], [6],
        ]  # fmt: skip


def ask(number: int) -> Question:
    return Question(f"Rule {number}?", (f"Rule {number} holds on floor {number}.",), 0)


class TestExamples:
    def test_a_question_whose_passage_is_gone_holds_no_gold_sentence(self) -> None:
        passages = [
            Passage(f"t{i}", f"Rule {i} holds on floor {i}. It was made in 19{i}0.")
            for i in range(5)
        ]
        found = [
            Example(
                "s",
                "g",
                (passages[i], *passages),
                (ask(i),),
            )
            for i in range(5)
        ]
        num_unanswerable = 0
        for seed in range(30):
            for example in merge(found, random.Random(seed), 3):
                text = "\n".join(passage.text for passage in example.passages)
                for question in example.questions:
                    if question.gold:
                        assert question.gold[0] in example.passages[question.passage].text
                    else:
                        num_unanswerable += 1
                        assert f"{question.text.rstrip('?')} holds" not in text
        assert num_unanswerable > 0

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
