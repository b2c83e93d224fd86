"""`mynah eval` as people run it: real index and grounder; a scripted engine, or a tiny real one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.protocols import Reader
from server import assembly, cli
from server.config import Settings
from server.evaluation import session
from server.grounding.abstention import Abstention
from server.grounding.rules import GroundingRules
from tests.fakes import HashingEmbedder
from tests.server.evaluation.studies import (
    ASKED,
    FACTS,
    OneSlotEngine,
    read_passages,
    write_rows,
    write_set,
)

Run = Callable[..., tuple[int, str, str]]


def make_rules(settings: Settings, _reader: Reader | None) -> GroundingRules:
    """Passages always count as evidence: the hashing embedder's cosines mean little."""
    assert settings.grounding_mode != "auto"
    return GroundingRules(mode=settings.grounding_mode, abstention=Abstention({}, 0.0, 0.0))


@pytest.fixture
def engine() -> OneSlotEngine:
    return OneSlotEngine(read_passages)


@pytest.fixture
def mynah(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    engine: OneSlotEngine, tiny_gguf: Path,
) -> Run:  # fmt: skip
    """Runs a command with a hashing embedder and the scripted engine in the place of the GGUF."""
    monkeypatch.setattr(assembly, "make_embedder", lambda _settings: HashingEmbedder())
    monkeypatch.setattr(session, "open_engine", lambda _settings, _path: engine)
    monkeypatch.setattr(session, "grounding_rules", make_rules)
    for name in [name for name in os.environ if name.startswith("MYNAH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MYNAH_MODEL", str(tiny_gguf))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def read(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "eval.json").read_text())
    return report


def test_a_folder_is_measured_and_the_reports_are_written(
    mynah: Run, questions: Path, out: Path
) -> None:
    docs = questions.parent / "docs"
    code, printed, errors = mynah(
        "eval", questions, "--docs", docs, "--out", out, "--mode", "answer"
    )
    assert code == 0, errors
    report = read(out)
    assert set(report["conditions"]) == {"closed_book", "gold", "retrieved", "wrong"}
    assert report["conditions"]["retrieved"]["figures"]["containment"]["mean"] == 1.0
    assert report["question_set"]["num_documents"] == len(FACTS)
    assert report["settings"]["num_at_once"] == 1
    assert report["command"].startswith("mynah eval ")
    for word in (str(questions), "--mode answer", f"--out {out}"):
        assert word in report["command"]
    assert (out / "eval.html").read_text().startswith("<!doctype html>")
    assert "contains an expected answer" in printed
    assert "recall@5" in printed
    assert str(out / "eval.html") in printed


def test_run_may_be_named_and_json_is_printed(mynah: Run, questions: Path, out: Path) -> None:
    code, printed, errors = mynah(
        "eval", "run", "--json", "--limit", 2, questions, "--docs", questions.parent / "docs",
        "--out", out, "--conditions", "retrieved",
    )  # fmt: skip
    assert code == 0, errors
    short, whole = json.loads(printed), read(out)
    assert list(short["conditions"]) == ["retrieved"]
    assert (
        short["conditions"]["retrieved"]["figures"] == (whole["conditions"]["retrieved"]["figures"])
    )
    assert "outcomes" not in short["conditions"]["retrieved"]
    assert short["question_set"]["num_questions"] == 2


def test_an_interrupted_run_asks_what_is_left(
    mynah: Run, questions: Path, out: Path, engine: OneSlotEngine
) -> None:
    arguments = ("eval", questions, "--docs", questions.parent / "docs", "--out", out,
                 "--mode", "answer", "--conditions", "retrieved")  # fmt: skip
    assert mynah(*arguments)[0] == 0
    log = out / "answers" / "model.retrieved.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + lines[4][:20])
    num_before = len(engine.generations)
    assert mynah(*arguments)[0] == 0
    assert len(engine.generations) - num_before == len(lines) - 4
    assert mynah(*arguments)[0] == 0
    assert len(engine.generations) - num_before == len(lines) - 4, "all was recorded"
    assert mynah(*arguments, "--fresh")[0] == 0
    assert len(engine.generations) - num_before == 2 * len(lines) - 5


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (("--fail-under", "recall@5=0.9,containment=1,gold.f1=0.1"), 0, None),
        (("--fail-over", "false_abstention=0,sentences=1"), 0, None),
        (("--fail-under", "em_answerable=0.9"), 3, "em_answerable is 0.000, wanted at least 0.9"),
        (("--fail-over", "sentences=0.5"), 3, "sentences is 1.000, wanted at most 0.5"),
        (("--fail-under", "follow_up.mrr=0.1"), 3, "follow_up.mrr was not measured"),
    ],
)
def test_limits_give_the_exit_code(
    mynah: Run, questions: Path, out: Path, limits: tuple[str, ...], code: int, said: str | None
) -> None:
    docs = questions.parent / "docs"
    found, _, errors = mynah(
        "eval", questions, "--docs", docs, "--out", out, "--mode", "answer",
        "--conditions", "retrieved,gold", *limits,
    )  # fmt: skip
    assert found == code, errors
    assert said is None or said in errors
    assert all(row["is_kept"] for row in read(out)["thresholds"]) == (code == 0)
    assert (out / "eval.html").exists(), "what was measured is shown all the same"


