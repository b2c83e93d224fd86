r"""Ranked tasks as rows of fixed length, several examples in each, none seeing another.

One example:

    <|bos|><|document|>[1]\ntitle\n74\tsentence\n31\tsentence<|document|>[2]...
    <|user|>earlier question<|end|><|assistant|>earlier answer<|end|>
    <|user|>question<|end|><|assistant|>sentence [1] sentence [2]<|end|>
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.imitation.tasks import Piece, Task
from models.imitation.tokenizer import ASSISTANT, BOS, DOCUMENT, END, PAD, REFUSAL, USER, control_id
from models.text.excerpts import Excerpt, build_excerpts
from models.text.ranking import RankedSentence

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

# What a position's target is for; the trainer gives each kind its loss weight.
NOTHING, TEXT, ANSWER, FIRST = range(4)
PADDING = 255
# Examples among which one is looked for that fits into what is left of a row.
NUM_WAITING = 32


@dataclass(frozen=True)
class RankedTask:
    """A task with its passages' sentences ranked; `gold` are (passage, start) of those needed."""

    task: Task
    ranked: tuple[RankedSentence, ...]
    gold: frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Variation:
    """How rows differ from one another and from what serving shows."""

    lost_gold_share: float = 0.3  # of tasks that may lose their gold passages
    least_left: int = 3  # lines without which a task keeps its gold passages
    second_share: float = 0.5  # of answers of one sentence that go on with the next best one
    min_lines: int = 3
    max_lines: int = 8
    score_noise: float = 0.04
    block_share: float = 0.0  # of examples whose passages do not see one another


@dataclass
class Row:
    """Arrays `[length]`: uint16 `tokens`, `targets`, `positions`, uint8 the others.

    `examples`: which example of the row, `PADDING` for none; `passages`: which document of a
    block-diagonal example, 0 for none; `kinds`: what the target is for.
    """

    tokens: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    positions: NDArray[np.uint16]
    examples: NDArray[np.uint8]
    passages: NDArray[np.uint8]
    kinds: NDArray[np.uint8]


FIELDS = ("tokens", "targets", "positions", "examples", "passages", "kinds")


@dataclass
class Example:
    """Token ids of one example with the passage number and the kind of each token."""

    tokens: list[int]
    passages: list[int]
    kinds: list[int]


