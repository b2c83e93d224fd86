"""The systems that a report compares: models that are asked here, and answers recorded before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.imitation.errors import TrainingDataInvalid
from server.evaluation.outcomes import Outcome, score_text
from server.evaluation.questions import Question

# "model" is the one of a measurement without a comparison of systems.
Role = Literal["base", "broad", "narrow", "narrow_retrieval", "teacher", "model"]
TITLES: dict[Role, str] = {
    "base": "base",
    "broad": "broadly tuned",
    "narrow": "narrowly tuned",
    "narrow_retrieval": "narrowly tuned + retrieval",
    "teacher": "teacher",
}


@dataclass(frozen=True, slots=True)
class System:
    """A model by its GGUF, or the file of its recorded answers; `sha256` is of that file."""

    role: Role
    name: str
    path: Path
    sha256: str

    @property
    def is_recorded(self) -> bool:
        """Whether `path` holds answers and no model."""
        return self.path.suffix.lower() == ".jsonl"

    @property
    def identity(self) -> dict[str, str]:
        """Name and hash, as the report has them."""
        return {"name": self.name, "sha256": self.sha256}


def open_system(role: Role, name: str, path: Path) -> System:
    """The system of a file. Raises `TrainingDataInvalid` if it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    except OSError as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error.strerror}.", param=role) from None
    return System(role, name, path, digest.hexdigest())


def read_recorded(path: Path) -> dict[str, dict[str, str]]:
    """Condition to question id to answer, from JSONL rows with `id` and `answer`.

    `condition` is `closed_book` where a row does not name one. Raises `TrainingDataInvalid`
    naming the line, also for an id that is answered twice.
    """
    found: dict[str, dict[str, str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error}.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Mapping[str, Any] = json.loads(line)
            if number == 1 and set(row) == {"run"}:  # how a report begins its own files of answers
                continue
            id_, answer = str(row["id"]), row["answer"]
            condition = str(row.get("condition", "closed_book"))
            if not isinstance(answer, str):
                raise TypeError("the answer is no text")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingDataInvalid(f"{path}, line {number}: {error!r}.") from None
        answers = found.setdefault(condition, {})
        if id_ in answers:
            raise TrainingDataInvalid(f"{path}, line {number}: {id_} is answered twice.")
        answers[id_] = answer
    if not found:
        raise TrainingDataInvalid(f"{path} holds no answers.")
    return found


def score_recorded(
    answers: Mapping[str, str], condition: str, questions: Sequence[Question]
) -> list[Outcome]:
    """Outcomes of the questions that the recorded answers answer."""
    return [
        score_text(question, condition, answers[question.id], "ungrounded")
        for question in questions
        if question.id in answers
    ]
