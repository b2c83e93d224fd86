"""Conversations and a checkpoint small enough for seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from models.imitation.conversations import (
    Conversation,
    SourcePassage,
    Turn,
    write_conversations,
)
from models.imitation.tuning.libraries import prepare_libraries
from tests.models.imitation.tuning.checkpoints import write_checkpoint

prepare_libraries("torch", "transformers", "peft")

FACTS = (
    ("How many weeks?", "Each parent receives 16 weeks. [1]"),
    ("Who approves the leave?", "Managers approve it within 5 days. [1]"),
    ("When are expenses paid?", "Every Friday. [1]"),
    ("What do I keep?", "The receipt. [1]"),
    ("Which class?", "Second class. [1]"),
    ("Who orders laptops?", "The help desk does. [1]"),
    ("When does the office open?", "At nine. [1]"),
    ("What is the capital of France?", "I could not find this in the documents."),
)


@pytest.fixture(scope="session")
def conversations() -> list[Conversation]:
    """Eight questions with answers, all but the first of a free licence."""
    return [
        Conversation(
            f"c{index}",
            (Turn("user", question), Turn("assistant", answer)),
            {
                "source": "test",
                "license": "CC BY-NC 4.0" if index == 0 else "Apache-2.0",
                "teacher": "teacher-1",
            },
            (SourcePassage(str(index), "Handbook", answer.removesuffix(" [1]")),),
        )
        for index, (question, answer) in enumerate(FACTS)
    ]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, conversations: list[Conversation]) -> Path:
    path = tmp_path_factory.mktemp("data") / "answers.jsonl"
    write_conversations(path, conversations)
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ChatML Llama with random weights of the usual size."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-llama"
    return write_checkpoint(folder, "llama", "smollm", "chatml", scale=1.0)
