"""ShareGPT conversations, as HTML or Markdown, cleaned as Vicuna's were.

The steps are those of FastChat's `clean_sharegpt.py`: turns before the first question and after
the last answer are taken off, roles must alternate, answers become Markdown, and replies that only
tell of a rate limit condemn their conversation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from models.imitation.conversations import Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.markdown import is_html, repair_fences, to_markdown
from models.imitation.importing.report import Drop

Markup = Literal["auto", "html", "markdown"]

_USERS = frozenset(("human", "user"))
_ASSISTANTS = frozenset(("gpt", "chatgpt", "assistant", "bing", "bard", "model"))
_PLUGINS = frozenset(("tool", "plugin", "function", "function_call", "observation"))
# What the site said in the place of an answer, in lower case.
_FAILURES = (
    "too many requests in 1 hour",
    "too many concurrent requests",
    "you've reached our limit of messages per hour",
    "rate limit reached",
    "only one message at a time. please allow any other responses to complete",
    "something went wrong, please try reloading the conversation",
    "something went wrong. if this issue persists please contact us",
    "an error occurred. if this issue persists please contact us",
    "we're experiencing exceptionally high demand",
    "the message you submitted was too long",
    "there was an error generating a response",
)
# Such a notice is short; an answer about rate limits is not.
_MAX_FAILURE_CHARS = 400


def read_turns(
    row: Mapping[str, Any], markup: Markup, changed: Counter[str]
) -> tuple[Turn, ...] | Drop:
    """Return the cleaned turns of a row: perhaps a system turn, then question, answer and so on.

    `changed` counts turns that were taken off and answers that were HTML. Raises
    `TrainingDataInvalid` where the row is not of this format.
    """
    turns = _read_roles(row)
    if isinstance(turns, Drop):
        return turns
    system = turns[:1] if turns and turns[0].role == "system" else []
    trimmed = _trim(turns[len(system) :])
    if not trimmed:
        return Drop("no exchange")
    expected = ("user", "assistant")
    if any(turn.role != expected[i % 2] for i, turn in enumerate(trimmed)):
        return Drop("roles do not alternate")
    cleaned = [_clean(turn, markup) for turn in trimmed]
    for turn in cleaned:
        if not turn.content:
            return Drop("empty turn")
        failure = _find_failure(turn)
        if failure:
            return Drop("rate limit reply", failure)
    changed["turns taken off an end"] += len(turns) - len(system) - len(trimmed)
    changed["answers turned from HTML"] += sum(_needs_markdown(turn, markup) for turn in trimmed)
    return (*system, *cleaned)


def _read_roles(row: Mapping[str, Any]) -> list[Turn] | Drop:
    items = row.get("conversations", row.get("items"))
    if not isinstance(items, list):
        raise TrainingDataInvalid("no list `conversations`")
    turns = []
    for item in items:
        name = item.get("from") if isinstance(item, dict) else None
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(name, str) or not isinstance(value, str):
            raise TrainingDataInvalid("a turn without the texts `from` and `value`")
        name = name.lower()
        if name in _PLUGINS:
            return Drop("plugin chat", name)
        if name not in _USERS | _ASSISTANTS and name != "system":
            return Drop("unknown role", name)
        role = "user" if name in _USERS else "assistant" if name in _ASSISTANTS else "system"
        turns.append(Turn(role, value))
    return turns


def _trim(turns: list[Turn]) -> list[Turn]:
    """Return `turns` from the first question to the last answer."""
    start = next((i for i, turn in enumerate(turns) if turn.role == "user"), len(turns))
    end = next((i for i in range(len(turns), start, -1) if turns[i - 1].role == "assistant"), start)
    return turns[start:end]


def _needs_markdown(turn: Turn, markup: Markup) -> bool:
    if turn.role != "assistant":
        return False
    return markup == "html" or (markup == "auto" and is_html(turn.content))


def _clean(turn: Turn, markup: Markup) -> Turn:
    """A question stays as it was typed: only answers were kept as HTML."""
    if turn.role != "assistant":
        return Turn(turn.role, turn.content.strip())
    if _needs_markdown(turn, markup):
        return Turn(turn.role, to_markdown(turn.content))
    return Turn(turn.role, repair_fences(turn.content).strip())


def _find_failure(turn: Turn) -> str | None:
    if turn.role != "assistant" or len(turn.content) > _MAX_FAILURE_CHARS:
        return None
    text = turn.content.lower().replace("’", "'")
    return next((failure for failure in _FAILURES if failure in text), None)
