from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.imitation.conversations import read_conversations
from server import cli
from tests.gguf_factory import write_tiny_gguf

Run = Callable[..., tuple[int, str, str]]

HTML = "<p>Use <code>ls</code>.</p><pre><code class='language-sh'>ls -l\n</code></pre>"


@pytest.fixture
def mynah(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; exit code, output, errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def shared(id_: str, *texts: str) -> dict[str, Any]:
    names = ["human", "gpt"] * len(texts)
    turns = [{"from": name, "value": text} for name, text in zip(names, texts, strict=False)]
    return {"id": id_, "conversations": turns}


def write_lines(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_with_faults_gives_its_good_rows_and_every_other_is_told(
    mynah: Run, tmp_path: Path
) -> None:
    path = write_lines(
        tmp_path / "shared.jsonl",
        shared("a", "How do I list files?", HTML),
        "{",
        shared("b", "Hi", "Too many requests in 1 hour. Try again later."),
        shared("a", "Once more?", "The same id again."),
        "[]",
    )
    out, dropped = tmp_path / "out.jsonl", tmp_path / "dropped.jsonl"
    options = ("--license", "CC0-1.0", "--teacher", "gpt-4", "--dropped", dropped)
    code, text, err = mynah("tune", "import", path, "--out", out, *options)
    assert code == 0
    assert "Read 5 rows: kept 1, dropped 4." in text
    assert f"Wrote 1 conversations to {out}." in text
    counts = dict(line.rsplit(maxsplit=1) for line in text.splitlines()[2:5])
    assert counts == {"duplicate id": "1", "malformed": "2", "rate limit reply": "1"}
    assert "mynah: shared.jsonl, line 2: not valid JSON" in err
    assert "mynah: shared.jsonl, line 5: not a JSON object" in err
    (conversation,) = read_conversations(out)
    assert conversation.turns[1].content == "Use `ls`.\n\n```sh\nls -l\n```"
    assert conversation.provenance["license"] == "CC0-1.0"
    assert conversation.provenance["teacher"] == "gpt-4"
    rows = read_lines(dropped)
    assert [(row["number"], row["reason"]) for row in rows] == [
        (2, "malformed"),
        (3, "rate limit reply"),
        (4, "duplicate id"),
        (5, "malformed"),
    ]
    assert rows[2]["row"]["conversations"][0]["value"] == "Once more?"
    first = out.read_bytes()
    assert mynah("tune", "import", path, "--out", out, *options)[0] == 0
    assert out.read_bytes() == first


def test_strict_fails_at_the_first_malformed_line_and_writes_nothing(
    mynah: Run, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "x.jsonl", shared("a", "What is it?", "A bird of the moor."), "{")
    out = tmp_path / "out.jsonl"
    code, text, err = mynah("tune", "import", path, "--out", out, "--strict")
    assert (code, text) == (1, "")
    assert err.startswith("mynah: x.jsonl, line 2: not valid JSON")
    assert list(tmp_path.iterdir()) == [path]


def test_openai_rows_go_in_and_come_back_as_they_were(mynah: Run, tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {
            "id": 7,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "q"}], "name": "jo"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "1", "tool_call_id": "c"},
                {"role": "assistant", "content": "One.", "weight": 1},
            ],
            "tools": [{"type": "function", "function": {"name": "f"}}],
        },
    ]
    path = write_lines(tmp_path / "openai.jsonl", *rows)
    ours, back = tmp_path / "ours.jsonl", tmp_path / "back.jsonl"
    assert mynah("tune", "import", path, "--out", ours)[0] == 0
    assert [len(conversation.turns) for conversation in read_conversations(ours)] == [2, 4]
    code, text, _ = mynah("tune", "import", ours, "--export", "openai", "--out", back, "--json")
    assert code == 0
    assert read_lines(back) == rows
    report = json.loads(text)
    assert (report["read"], report["kept"], report["written"]) == (2, 2, 2)
    assert report["changed"] == {"passages left out": 0}


@pytest.mark.parametrize("counter", ["estimate", "gguf"])
def test_long_conversations_are_split_and_no_pair_is_lost(
    mynah: Run, tmp_path: Path, counter: str
) -> None:
    answer = "each parent receives sixteen weeks of leave " * 4
    texts = [text for i in range(9) for text in (f"Question {i}?", f"{i} {answer}")]
    path = write_lines(tmp_path / "x.jsonl", shared("a", *texts))
    out = tmp_path / "out.jsonl"
    options: tuple[str | Path, ...] = ("--max-tokens", "200", "--json")
    if counter == "gguf":
        options = (*options, "--tokenizer", write_tiny_gguf(tmp_path / "tiny.gguf"))
    code, text, _ = mynah("tune", "import", path, "--out", out, *options)
    assert code == 0
    report = json.loads(text)
    pieces = list(read_conversations(out))
    assert report["kept"] == 1
    assert report["written"] == len(pieces) > 2
    turns = [turn.content.strip() for piece in pieces for turn in piece.turns]
    assert turns == [text.strip() for text in texts]
    assert report["changed"]["exchanges"] == 9
    assert report["changed"]["exchanges dropped"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "openai"), "no list `messages`"),
        (("--tokenizer", "x.jsonl"), "--max-tokens"),
        (("--dropped", "out.jsonl"), "the same file"),
        (("--max-tokens", "64", "--tokenizer", "x.jsonl"), "is no tokenizer"),
    ],
)
def test_wrong_usage_is_told(
    mynah: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "x.jsonl", shared("a", "What is it?", "A bird of the moor."))
    code, _, err = mynah("tune", "import", "x.jsonl", "--out", "out.jsonl", "--strict", *arguments)
    assert code in (1, 2)
    assert message in err
    assert not (tmp_path / "out.jsonl").exists()