def test_two_runs_are_compared(
    mynah: Run, questions: Path, out: Path, tmp_path: Path, engine: OneSlotEngine
) -> None:
    arguments = ("eval", questions, "--docs", questions.parent / "docs", "--mode", "answer",
                 "--conditions", "retrieved")  # fmt: skip
    assert mynah(*arguments, "--out", out)[0] == 0
    engine._answers = lambda _prompt: "I do not know anything of it."
    code, printed, errors = mynah(
        *arguments, "--out", tmp_path / "two", "--compare", out / "eval.json"
    )
    assert code == 0, errors
    comparison = read(tmp_path / "two")["comparison"]
    assert comparison["num_common"] == 7
    assert comparison["num_worse"] >= 3
    assert "worse" in printed
    assert "Against" in (tmp_path / "two" / "eval.html").read_text()


def test_a_minimal_file_over_the_only_collection(
    mynah: Run, questions: Path, out: Path, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [
        {"question": ASKED[name], "answers": [answer]} for name, (_, answer) in FACTS.items()
    ]
    rows.append({"question": "Who is the mayor?", "answerable": False})
    minimal = write_rows(tmp_path / "minimal.jsonl", rows)
    code, _, errors = mynah("eval", minimal, "--out", out)
    assert code == 1
    assert "--collection NAME (there is none yet)" in errors
    assert mynah("ingest", questions.parent / "docs", "--collection", "hr")[0] == 0
    code, _, errors = mynah("eval", minimal, "--out", out, "--mode", "answer")
    assert code == 0, errors
    assert "6 questions name no evidence (line-1, line-2" in errors
    report = read(out)
    assert report["conditions"]["retrieved"]["figures"]["containment"]["mean"] == 1.0
    assert report["retrieval"]["groups"]["all"]["figures"].keys() == {"answer@5"}
    assert report["conditions"]["gold"]["num_questions"] == 1
    assert mynah("ingest", questions.parent / "docs", "--collection", "more")[0] == 0
    code, _, errors = mynah("eval", minimal, "--out", out)
    assert code == 1
    assert "there are hr, more" in errors


def squad() -> dict[str, Any]:
    context = " ".join(sentence for sentence, _ in FACTS.values())
    asked: list[dict[str, Any]] = [
        {"id": name, "question": ASKED[name],
         "answers": [{"text": answer, "answer_start": context.index(answer)}]}
        for name, (_, answer) in FACTS.items()
    ]  # fmt: skip
    asked.append({"id": "none", "question": "Who is the mayor?", "is_impossible": True,
                  "answers": [], "plausible_answers": []})  # fmt: skip
    return {"version": "v2.0", "data": [{"title": "T", "paragraphs": [
        {"context": context, "qas": asked}]}]}  # fmt: skip


def test_squad_brings_its_documents_or_uses_a_collection(
    mynah: Run, questions: Path, out: Path, tmp_path: Path
) -> None:
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad()))
    code, _, errors = mynah("eval", path, "--out", out, "--mode", "answer")
    assert code == 0, errors
    report = read(out)
    assert report["question_set"]["num_documents"] == 1
    assert report["conditions"]["retrieved"]["figures"]["containment"]["mean"] == 1.0
    assert report["retrieval"]["groups"]["all"]["figures"]["recall@1"]["mean"] == 1.0
    assert mynah("ingest", questions.parent / "docs", "--collection", "hr")[0] == 0
    code, _, errors = mynah("eval", path, "--collection", "hr", "--out", out, "--mode", "answer")
    assert code == 0, errors
    report = read(out)
    assert report["question_set"]["num_documents"] == len(FACTS)
    assert report["question_set"]["unlocated"] == [], "the evidence is found in other documents"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--docs", "a", "--collection", "b"), 2, "not both"),
        (("--collection", "none"), 1, "none"),
        (("--docs", "a", "--fail-under", "recal@5=1"), 2, "did you mean recall@5"),
        (("--docs", "a", "--fail-over", "sentences"), 2, "--fail-over"),
        (("--docs", "a", "--conditions", "silver"), 2, "silver"),
        (("--docs", "a", "--compare", "none.json"), 1, "none.json"),
        (("--docs", "none"), 1, "none"),
        (("--docs", "a", "--mode", "off"), 2, "mode"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    mynah: Run, questions: Path, out: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    found, _, errors = mynah("eval", questions, "--out", out, *options)
    assert found == code
    assert said in errors
    assert errors.count("\n") == 1
    assert not (out / "eval.json").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "Why?"}', "line 2: the field 'answers' is missing"),
        ('{"answers": ["x"]}', "line 2: the field 'question' is missing"),
        ('{"question": "Why?", "answers": "x"}', "line 2: answers must be a list of texts"),
        ('{"question": "", "answers": ["x"]}', "line 2: the question must be a text"),
        ('{"question": "Why?", "answers": ["x"]', "line 2: not JSON"),
        ('["Why?"]', "line 2: a line must be one JSON object"),
        ('{"question": "Why?", "answers": ["x"], "history": ["a"]}', "line 2: history"),
        ('{"question": "Why?", "answers": ["x"], "id": "line-1"}', "line 2: the id 'line-1'"),
    ],
)
def test_a_line_that_is_wrong_is_named(mynah: Run, tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "Who?", "answers": ["x"]}\n' + line + "\n")
    code, _, errors = mynah("eval", path, "--docs", tmp_path)
    assert code == 1
    assert said in errors
    assert errors.count("\n") == 1


