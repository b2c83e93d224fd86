"""Data and sizes with which `mynah tune train` takes seconds."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from models.imitation.conversations import Conversation, SourcePassage, Turn, write_conversations
from server import cli

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
CONVERSATIONS = [
    Conversation(
        f"c{index}",
        (Turn("user", question), Turn("assistant", answer)),
        {"source": "test", "license": "CC-BY-NC-4.0", "teacher": "teacher-1"},
        (SourcePassage(str(index), "Handbook", answer.removesuffix(" [1]")),),
    )
    for index, (question, answer) in enumerate(FACTS)
]
COMMON = ("--device", "cpu", "--held-out", "0", "--threads", "1", "--max-length", "256")
SCRATCH = (
    "--from-scratch", "--vocab", "320", "--width", "64", "--layers", "2", "--heads", "4",
    "--kv-heads", "2", "--hidden", "128", "--context", "512", "--lr", "5e-3", *COMMON,
)  # fmt: skip


def write_data(folder: Path) -> Path:
    """The eight conversations as a file."""
    path = folder / "answers.jsonl"
    write_conversations(path, CONVERSATIONS)
    return path


def mynah(data_dir: Path, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process; exit code, output, errors."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
    ):
        code = cli.run(["--data-dir", str(data_dir), *map(str, arguments)])
    return code, out.getvalue(), err.getvalue()
