"""Grounded tasks: passages, a conversation up to its question, and the answer with its passages."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.imitation.conversations import Conversation
from models.imitation.examples import LEFT_OUT, Example, gold_sentences
from models.imitation.packs import CITATION
from models.imitation.sources import Decontaminator, Passage, words
from models.imitation.tokenizer import REFUSAL
from models.text.ranking import find_quotable
from models.text.words import find_topic_words

_CITED = re.compile(r"\s*\[p\d+\]")
_POINTING = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|he|him|his|she|her|there|then|one|ones"
    r"|same|so|else|instead)\b|^\s*(?:and|but|or|also|what about|how about|why)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an answer and the index of the passage that backs it, -1 for none."""

    text: str
    passage: int


@dataclass(frozen=True, slots=True)
class Task:
    """What the model sees and what it should say.

    `history` are (role, text) turns before `question`. `may_lose_gold`: without the passages of
    `pieces` the right answer is the refusal, so one task gives answerable and unanswerable rows.
    """

    source: str
    group: str
    passages: tuple[Passage, ...]
    history: tuple[tuple[str, str], ...]
    question: str
    pieces: tuple[Piece, ...]
    may_lose_gold: bool

    @property
    def is_refusal(self) -> bool:
        return self.pieces[0].text.startswith(REFUSAL)

    @property
    def query(self) -> str:
        """What is searched for: a question that points back takes the question before it along."""
        asked = [text for role, text in self.history if role == "user"]
        points_back = (
            len(set(find_topic_words(self.question))) < 3
            or _POINTING.search(self.question) is not None
        )
        return f"{asked[-1][-400:]} {self.question}" if asked and points_back else self.question

    def gold(self) -> frozenset[int]:
        """Indices of the passages that the answer stands on."""
        return frozenset(piece.passage for piece in self.pieces if piece.passage >= 0)


def example_tasks(examples: Iterable[Example]) -> Iterator[Task]:
    """Yield one task for each question of `examples`; the answer repeats the gold sentences."""
    for example in examples:
        for question in example.questions:
            pieces = tuple(Piece(sentence, question.passage) for sentence in question.gold)
            yield Task(
                example.source,
                example.group,
                example.passages,
                (),
                question.text,
                pieces or (Piece(REFUSAL, -1),),
                may_lose_gold=bool(pieces) and len(example.passages) > 1,
            )


def dialogue_tasks(rows: Iterable[dict[str, Any]], guard: Decontaminator) -> Iterator[Task]:
    """Yield tasks of qa rows that have a history and an answer sentence in their first passage."""
    for row in rows:
        if not row.get("history") or not row["answerable"] or len(row["gold"]) != 1:
            continue
        if row["source"].startswith(LEFT_OUT):
            continue
        passages = [Passage(item["title"], item["text"].strip()) for item in row["passages"]]
        index = row["gold"][0]
        gold = gold_sentences(passages[index].text, row.get("answer_sentence") or "\0")
        texts = [row["question"], *(turn["content"] for turn in row["history"])]
        if not gold or any(guard.hits(text) for text in (*texts, *(p.text for p in passages))):
            continue
        history = tuple((turn["role"], turn["content"][:300]) for turn in row["history"][-4:])
        yield Task(
            row["source"],
            f"{row['source']}/{passages[0].title}",
            tuple(passages),
            history,
            row["question"],
            tuple(Piece(sentence, index) for sentence in gold),
            may_lose_gold=len(passages) > 1,
        )


def conversation_tasks(conversation: Conversation) -> Iterator[Task]:
    """Yield one task for each answer of a grounded conversation; citations are `[passage id]`."""
    passages = tuple(Passage(p.title, p.text) for p in conversation.passages)
    number = {p.id: index for index, p in enumerate(conversation.passages)}
    history: list[tuple[str, str]] = []
    for turn in conversation.turns:
        if turn.role == "assistant" and history:
            yield Task(
                str(conversation.provenance.get("source", "")),
                conversation.id.rsplit("-c", 1)[0],
                passages,
                tuple(history[:-1]),
                history[-1][1],
                tuple(cut_answer(turn.content, number)),
                may_lose_gold=False,
            )
        said = _CITED.sub("", turn.content) if turn.role == "assistant" else turn.content
        history.append((turn.role, said))


def cut_answer(answer: str, number: dict[str, int]) -> Iterator[Piece]:
    """Yield the pieces of an answer between its citation marks."""
    start = 0
    for mark in CITATION.finditer(answer):
        yield Piece(answer[start : mark.start()].strip(), number[mark[1]])
        start = mark.end()
    if answer[start:].strip():
        yield Piece(answer[start:].strip(), -1)


def locate_lines(task: Task) -> frozenset[tuple[int, int]]:
    """Return (passage, start) of the sentences that the answer stands on.

    A piece that is not verbatim stands on the sentence that shares most of its words, and on every
    other one whose words it holds for the larger part (lists, summaries).
    """
    found: set[tuple[int, int]] = set()
    for piece in task.pieces:
        if piece.passage < 0:
            continue
        said = set(words(piece.text))
        shares = []
        for sentence, _ in find_quotable(task.passages[piece.passage].text, ""):
            own = set(words(sentence.text))
            both = len(said & own)
            shares.append((both / max(1, len(own)), both, sentence.start))
        if not shares:
            continue
        found.add((piece.passage, max(shares, key=lambda share: (share[1], share[0]))[2]))
        found.update(
            (piece.passage, start) for share, both, start in shares if share > 0.6 and both > 2
        )
    return frozenset(found)


def with_passages(task: Task, others: Sequence[Passage], rng: random.Random, most: int) -> Task:
    """Return `task` with at most `most` passages: its gold, then near ones, then of `others`."""
    gold = task.gold()
    near = [index for index in range(len(task.passages)) if index not in gold]
    rng.shuffle(near)
    chosen = [*sorted(gold), *near][: max(most, len(gold))]
    rng.shuffle(chosen)
    place = {old: new for new, old in enumerate(chosen)}
    passages = [task.passages[index] for index in chosen]
    passages += [passage for passage in others if passage not in passages]
    pieces = tuple(
        Piece(piece.text, place[piece.passage] if piece.passage >= 0 else -1)
        for piece in task.pieces
    )
    return replace(task, passages=tuple(passages[: max(most, len(gold))]), pieces=pieces)
