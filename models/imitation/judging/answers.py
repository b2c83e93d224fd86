"""Answers of one system, read from a file: id to answer, with the question where a row has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.imitation.conversations import Conversation, Turn
from models.imitation.errors import TrainingDataInvalid


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and what was asked; `question` is None where the file does not say."""

    question: str | None
    answer: str


def read_answers(path: Path, role: str) -> dict[str, Answered]:
    """Id to answer, from JSONL rows with `id`, `answer` and perhaps `question`, or conversations.

    Of a conversation the last answer of the assistant counts and all before it is the question.
    The line with which `mynah tune report` begins its files of answers is passed over. Raises
    `TrainingDataInvalid` naming the line, also for an id that is answered twice; `role` is the
    option that named the file.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise TrainingDataInvalid(f"cannot read {path}: {reason}.", param=role) from None
    found: dict[str, Answered] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if number == 1 and isinstance(row, dict) and set(row) == {"run"}:
                continue
            id_, answered = _read_row(row)
            if id_ in found:
                raise TrainingDataInvalid(f"{id_} is answered twice.", param=role)
        except json.JSONDecodeError as error:
            message = f"{path}, line {number}: not JSON ({error})."
            raise TrainingDataInvalid(message, param=role) from None
        except TrainingDataInvalid as error:
            message = f"{path}, line {number}: {error.message}"
            raise TrainingDataInvalid(message, param=role) from None
        found[id_] = answered
    if not found:
        raise TrainingDataInvalid(f"{path} holds no answers.", param=role)
    return found


def to_text(value: str) -> str:
    """`value` with halves of surrogate pairs, which no file takes, replaced."""
    return value.encode("utf-8", "replace").decode()


def to_question(turns: list[Turn]) -> str:
    """What stands before an answer: one question as it is, anything longer with its roles."""
    if [turn.role for turn in turns] == ["user"]:
        return to_text(turns[0].content)
    said = [f"{turn.role.capitalize()}: {turn.content}" for turn in turns]
    return to_text("\n\n".join(said))


def _read_row(row: Any) -> tuple[str, Answered]:
    if not isinstance(row, Mapping):
        raise TrainingDataInvalid("the row is no JSON object.")
    if "messages" in row:
        return _read_conversation(Conversation.from_json(row))
    id_, answer, question = row.get("id"), row.get("answer"), row.get("question")
    if not isinstance(id_, str | int) or isinstance(id_, bool) or not str(id_).strip():
        raise TrainingDataInvalid("the row has no 'id'.")
    if not isinstance(answer, str):
        raise TrainingDataInvalid(f"the 'answer' of {id_} is missing or no text.")
    if question is not None and not isinstance(question, str):
        raise TrainingDataInvalid(f"the 'question' of {id_} is no text.")
    return to_text(str(id_)), Answered(question and to_text(question), to_text(answer))


def _read_conversation(conversation: Conversation) -> tuple[str, Answered]:
    turns = list(conversation.turns)
    while turns and turns[-1].role != "assistant":
        turns.pop()
    if len(turns) < 2 or not any(turn.role == "user" for turn in turns[:-1]):
        raise TrainingDataInvalid(f"the conversation {conversation.id} holds no answered question.")
    answered = Answered(to_question(turns[:-1]), to_text(turns[-1].content))
    return to_text(conversation.id), answered
