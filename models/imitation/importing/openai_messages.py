"""OpenAI's fine-tuning format, `{"messages": [...]}`, in and out without a loss.

What a turn has no place for is kept beside it: unknown keys (names, tool calls, weights) in
`Turn.extra`, and content that is not one text (null, a list of parts, missing) under `AS_GIVEN`
there, while `Turn.content` holds the text in it. The row's other keys stand in the provenance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.imitation.conversations import ROLES, Conversation, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.report import Drop

AS_GIVEN = "as_given"


def read_turns(row: Mapping[str, Any]) -> tuple[Turn, ...] | Drop:
    """Return the turns of a row, all of them. Raises `TrainingDataInvalid` for another format."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise TrainingDataInvalid("no list `messages`")
    turns = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise TrainingDataInvalid("a message without the text `role`")
        if message["role"] not in ROLES and message["role"] != "function":
            return Drop("unknown role", message["role"])
        turns.append(_read_turn(message))
    if not any(turn.role == "assistant" for turn in turns):
        return Drop("no answer")
    return tuple(turns)


def to_row(conversation: Conversation) -> dict[str, Any]:
    """Return the conversation in OpenAI's format; passages have no place there."""
    row = {"messages": [_to_message(turn) for turn in conversation.turns]}
    if conversation.provenance.get("format") == "openai":
        row.update(conversation.provenance.get("row", {}))
    return row


def _read_turn(message: Mapping[str, Any]) -> Turn:
    role, content = message["role"], message.get("content")
    extra = {k: v for k, v in message.items() if k not in ("role", "content", AS_GIVEN)}
    given = {key: message[key] for key in ("content", AS_GIVEN) if key in message}
    if role not in ROLES:
        given["role"] = role
    if not isinstance(content, str) or set(given) != {"content"}:
        extra[AS_GIVEN] = given
    return Turn(role if role in ROLES else "tool", _text_of(content), extra)


def _to_message(turn: Turn) -> dict[str, Any]:
    extra = dict(turn.extra)
    given = extra.pop(AS_GIVEN, None)
    if given is None:
        return {"role": turn.role, "content": turn.content, **extra}
    return {"role": turn.role, **given, **extra}


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if isinstance(part, str))
