"""A tokenizer and ranked tasks small enough for seconds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from models.imitation import tokenizer as tokenizers
from models.imitation.dataset import TaskRanker
from models.imitation.rows import RankedTask
from models.imitation.sources import Passage
from models.imitation.tasks import Piece, Task
from models.imitation.tokenizer import REFUSAL
from tests.fakes import HashingEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

TEXTS = (
    "Each parent receives 16 weeks of parental leave. Leave must be booked four weeks ahead. "
    "Managers approve the request within 5 days.",
    "Expenses are paid back every Friday. Keep the receipt for any purchase over 25 euros. "
    "Trains are booked in second class.",
    "New laptops are ordered by the help desk. The disk must be encrypted. "
    "Lost devices are reported within 24 hours to security@example.com.",
)


@pytest.fixture(scope="session")
def texts() -> tuple[str, ...]:
    return TEXTS


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizers.train(TEXTS * 20, vocab_size=384).save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_path: Path) -> Tokenizer:
    return tokenizers.load(tokenizer_path)


@pytest.fixture(scope="session")
def tasks() -> list[Task]:
    """A question, a follow-up and one without an answer, over every pair of texts."""
    found = []
    for index, text in enumerate(TEXTS):
        other = TEXTS[(index + 1) % len(TEXTS)]
        passages = (Passage("leave.md > Leave", text), Passage("it.md", other))
        second = text.split(". ")[1] + "."
        last = other.split(". ")[2]
        history = (("user", "What must be done?"), ("assistant", second))
        group = f"test/{index}"
        found += [
            Task("t", group, passages, (), "What must be done?", (Piece(second, 0),), True),
            Task("t", group, passages, history, "And the last one?", (Piece(last, 1),), False),
            Task("t", group, passages, (), "What is the capital?", (Piece(REFUSAL, -1),), False),
        ]
    return found


@pytest.fixture(scope="session")
def ranked(tasks: list[Task]) -> list[RankedTask]:
    ranker = TaskRanker(HashingEmbedder().encode)
    return list(ranker.rank(tasks, random.Random(0), [Passage("other.md", "Doors close at nine.")]))
