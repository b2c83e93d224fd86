from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.imitation.rows import (
    ANSWER,
    FIRST,
    PADDING,
    Example,
    RankedTask,
    Row,
    RowBuilder,
    Variation,
)
from models.imitation.tokenizer import ASSISTANT, PAD, REFUSAL

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTH = 512
PLAIN = Variation(lost_gold_share=0, second_share=0, max_lines=12, min_lines=12)


def builder(tokenizer: Tokenizer, variation: Variation = PLAIN, length: int = LENGTH) -> RowBuilder:
    return RowBuilder(tokenizer, length, random.Random(0), variation)


def spell(row: Row, tokenizer: Tokenizer) -> list[str]:
    """The text that the learned answer targets of each example in a row spell."""
    texts = []
    for example in range(int(row.examples[row.examples != PADDING].max()) + 1):
        learned = (row.examples == example) & np.isin(row.kinds, (ANSWER, FIRST))
        texts.append(tokenizer.decode(row.targets[learned].tolist(), skip_special_tokens=False))
    return texts


def made(builder: RowBuilder, task: RankedTask) -> Example:
    example = builder.example(task)
    assert example is not None
    return example


class TestRowBuilder:
    def test_answer_targets_spell_exactly_the_assistant_turn_and_its_end(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        for task in ranked:
            (row,) = builder(tokenizer).rows([task])
            (spelled,) = spell(row, tokenizer)
            assert spelled.endswith("<|end|>")
            assert spelled.startswith(task.task.pieces[0].text)

    def test_a_citation_names_the_document_that_holds_the_sentence(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        for task in ranked:
            if task.task.is_refusal:
                continue
            example = made(builder(tokenizer), task)
            text = tokenizer.decode(example.tokens, skip_special_tokens=False)
            number = text.rpartition(" [")[2][0]
            shown = text.split("<|document|>")[int(number)]
            assert shown.startswith(f"[{number}]\n")
            assert f"\t{task.task.pieces[0].text}" in shown

    def test_no_example_is_lost_and_none_sees_another(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        rows = list(builder(tokenizer, length=400).rows(ranked * 3))
        spelled = [text for row in rows for text in spell(row, tokenizer)]
        assert len(spelled) == 3 * len(ranked)
        for row in rows:
            used = row.examples != PADDING
            starts = np.flatnonzero(used & (row.positions == 0))
            assert [int(row.examples[start]) for start in starts] == list(range(len(starts)))
            # The last position of an example predicts nothing of the next one.
            ends = [*(starts[1:] - 1), np.flatnonzero(used)[-1]]
            assert not row.kinds[ends].any()

    def test_padding_is_never_learned(self, tokenizer: Tokenizer, ranked: list[RankedTask]) -> None:
        (row,) = builder(tokenizer).rows(ranked[:1])
        padding = row.examples == PADDING
        assert padding.any()
        assert not row.kinds[padding].any()
        assert (row.tokens[padding] == tokenizer.token_to_id(PAD)).all()

    def test_the_first_word_of_an_answer_is_marked_once(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        for row in builder(tokenizer).rows(ranked):
            first = row.kinds == FIRST
            assert first.sum() == len(spell(row, tokenizer))
            assert (row.tokens[first] == tokenizer.token_to_id(ASSISTANT)).all()

    def test_without_its_gold_passage_a_task_becomes_a_refusal_that_does_not_show_it(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        lose = builder(tokenizer, replace(PLAIN, lost_gold_share=1))
        for task in ranked:
            text = tokenizer.decode(made(lose, task).tokens, skip_special_tokens=False)
            if task.task.may_lose_gold:
                assert text.endswith(f"<|assistant|>{REFUSAL}<|end|>")
                assert f"\t{task.task.pieces[0].text}" not in text

    def test_a_second_sentence_is_another_one_with_its_own_citation(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        more = builder(tokenizer, replace(PLAIN, second_share=1))
        task = next(task for task in ranked if task.task.may_lose_gold)
        answer = tokenizer.decode(made(more, task).tokens).rpartition("?")[2]
        assert answer.count(" [") == 2
        assert answer.count(task.task.pieces[0].text) == 1

    def test_block_passages_are_numbered_and_nothing_else_is(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        example = made(builder(tokenizer, replace(PLAIN, block_share=1)), ranked[0])
        numbers = [n for n in example.passages if n]
        assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
        assert example.passages[0] == 0
        assert example.passages[-1] == 0

    def test_equal_seeds_give_equal_rows(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        one, two = (list(builder(tokenizer, Variation()).rows(ranked)) for _ in range(2))
        for first, second in zip(one, two, strict=True):
            assert np.array_equal(first.tokens, second.tokens)

    def test_an_answer_that_cannot_be_shown_makes_no_example(
        self, tokenizer: Tokenizer, ranked: list[RankedTask]
    ) -> None:
        task = next(task for task in ranked if not task.task.is_refusal)
        others = tuple(
            line for line in task.ranked if (line.passage, line.sentence.start) not in task.gold
        )
        hidden = replace(task, ranked=others)
        assert builder(tokenizer).example(hidden) is None
        assert list(builder(tokenizer).rows([hidden])) == []
