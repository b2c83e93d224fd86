"""A conversation's messages to the question asked, its search query and what the prompt keeps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import PromptInvalid
from models.protocols import Message
from models.text.words import find_topic_words

# Words that point back at an earlier turn.
_POINTING = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|he|him|his|she|her|hers|there|then|"
    r"one|ones|same|so|mine|else|instead|former|latter)\b"
    r"|^\s*(?:and|but|or|also|what about|how about|why|really)\b",
    re.IGNORECASE,
)
_MIN_TOPIC_WORDS = 3
_MAX_CARRIED_CHARS = 400


@dataclass(frozen=True, slots=True)
class Conversation:
    """The last user turn and what stands around it."""

    question: str
    search_query: str
    messages: tuple[Message, ...]


def read_conversation(messages: Sequence[Message]) -> Conversation:
    """The conversation that asks its last user message.

    A question that points back ("and for contractors?") is searched together with the user turn
    before it. Raises `PromptInvalid` if there is no user message or the last one is empty.
    """
    asked = [message.content for message in messages if message.role == "user"]
    if not asked or not asked[-1].strip():
        raise PromptInvalid(
            "The conversation has no question: the last user message must have text.",
            param="messages",
        )
    question = asked[-1].strip()
    query = question
    if len(asked) > 1 and points_back(question):
        query = f"{asked[-2].strip()[-_MAX_CARRIED_CHARS:]} {question}"
    return Conversation(question, query, tuple(messages))


def points_back(question: str) -> bool:
    """Whether a question needs the turn before it to be understood."""
    return (
        len(set(find_topic_words(question))) < _MIN_TOPIC_WORDS
        or _POINTING.search(question) is not None
    )
