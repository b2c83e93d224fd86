"""Rules that need nothing but the text: lengths, words, exact duplicates, near-equal questions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.imitation.conversations import Conversation, Turn
from models.imitation.filtering.rouge import RougePool
from models.imitation.importing.importer import find_word
from models.imitation.importing.report import Drop
from models.imitation.sources import guarded_words

# What a model of text alone cannot do or show: Self-Instruct's list.
UNDOABLE = (
    *("image", "images", "graph", "graphs", "picture", "pictures", "file", "files"),
    *("map", "maps", "draw", "plot", "go to"),
)


class Rule(Protocol):
    """Looks at one conversation after the other."""

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        """Return the conversation, altered perhaps, or why it is dropped.

        `changed` counts what was altered or could not be judged; it is used if the row is kept.
        """
        ...

    def remember(self, conversation: Conversation) -> None:
        """Take note of a conversation that every rule kept."""
        ...


class Stateless:
    """A rule that judges each conversation by itself."""

    def remember(self, conversation: Conversation) -> None:
        return


@dataclass(frozen=True, slots=True)
class Lengths:
    """Bounds in words, both ends allowed; None: no bound."""

    min_question: int | None = None
    max_question: int | None = None
    min_answer: int = 1
    max_answer: int | None = None


class LengthRule(Stateless):
    """Drops by the first question's length and by any answer's; calls of tools are no answers."""

    def __init__(self, lengths: Lengths) -> None:
        self._lengths = lengths

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        lengths = self._lengths
        num_words = len(guarded_words(instruction_of(conversation)))
        if lengths.min_question is not None and num_words < lengths.min_question:
            return Drop("question too short", f"{num_words} words")
        if lengths.max_question is not None and num_words > lengths.max_question:
            return Drop("question too long", f"{num_words} words")
        answers = [turn for turn in conversation.turns if turn.role == "assistant"]
        if not answers:
            return Drop("no answer")
        for turn in answers:
            if turn.extra.get("tool_calls") or turn.extra.get("function_call"):
                continue
            num_words = len(guarded_words(turn.content))
            # An answer may be all figures and signs, as ":-)" is; only nothing is no answer.
            if num_words < lengths.min_answer and (lengths.min_answer > 1 or not turn.content):
                return Drop("answer too short", f"{num_words} words")
            if lengths.max_answer is not None and num_words > lengths.max_answer:
                return Drop("answer too long", f"{num_words} words")
        return conversation


class WordRule(Stateless):
    """Drops conversations in whose turns one of the words stands, as a whole word in any case."""

    def __init__(self, reason: str, words: Sequence[str], roles: Sequence[str]) -> None:
        self._reason, self._words, self._roles = reason, tuple(words), frozenset(roles)

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        text = "\n".join(turn.content for turn in conversation.turns if turn.role in self._roles)
        word = find_word(text, self._words)
        return conversation if word is None else Drop(self._reason, word)


class ExactDuplicateRule:
    """Drops what was kept before, but for case, white space and the id."""

    def __init__(self) -> None:
        self._kept: dict[bytes, str] = {}

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        earlier = self._kept.get(_digest(conversation))
        return conversation if earlier is None else Drop("exact duplicate", f"of {earlier}")

    def remember(self, conversation: Conversation) -> None:
        self._kept[_digest(conversation)] = conversation.id


class RougeRule:
    """Drops a first question whose ROUGE-L with a kept one is above the limit (Self-Instruct)."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._pool = RougePool()
        self._ids: list[str] = []

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        f, number = self._pool.nearest(instruction_of(conversation), self._limit)
        if number is None:
            return conversation
        return Drop("similar question", f"ROUGE-L {f:.3f} with {self._ids[number]}")

    def remember(self, conversation: Conversation) -> None:
        self._pool.add(instruction_of(conversation))
        self._ids.append(conversation.id)


def instruction_of(conversation: Conversation) -> str:
    """Return the first question, empty where there is none."""
    return next((turn.content for turn in conversation.turns if turn.role == "user"), "")


def _digest(conversation: Conversation) -> bytes:
    rows = [_key(turn) for turn in conversation.turns]
    passages = [_plain(f"{p.title}\n{p.text}") for p in conversation.passages]
    return hashlib.sha256(json.dumps([rows, passages], sort_keys=True).encode()).digest()


def _key(turn: Turn) -> list[object]:
    return [turn.role, _plain(turn.content), dict(turn.extra)]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
