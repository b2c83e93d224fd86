"""Long conversations in pieces that fit a training row, cut between exchanges only.

An exchange is a question with all that follows it up to the next question: a pair, or more turns
where tools were called. Every exchange ends up in exactly one piece, or is counted as dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.imitation.conversations import Conversation, Turn
from models.imitation.importing.counting import CountTokens
from models.imitation.importing.openai_messages import AS_GIVEN

# What a chat template puts around a turn, as FastChat reckons.
TURN_OVERHEAD_TOKENS = 6

Oversized = Literal["truncate", "drop"]

_SENTENCE_END = re.compile(r"[.!?][\"')\]]?(?=\s)|\n")
_WORD_END = re.compile(r"(?<=\S)(?=\s)")


@dataclass(frozen=True, slots=True)
class Split:
    """The pieces of one conversation; its exchanges are those in pieces and those dropped."""

    pieces: tuple[Conversation, ...]
    num_exchanges: int
    num_truncated: int
    num_dropped: int


def split(
    conversation: Conversation, max_tokens: int, count: CountTokens, oversized: Oversized
) -> Split:
    """Return greedy pieces of at most `max_tokens`, each after the turns before the first question.

    An exchange that alone is too long loses the end of its answer, back to the end of a sentence,
    or is dropped: where `oversized` says so, where the question alone is too long, and where tools
    were called. Pieces of a cut conversation are called `<id>/1`, `<id>/2` and so on.
    """
    head, exchanges = _exchanges(conversation.turns)
    room = max_tokens - _cost(head, count)
    pieces: list[list[Turn]] = []
    cut: set[int] = set()
    used = num_truncated = num_dropped = 0
    for given in exchanges:
        exchange: Sequence[Turn] | None = given
        if _cost(given, count) > room:
            exchange = _truncate(given, room, count) if oversized == "truncate" else None
        if exchange is None:
            num_dropped += 1
            # What follows an exchange that is missing does not continue what came before it.
            used = room
            continue
        cost = _cost(exchange, count)
        if not pieces or used + cost > room:
            pieces.append([])
            used = 0
        if exchange is not given:
            num_truncated += 1
            cut.add(len(pieces))
        pieces[-1] += exchange
        used += cost
    made = tuple(
        _make_piece(conversation, [*head, *turns], number, len(pieces), number in cut)
        for number, turns in enumerate(pieces, 1)
    )
    return Split(made, len(exchanges), num_truncated, num_dropped)


def _exchanges(turns: Sequence[Turn]) -> tuple[list[Turn], list[list[Turn]]]:
    """Return the turns before the first question, and the exchanges."""
    head: list[Turn] = []
    exchanges: list[list[Turn]] = []
    for turn in turns:
        if turn.role == "user":
            exchanges.append([turn])
        elif exchanges:
            exchanges[-1].append(turn)
        else:
            head.append(turn)
    if not exchanges:
        return [], [head]
    return head, exchanges


def _cost(turns: Sequence[Turn], count: CountTokens) -> int:
    return sum(_num_tokens(turn, count) + TURN_OVERHEAD_TOKENS for turn in turns)


def _num_tokens(turn: Turn, count: CountTokens) -> int:
    calls = turn.extra.get("tool_calls")
    return count(turn.content) + (count(json.dumps(calls, ensure_ascii=False)) if calls else 0)


def _truncate(exchange: Sequence[Turn], room: int, count: CountTokens) -> list[Turn] | None:
    """Return a pair whose answer ends earlier, or None where no part of the answer fits."""
    if len(exchange) != 2 or exchange[1].role != "assistant" or AS_GIVEN in exchange[1].extra:
        return None
    question, answer = exchange
    left = room - _cost([question, replace(answer, content="")], count)
    for pattern in (_SENTENCE_END, _WORD_END):
        content = _longest_prefix(answer.content, pattern, left, count)
        if content:
            return [question, replace(answer, content=content)]
    return None


def _longest_prefix(text: str, ends: re.Pattern[str], room: int, count: CountTokens) -> str:
    """Return the longest part of `text` up to one of `ends` that has at most `room` tokens."""
    places = [match.end() for match in ends.finditer(text)]
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        if count(text[: places[middle]]) <= room:
            low = middle + 1
        else:
            high = middle
    # A longer text may have fewer tokens, so the place that was found is checked, too.
    for place in reversed(places[:low]):
        prefix = _close_fence(text[:place]).strip()
        if count(prefix) <= room:
            return prefix
    return ""


def _close_fence(text: str) -> str:
    """Return `text` without a code block that is open at its end."""
    fences = [match.start() for match in re.finditer(r"^[ \t]*```", text, re.MULTILINE)]
    return text[: fences[-1]] if len(fences) % 2 else text


def _make_piece(
    whole: Conversation, turns: Sequence[Turn], number: int, num_pieces: int, is_cut: bool
) -> Conversation:
    if num_pieces == 1 and len(turns) == len(whole.turns) and not is_cut:
        return whole
    provenance = {**whole.provenance, "part": number, "parts": num_pieces}
    if is_cut:
        provenance["truncated"] = True
    return replace(whole, id=f"{whole.id}/{number}", turns=tuple(turns), provenance=provenance)