class RowBuilder:
    """Writes examples and packs them into rows."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        length: int,
        rng: random.Random,
        variation: Variation | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._length = length
        self._rng = rng
        self._variation = variation or Variation()
        self._id = {
            name: control_id(tokenizer, name) for name in (BOS, DOCUMENT, USER, ASSISTANT, END, PAD)
        }

    def rows(self, tasks: Iterable[RankedTask]) -> Iterator[Row]:
        """Yield rows; examples longer than a row, or that cannot be shown, are left out."""
        waiting: list[Example] = []
        placed: list[Example] = []
        room = self._length

        def place() -> bool:
            nonlocal room
            for index, example in enumerate(waiting):
                if len(example.tokens) <= room:
                    placed.append(waiting.pop(index))
                    room -= len(placed[-1].tokens)
                    return True
            return False

        for task in tasks:
            example = self.example(task)
            if example is not None and len(example.tokens) <= self._length:
                waiting.append(example)
            while len(waiting) >= NUM_WAITING:
                if not place():
                    yield self._pack(placed)
                    placed, room = [], self._length
        while waiting:
            if not place():
                yield self._pack(placed)
                placed, room = [], self._length
        if placed:
            yield self._pack(placed)

    def example(self, ranked: RankedTask) -> Example | None:
        """Return one example, varied as `Variation` says.

        None where the answer stands on a sentence too long to be shown: a model that is to say what
        it does not see learns to invent.
        """
        excerpts, pieces = self._vary(ranked)
        shown = {excerpt.passage for excerpt in excerpts}
        if any(piece.passage >= 0 and piece.passage not in shown for piece in pieces):
            return None
        told = {(e.passage, s.sentence.start) for e in excerpts for s in e.sentences}
        if any(piece.passage >= 0 for piece in pieces) and not ranked.gold <= told:
            return None
        example = Example([], [], [])
        self._add(example, [self._id[BOS]], 0, NOTHING)
        number = {excerpt.passage: place for place, excerpt in enumerate(excerpts, 1)}
        is_block = self._rng.random() < self._variation.block_share
        for place, excerpt in enumerate(excerpts, 1):
            passage = ranked.task.passages[excerpt.passage]
            ids = self._encode(f"[{place}]\n{passage.title}\n{excerpt.text}")
            self._add(example, [self._id[DOCUMENT], *ids], place if is_block else 0, TEXT)
        for role, text in ranked.task.history:
            self._say(example, USER if role == "user" else ASSISTANT, text)
        self._say(example, USER, ranked.task.question)
        self._add(example, [self._id[ASSISTANT]], 0, NOTHING)
        self._add(example, self._answer(pieces, number), 0, ANSWER)
        return example

    def _vary(self, ranked: RankedTask) -> tuple[list[Excerpt], tuple[Piece, ...]]:
        rng, variation, task = self._rng, self._variation, ranked.task
        lines = list(ranked.ranked)
        pieces, gold = task.pieces, ranked.gold
        lost = task.gold()
        left = [line for line in lines if line.passage not in lost]
        # A handful of lines would itself tell that something was taken away.
        has_enough = len(left) >= variation.least_left
        if task.may_lose_gold and has_enough and rng.random() < variation.lost_gold_share:
            lines = left
            pieces, gold = (Piece(REFUSAL, -1),), frozenset()
        lines.sort(key=lambda line: -line.score - rng.gauss(0, variation.score_noise))
        num_lines = rng.randint(variation.min_lines, variation.max_lines)
        needed = [line for line in lines if (line.passage, line.sentence.start) in gold]
        others = [line for line in lines if (line.passage, line.sentence.start) not in gold]
        kept = {id(line) for line in needed}
        kept |= {id(line) for line in others[: max(1, num_lines - len(needed))]}
        shown = [line for line in lines if id(line) in kept]
        if (
            len(pieces) == 1
            and pieces[0].passage >= 0
            and task.may_lose_gold
            and rng.random() < variation.second_share
        ):
            rest = [line for line in shown if (line.passage, line.sentence.start) not in gold]
            if rest:
                pieces = (*pieces, Piece(rest[0].sentence.text, rest[0].passage))
        return build_excerpts(shown, max_lines=len(shown) or 1), pieces

    def _answer(self, pieces: tuple[Piece, ...], number: dict[int, int]) -> list[int]:
        text = ""
        for piece in pieces:
            joint = "" if not text else ("\n" if piece.text.startswith(("-", "*", "1.")) else " ")
            mark = f" [{number[piece.passage]}]" if piece.passage >= 0 else ""
            text += (joint + piece.text if piece.text else "") + mark
        return [*self._encode(text), self._id[END]]

    def _say(self, example: Example, role: str, text: str) -> None:
        self._add(example, [self._id[role]], 0, NOTHING)
        self._add(example, self._encode(text), 0, TEXT)
        self._add(example, [self._id[END]], 0, NOTHING)

    def _add(self, example: Example, ids: list[int], passage: int, kind: int) -> None:
        example.tokens += ids
        example.passages += [passage] * len(ids)
        example.kinds += [kind] * len(ids)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def _pack(self, examples: list[Example]) -> Row:
        length = self._length
        row = Row(
            tokens=np.full(length, self._id[PAD], np.uint16),
            targets=np.zeros(length, np.uint16),
            positions=np.zeros(length, np.uint16),
            examples=np.full(length, PADDING, np.uint8),
            passages=np.zeros(length, np.uint8),
            kinds=np.zeros(length, np.uint8),
        )
        start = 0
        for index, example in enumerate(examples):
            end = start + len(example.tokens)
            row.tokens[start:end] = example.tokens
            row.positions[start:end] = np.arange(len(example.tokens))
            row.examples[start:end] = index
            row.passages[start:end] = example.passages
            # A position's kind is that of the token it predicts.
            row.targets[start : end - 1] = example.tokens[1:]
            row.kinds[start : end - 1] = example.kinds[1:]
            first = start + example.kinds.index(ANSWER) - 1
            row.kinds[first] = FIRST
            start = end
        return row
