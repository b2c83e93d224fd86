"""A conversation's messages to the question asked, what is searched for, and what it ranks by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import PromptInvalid
from models.protocols import Message
from server.grounding.courtesy import find_courtesy
from server.grounding.rewrite import SearchPart, plan_searches, points_back

_MAX_CARRIED_CHARS = 400


@dataclass(frozen=True, slots=True)
class Conversation:
    """The last user turn and what stands around it.

    `searches` find its passages; `search_query` is the question as sentences are ranked by it.
    `courtesy` is the reply to a turn that asks nothing, else None.
    """

    question: str
    search_query: str
    searches: tuple[SearchPart, ...]
    messages: tuple[Message, ...]
    courtesy: str | None = None


def read_conversation(messages: Sequence[Message]) -> Conversation:
    """The conversation that asks its last user message.

    A question that points back ("and for contractors?") is ranked together with the user turn
    before it, as the bundled model was trained. Raises `PromptInvalid` if there is no user message
    or the last one is empty.
    """
    places = [place for place, message in enumerate(messages) if message.role == "user"]
    if not places or not messages[places[-1]].content.strip():
        raise PromptInvalid(
            "The conversation has no question: the last user message must have text.",
            param="messages",
        )
    question = messages[places[-1]].content.strip()
    earlier = messages[: places[-1]]
    query = question
    if len(places) > 1 and points_back(question):
        query = f"{messages[places[-2]].content.strip()[-_MAX_CARRIED_CHARS:]} {question}"
    return Conversation(
        question=question,
        search_query=query,
        searches=plan_searches(question, earlier),
        messages=tuple(messages),
        courtesy=find_courtesy(question),
    )
