"""Training rows that hold what a model is evaluated with."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from models.imitation.conversations import Conversation
from models.imitation.errors import TrainingDataInvalid
from models.imitation.filtering.rouge import RougePool, tokenize
from models.imitation.filtering.rules import Stateless
from models.imitation.importing.files import read_rows
from models.imitation.importing.report import Drop, Malformed
from models.imitation.sources import Decontaminator, questions_of

# One word more or less in a question of six; "the capital of Spain" is not "of France".
NEAR_VERBATIM_F = 0.9
_MIN_NEAR_WORDS = 5
_SENTENCE = re.compile(r"[^.?!\n]+")


class DecontaminationRule(Stateless):
    """Drops a row that holds a run of 12 words or a question of the evaluation files.

    Case, punctuation and the text around are ignored. Of what the user says, a sentence is also
    found that differs from a question by a word or so (ROUGE-L above 0.9).
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """Raises `TrainingDataInvalid` for an evaluation file that cannot be read in full."""
        self._guard = Decontaminator()
        self._questions = RougePool()
        for path in paths:
            for row in read_rows(path):
                if isinstance(row, Malformed):
                    raise TrainingDataInvalid(f"{row}. An evaluation file must be whole.")
                self._guard.add(row.value)
                for question in questions_of(row.value):
                    if len(tokenize(question)) >= _MIN_NEAR_WORDS:
                        self._questions.add(question)

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        for turn in conversation.turns:
            found = self._guard.find_question(turn.content)
            if found is None and turn.role == "user":
                found = self._find_near(turn.content)
            if found is not None:
                return Drop("contaminated", found)
        for passage in conversation.passages:
            found = self._guard.find_question(passage.text)
            if found is not None:
                return Drop("contaminated", found)
        return conversation

    def _find_near(self, text: str) -> str | None:
        for part in (text, *_SENTENCE.findall(text)):
            if len(tokenize(part)) < _MIN_NEAR_WORDS:
                continue
            if self._questions.max_f(part, NEAR_VERBATIM_F) > NEAR_VERBATIM_F:
                return " ".join(part.split())
        return None