def test_drafts_are_written_once_and_can_be_measured(
    mynah: Run, questions: Path, out: Path, tmp_path: Path
) -> None:
    assert mynah("ingest", questions.parent / "docs", "--collection", "hr")[0] == 0
    drafted = tmp_path / "drafted.jsonl"
    code, printed, errors = mynah(
        "eval", "make", "--collection", "hr", "--num", 6, "--out", drafted
    )
    assert code == 0, errors
    assert "Review them" in printed
    rows = [json.loads(line) for line in drafted.read_text().splitlines()]
    assert rows
    assert all(row["reviewed"] is False for row in rows)
    code, _, errors = mynah("eval", "make", "--collection", "hr", "--out", drafted)
    assert code == 2
    assert "exists" in errors
    by_folder = tmp_path / "by-folder.jsonl"
    docs = questions.parent / "docs"
    assert mynah("eval", "make", "--docs", docs, "--num", 6, "--out", by_folder)[0] == 0
    assert by_folder.read_text() == drafted.read_text()
    code, printed, errors = mynah("eval", drafted, "--out", out, "--conditions", "none")
    assert code == 0, errors
    assert f"{len(rows)} of the questions are drafts that nobody has reviewed" in printed
    assert read(out)["retrieval"]["groups"]["all"]["figures"]["recall@10"]["mean"] == 1.0
    assert "nobody has\n  reviewed" in (out / "eval.html").read_text()


def test_nothing_to_draft_from_is_said(mynah: Run, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Nothing here reads as a rule\n")
    code, _, errors = mynah("eval", "make", "--docs", tmp_path / "docs", "--out", tmp_path / "q")
    assert code == 1
    assert "nothing drafted" in errors
    assert not (tmp_path / "q").exists()


@pytest.mark.slow
def test_a_real_engine_and_embedder_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], questions: Path, tiny_gguf: Path, out: Path
) -> None:
    code = cli.run(
        ["--data-dir", str(tmp_path / "data"), "eval", str(questions), "--mode", "quote",
         "--docs", str(questions.parent / "docs"), "--model", str(tiny_gguf), "--limit", "4",
         "--answer-tokens", "24", "--parallel", "2", "--out", str(out)]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    report = read(out)
    assert report["mode"] == "quote"
    assert report["model"]["name"] == "tiny"
    retrieved = report["conditions"]["retrieved"]["figures"]
    assert retrieved["supported"]["mean"] == 1.0, "quotes stand in their passages"
    assert retrieved["whole_p95_ms"]["mean"] > 0
