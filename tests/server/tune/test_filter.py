from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.imitation.conversations import (
    Conversation,
    Turn,
    read_conversations,
    write_conversations,
)
from server import cli

Run = Callable[..., tuple[int, str, str]]

QUESTION = "How long is the notice period for a flat in the old town?"


@pytest.fixture
def mynah(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; exit code, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def chat(id_: str, question: str, answer: str = "That I know.") -> Conversation:
    return Conversation(id_, (Turn("user", question), Turn("assistant", answer)), {"source": "t"})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    conversations = [
        chat("kept", "Name a bird of the shore.", "The heron."),
        chat("planted", QUESTION),
        chat("loud", QUESTION.upper().rstrip("?")),
        chat("inside", f"My friend asked me today: {QUESTION} I had no idea."),
        chat("mail", "Who is in charge?", "Ask jo@example.com, of OpenAI."),
        chat("copy", "name a bird  of the shore.", "The Heron."),
        chat("like", "Name a bird of the sea shore.", "The gull, which is white and grey."),
        chat("long", "Explain. " + "Why is it so? " * 20, "It is."),
    ]
    write_conversations(path, conversations)
    with path.open("a") as file:
        file.write("{\n")
    return path


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps({"id": "q1", "question": QUESTION, "answers": ["3 months"]}))
    return path


def test_every_dropped_row_is_counted_and_written_with_its_reason(
    mynah: Run, tmp_path: Path, rows: Path, evaluation: Path
) -> None:
    out, dropped = tmp_path / "out.jsonl", tmp_path / "dropped.jsonl"
    options = ("--eval", evaluation, "--rouge", "0.7", "--max-question-words", "40")
    code, text, _ = mynah(
        "tune", "filter", rows, "--out", out, "--dropped", dropped, *options, "--json"
    )
    assert code == 0
    report = json.loads(text)
    assert [conversation.id for conversation in read_conversations(out)] == ["kept", "mail"]
    assert report["dropped"] == {
        "contaminated": 3,
        "exact duplicate": 1,
        "malformed": 1,
        "question too long": 1,
        "similar question": 1,
    }
    assert report["read"] == 9 == report["kept"] + sum(report["dropped"].values())
    assert report["changed"] == {"masked email": 1}
    assert report["malformed"][0]["line"] == 9
    told = [json.loads(line) for line in dropped.read_text().splitlines()]
    reasons = {row["row"]["id"]: row["reason"] for row in told if row["row"]}
    assert reasons == {
        "planted": "contaminated",
        "loud": "contaminated",
        "inside": "contaminated",
        "copy": "exact duplicate",
        "like": "similar question",
        "long": "question too long",
    }
    assert told[-1]["number"] == 9
    first = out.read_bytes(), dropped.read_bytes()
    mynah("tune", "filter", rows, "--out", out, "--dropped", dropped, *options)
    assert (out.read_bytes(), dropped.read_bytes()) == first


def test_without_options_brands_stay_and_mail_is_masked(
    mynah: Run, tmp_path: Path, rows: Path
) -> None:
    out = tmp_path / "out.jsonl"
    code, text, err = mynah("tune", "filter", rows, "--out", out)
    assert code == 0
    assert "Read 9 rows: kept 6, dropped 3." in text
    assert "rows.jsonl, line 9" in err
    kept = {conversation.id: conversation for conversation in read_conversations(out)}
    assert kept["mail"].turns[1].content == "Ask [EMAIL], of OpenAI."
    mynah("tune", "filter", rows, "--out", out, "--brand-words", "openai, chatgpt", "--pii", "off")
    assert "mail" not in {conversation.id for conversation in read_conversations(out)}


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("--pii", "drop"), ["kept", "planted", "inside", "like", "long"]),
        (("--keyword", "bird"), ["planted", "inside", "mail", "long"]),
        (("--min-answer-words", "3", "--max-answer-words", "5"), ["planted", "inside", "mail"]),
    ],
)
def test_each_filter_has_its_option(
    mynah: Run, tmp_path: Path, rows: Path, arguments: tuple[str, ...], ids: list[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert mynah("tune", "filter", rows, "--out", out, *arguments)[0] == 0
    assert [conversation.id for conversation in read_conversations(out)] == ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--strict",), "rows.jsonl, line 9"),
        (("--language", "en,zz"), "zz is no known language"),
        (("--eval", "broken.jsonl"), "broken.jsonl, line 1"),
        (("--eval", "none.jsonl"), "none.jsonl"),
    ],
)
def test_faults_are_told_and_nothing_is_written(
    mynah: Run,
    tmp_path: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.jsonl").write_text("{")
    code, _, err = mynah("tune", "filter", rows, "--out", "out.jsonl", *arguments)
    assert code in (1, 2)
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.jsonl", "rows.jsonl"]


def test_a_row_is_dropped_or_kept_alike_wherever_files_are_cut(
    mynah: Run, tmp_path: Path, rows: Path
) -> None:
    lines = rows.read_text().splitlines(keepends=True)
    halves = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, part in zip(halves, (lines[:4], lines[4:]), strict=True):
        path.write_text("".join(part))
    results: list[Any] = []
    for files in ([rows], halves):
        out = tmp_path / "out.jsonl"
        assert mynah("tune", "filter", *files, "--out", out)[0] == 0
        results.append(out.read_text())
    assert results[0] == results[1]
