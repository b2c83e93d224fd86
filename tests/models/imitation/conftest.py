"""A tokenizer, examples and rows small enough for seconds."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from models.imitation import tokenizer as tokenizers
from models.imitation.examples import Example, Question
from models.imitation.sources import Passage

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
def examples() -> list[Example]:
    """Three questions over every pair of texts, the last without an answer there."""
    found = []
    for index, text in enumerate(TEXTS):
        other = TEXTS[(index + 1) % len(TEXTS)]
        passages = (Passage("leave.md > Leave", text), Passage("it.md", other))
        sentence = text.split(". ")[1] + "."
        found.append(
            Example(
                "test",
                f"test/{index}",
                passages,
                (
                    Question("What must be done?", (sentence,), 0),
                    Question("And the last one?", (other.split(". ")[2],), 1),
                    Question("What is the capital of France?", (), -1),
                ),
            )
        )
    random.Random(0).shuffle(found)
    return found
