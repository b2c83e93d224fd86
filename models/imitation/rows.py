r"""Examples as fixed-size training rows: a forest of passages, questions and candidate answers.

A row holds trees. The trunk of a tree is its passages; each question is a branch; each candidate
sentence is a leaf, which sees its trunk and its question but no other candidate. So a passage is
computed once for all its questions, and a question once for all candidates, right and wrong:

    <|bos|><|document|>[1]\ntitle\ntext ... <|user|>question<|end|><|assistant|>
                                                  ├─ gold sentence [1]<|end|>
                                                  ├─ other sentence<|no|><|end|>
                                                  └─ I could not find this ...<|no|><|end|>
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.imitation.examples import Example, Question
from models.imitation.questions import STOP_WORDS
from models.imitation.sources import split_sentences, words
from models.imitation.tokenizer import (
    ASSISTANT,
    BOS,
    DOCUMENT,
    END,
    NO,
    PAD,
    REFUSAL,
    USER,
    control_id,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# What a position's target is for; the trainer gives each kind its loss weight.
NOTHING, TEXT, QUESTION, ANSWER, VERDICT = range(5)
MAX_SEGMENTS = 96
NO_PARENT = 255
# A question with its candidates seldom takes more.
ROOM_FOR_QUESTION = 120
# Examples among which one is looked for that fits into what is left of a row.
NUM_WAITING = 24
FOLLOW_UP_SHARE = 0.3


class RowFull(Exception):
    """The tree does not fit into what is left of the row."""


@dataclass
class Row:
    """Fixed-size arrays of one row; `length` positions and `MAX_SEGMENTS` segments.

    `tokens`, `targets`, `positions` uint16; `segments`, `kinds`, `questions` uint8 (`questions`
    numbers the questions from 1, so that the verdicts on one question can be compared);
    `parents` uint8, `NO_PARENT` where a segment is a trunk or unused.
    """

    tokens: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    positions: NDArray[np.uint16]
    segments: NDArray[np.uint8]
    kinds: NDArray[np.uint8]
    questions: NDArray[np.uint8]
    parents: NDArray[np.uint8]


class RowBuilder:
    """Packs example trees into one row after the other."""

    def __init__(self, tokenizer: Tokenizer, length: int, rng: random.Random) -> None:
        self._tokenizer = tokenizer
        self._length = length
        self._rng = rng
        self._id = {
            name: control_id(tokenizer, name)
            for name in (BOS, DOCUMENT, USER, ASSISTANT, END, NO, PAD)
        }
        self._refusal = self._encode(REFUSAL)
        self._start()

    def rows(self, examples: Iterable[Example], num_negatives: int) -> Iterator[Row]:
        """Yield full rows; an example's questions that do not fit are left out."""
        waiting: list[tuple[Example, list[int]]] = []
        for example in examples:
            trunk = self._trunk(example)
            if len(trunk) + ROOM_FOR_QUESTION <= self._length:
                waiting.append((example, trunk))
            while len(waiting) >= NUM_WAITING:
                yield from self._place(waiting, num_negatives)
        while waiting:
            yield from self._place(waiting, num_negatives)
        if self._used:
            yield self._finish()

    def _place(self, waiting: list[tuple[Example, list[int]]], num_negatives: int) -> Iterator[Row]:
        """Add the first example that fits and take it off the list; else yield the row."""
        for index, (example, trunk) in enumerate(waiting):
            if self._fits(trunk):
                self._add(example, trunk, num_negatives)
                del waiting[index]
                return
        yield self._finish()

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _start(self) -> None:
        length = self._length
        self._row = Row(
            tokens=np.full(length, self._id[PAD], np.uint16),
            targets=np.zeros(length, np.uint16),
            positions=np.zeros(length, np.uint16),
            # Padding is a segment of its own without a parent, so nothing real attends to it.
            segments=np.full(length, MAX_SEGMENTS - 1, np.uint8),
            kinds=np.zeros(length, np.uint8),
            questions=np.zeros(length, np.uint8),
            parents=np.full(MAX_SEGMENTS, NO_PARENT, np.uint8),
        )
        self._used = 0
        self._num_segments = 0
        self._num_questions = 0

    def _finish(self) -> Row:
        row = self._row
        self._start()
        return row

    def _trunk(self, example: Example) -> list[int]:
        ids = [self._id[BOS]]
        for number, passage in enumerate(example.passages, 1):
            ids.append(self._id[DOCUMENT])
            ids.extend(self._encode(f"[{number}]\n{passage.title}\n{passage.text}"))
        return ids

    def _fits(self, trunk: list[int]) -> bool:
        return len(trunk) + ROOM_FOR_QUESTION <= self._length - self._used and (
            self._num_segments + 8 < MAX_SEGMENTS
        )

    def _segment(
        self, ids: list[int], parent: int, position: int, kinds: int, question: int
    ) -> int:
        """Write a segment whose every token predicts the next one; return its index."""
        start, end = self._used, self._used + len(ids)
        if end > self._length or self._num_segments >= MAX_SEGMENTS - 1:
            raise RowFull
        row, segment = self._row, self._num_segments
        row.tokens[start:end] = ids
        row.targets[start : end - 1] = ids[1:]
        row.kinds[start : end - 1] = kinds
        row.positions[start:end] = np.arange(position, position + len(ids))
        row.segments[start:end] = segment
        row.questions[start:end] = question
        row.parents[segment] = parent
        self._used, self._num_segments = end, segment + 1
        return segment

    def _aim(self, position: int, target: int, kind: int) -> None:
        self._row.targets[position] = target
        self._row.kinds[position] = kind

    def _add(self, example: Example, trunk_ids: list[int], num_negatives: int) -> None:
        trunk = self._segment(trunk_ids, NO_PARENT, 0, TEXT, 0)
        sentences = [
            (number, sentence)
            for number, passage in enumerate(example.passages, 1)
            for sentence in split_sentences(passage.text)
        ]
        parent, position = trunk, len(trunk_ids)
        for question in example.questions:
            mark = (self._used, self._num_segments)
            try:
                leaf, end = self._add_question(question, sentences, parent, position, num_negatives)
            except RowFull:
                self._rewind(*mark)
                continue
            # Some questions follow the answer to the one before, the others stand alone.
            parent, position = trunk, len(trunk_ids)
            if self._rng.random() < FOLLOW_UP_SHARE:
                parent, position = leaf, end

    def _rewind(self, used: int, num_segments: int) -> None:
        row = self._row
        row.tokens[used:] = self._id[PAD]
        row.segments[used:] = MAX_SEGMENTS - 1
        for array in (row.targets, row.kinds, row.positions, row.questions):
            array[used:] = 0
        row.parents[num_segments:] = NO_PARENT
        self._used, self._num_segments = used, num_segments

    def _add_question(
        self,
        question: Question,
        sentences: list[tuple[int, str]],
        parent: int,
        position: int,
        num_negatives: int,
    ) -> tuple[int, int]:
        """Write a question and its candidates; return the right one's segment and its end."""
        self._num_questions += 1
        number = self._num_questions
        ids = [self._id[USER], *self._encode(question.text), self._id[END], self._id[ASSISTANT]]
        branch = self._segment(ids, parent, position, QUESTION, number)
        header = self._used - 1
        self._row.kinds[header - 2 : header] = NOTHING  # scaffold is given, not predicted
        position += len(ids)
        if question.gold:
            gold_ids = self._gold(question)
            self._aim(header, gold_ids[0][0], ANSWER)
            leaf, end = self._answer(gold_ids, branch, position, number)
            self._refuse(branch, position, right=False)
        else:
            self._aim(header, self._refusal[0], ANSWER)
            leaf, end = self._refuse(branch, position, right=True)
        for _, sentence in self._negatives(question, sentences, num_negatives):
            self._reject(self._encode(sentence), branch, position, number)
        return leaf, end

    def _gold(self, question: Question) -> list[list[int]]:
        """Return the gold answer as sentence, mark, sentence, mark, ... in ids."""
        mark = self._encode(f" [{question.passage + 1}]")
        parts = []
        for index, sentence in enumerate(question.gold):
            parts += [self._encode(sentence if index == 0 else " " + sentence), mark]
        return parts

    def _answer(
        self, parts: list[list[int]], branch: int, position: int, number: int
    ) -> tuple[int, int]:
        ids = [token for part in parts for token in part] + [self._id[END]]
        start = self._used
        leaf = self._segment(ids, branch, position, ANSWER, number)
        end = start
        for part, mark in zip(parts[::2], parts[1::2], strict=True):
            end += len(part)
            self._row.kinds[end - 1] = VERDICT
            end += len(mark)
        return leaf, position + len(ids)

    def _refuse(self, branch: int, position: int, *, right: bool) -> tuple[int, int]:
        """Write the refusal as one more candidate; only the right one is learned as text.

        Its verdict has question number 0: whether to refuse is not compared with sentences.
        """
        ids = [*self._refusal, self._id[END] if right else self._id[NO]]
        leaf = self._segment(ids, branch, position, ANSWER if right else NOTHING, 0)
        self._aim(self._used - 2, ids[-1], VERDICT)
        if not right:
            self._aim(self._used - 1, self._id[END], ANSWER)
        return leaf, position + len(ids)

    def _reject(self, ids: list[int], branch: int, position: int, number: int) -> None:
        self._segment([*ids, self._id[NO]], branch, position, NOTHING, number)
        self._aim(self._used - 2, self._id[NO], VERDICT)
        self._aim(self._used - 1, self._id[END], ANSWER)

    def _negatives(
        self, question: Question, sentences: list[tuple[int, str]], num_negatives: int
    ) -> list[tuple[int, str]]:
        """Return sentences that do not answer: half the most alike in words, half at random."""
        gold = set(question.gold)
        asked = set(words(question.text)) - STOP_WORDS
        others = [
            item
            for item in sentences
            if item[1] not in gold
            and 15 < len(item[1]) < 400
            and not any(item[1] in sentence or sentence in item[1] for sentence in gold)
        ]
        self._rng.shuffle(others)
        hard = sorted(others, key=lambda item: -len(asked & set(words(item[1]))))
        chosen = hard[: (num_negatives + 1) // 2]
        rest = [item for item in others if item not in chosen]
        return chosen + rest[: num_negatives - len(chosen)]


def ancestors(parents: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return `[..., segments, segments]`: row `i` is true at `i` and at what stands above it.

    `parents` is uint8 `[..., segments]`; a parent's index is below its children's.
    """
    shape = parents.shape
    flat = parents.reshape(-1, shape[-1])
    found = np.zeros((flat.shape[0], shape[-1], shape[-1]), bool)
    rows = np.arange(flat.shape[0])
    for segment in range(shape[-1]):
        found[:, segment, segment] = True
        has_parent = flat[:, segment] != NO_PARENT
        above = found[rows, np.where(has_parent, flat[:, segment], 0)]
        found[:, segment] |= above & has_parent[:, None]
    return found.reshape(*shape, shape[-1])
