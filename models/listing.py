"""Documents as numbered text, for chat templates that have no use for the variable `documents`.

Each document stays a content of its own through the rendering, so that it is tokenised apart: its
ids depend neither on its number nor on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.marking import MarkedText, Marks
from models.protocols import Message, PromptDocument

_GAP = "\n\n"


@dataclass(frozen=True, slots=True)
class PlacedMessage(Message):
    """A message with the documents in front of its character `documents_at`."""

    documents_at: int = 0


def put_documents_first(messages: Sequence[Message]) -> list[Message]:
    """The messages, the first user message marked as the place of the documents.

    A conversation that has the mark already stays as it is.
    """
    placed = list(messages)
    if any(isinstance(message, PlacedMessage) for message in placed):
        return placed
    for index, message in enumerate(placed):
        if message.role == "user":
            placed[index] = PlacedMessage("user", message.content, 0)
            return placed
    return [*placed, PlacedMessage("user", "", 0)]


def join_turns(role: str, messages: Sequence[Message]) -> Message:
    """One message of all the texts, the place of the documents kept."""
    place: int | None = None
    content = ""
    for index, message in enumerate(messages):
        content += _GAP if index else ""
        if isinstance(message, PlacedMessage):
            place = len(content) + message.documents_at
        content += message.content
    return Message(role, content) if place is None else PlacedMessage(role, content, place)


def mark_content(
    marks: Marks, messages: Sequence[Message], index: int, documents: Sequence[PromptDocument]
) -> MarkedText:
    """The content of a message as marked text, with the documents where it is their place.

    Sources count the messages, and then the documents.
    """
    message = messages[index]
    if not isinstance(message, PlacedMessage) or not documents:
        return marks.mark(message.content, index)
    place = message.documents_at
    before, after = message.content[:place], message.content[place:]
    marked = marks.mark("", index)
    for number, document in enumerate(documents, start=1):
        if number > 1:
            before = _GAP
        # The space belongs to the words behind it, as vocabularies hold them.
        text = f"{document.title}\n{document.text}".strip()
        marked += marks.mark(f"{before}[{number}]", index)
        marked += marks.mark(f" {text}" if text else "", len(messages) + number - 1)
    return marked + marks.mark(f"{_GAP}{after}" if after else "", index)
