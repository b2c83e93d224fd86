"""`mynah tune report` as people run it: real embedder, real engine over tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.registry import Registry
from server import cli
from tests.gguf_factory import write_tiny_gguf
from tests.server.evaluation.studies import FACTS, write_rows, write_set

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mynah(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process; exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


def test_the_model_is_required(mynah: Run, questions: Path) -> None:
    code, _, errors = mynah("tune", "report", questions)
    assert code == 2
    assert "--model" in errors


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--docs", "a", "--collection", "b"), 2, "not both"),
        ((), 1, "--docs DIR"),
        (("--docs", "a", "--judged", "somebody=x.json"), 2, "narrow_retrieval"),
        (("--docs", "a", "--judged", "narrow=none.json"), 1, "none.json"),
        (("--docs", "a", "--base", "never-registered"), 1, "never-registered"),
        (("--docs", "a", "--base", "none.gguf"), 1, "none.gguf"),
        (("--docs", "a", "--broad", "none.jsonl"), 1, "none.jsonl"),
        (("--docs", "a", "--mode", "off"), 2, "mode"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(
    mynah: Run, questions: Path, tiny_gguf: Path, tmp_path: Path,
    options: tuple[str, ...], code: int, said: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    found, _, errors = mynah(
        "tune", "report", questions, "--model", tiny_gguf, "--out", out, *options
    )
    assert found == code
    assert said in errors
    assert errors.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
def test_a_report_is_made_attached_and_resumed(
    mynah: Run, questions: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    tuned = write_tiny_gguf(tmp_path / "tuned.gguf", seed=7)
    data = tmp_path / "data"
    registry = Registry(data / "models")
    registry.add(tiny_gguf, "base", origin="added")
    registry.add(tuned, "tuned", origin="tuned", base="base")
    teacher = write_rows(
        tmp_path / "teacher.jsonl",
        [{"id": name, "answer": fact} for name, (fact, _) in FACTS.items()],
    )
    closed = write_rows(
        tmp_path / "closed.jsonl", [{"id": "c1", "question": "Capital?", "answers": ["Canberra"]}]
    )
    judged = tmp_path / "judged.json"
    interval = {"mean": 0.8, "low": 0.6, "high": 0.9}
    judged.write_text(
        json.dumps({"win": 8, "loss": 2, "tie": 0, "win_rate_adjusted": 0.8, "interval": interval})
    )
    out = tmp_path / "out"
    arguments = (
        "tune", "report", questions, "--docs", questions.parent / "docs", "--model", "tuned",
        "--base", "base", "--teacher-answers", teacher, "--closed-book", closed,
        "--judged", f"narrow={judged}", "--mode", "quote", "--limit", 3, "--answer-tokens", 24,
        "--out", out,
    )  # fmt: skip
    code, printed, errors = mynah(*arguments, "--attach", "--json")
    assert code == 0, errors
    report = json.loads(printed)
    assert report == json.loads((out / "report.json").read_text())
    assert report["model"]["name"] == "tuned"
    assert report["gate"]["grounded_em_difference"]["num_questions"] == 3
    assert report["gate"]["has_factuality"] is report["gate"]["has_style_report"] is True
    assert report["factuality"]["mode"] == "quote"
    assert set(report["factuality"]["conditions"]) == {
        "closed_book", "gold", "retrieved", "wrong",
    }  # fmt: skip
    for word in ("--limit 3", "--mode quote", f"--out {out}", str(questions)):
        assert word in report["factuality"]["command"]
    assert "--attach" not in report["factuality"]["command"]
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert "Attached the report to the model tuned." in errors
    assert registry.get("tuned").report is not None
    assert registry.use("tuned").name == "tuned"

    logs = {path.name: path.read_text() for path in (out / "answers").iterdir()}
    assert set(logs) == {
        *(f"narrow.{name}.jsonl" for name in (*report["factuality"]["conditions"], "knowledge")),
        "base.closed_book.jsonl", "base.retrieved.jsonl", "base.knowledge.jsonl",
    }  # fmt: skip
    code, printed, errors = mynah(*arguments)
    assert code == 0, errors
    assert {path.name: path.read_text() for path in (out / "answers").iterdir()} == logs
    assert "Preference is no evidence of accuracy" in printed
    assert str(out / "report.html") in printed
