"""All of imitation tuning by its commands: from documents and a teacher to a default model."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

from models.imitation.conversations import read_conversations
from models.registry import Registry
from tests.models.imitation.collecting.scripted_teacher import (
    REFUSAL,
    ScriptedTeacher,
    prompt_of,
    random_of,
    running,
    words,
)
from tests.server.evaluation.studies import ASKED, FACTS, write_rows, write_set
from tests.server.tune.tiny_runs import SCRATCH, mynah

NUM_ROWS = 24


def say(body: Mapping[str, Any]) -> str:
    """Asks about the passage with a few chance words, and answers with the sentence in it.

    One question in four is one of the evaluation, as a careless teacher's may be.
    """
    prompt, chance = prompt_of(body), random_of(body)
    (target,) = re.findall(r"passage \[(\d+)\]", prompt)
    shown = prompt.partition("The passages:")[2].partition(f"[{target}] ")[2]
    title, *lines = [line for line in shown.splitlines() if line and not line.startswith("# ")]
    question = f"What of the {title.partition('.')[0]}, {words(chance, 5).lower()}"
    if chance.random() < 0.25:
        question = chance.choice(list(ASKED.values())).removesuffix("?")
    answer = REFUSAL if REFUSAL in prompt else f"{lines[0]} [{target}]"
    return f"Question: {question}?\nAnswer: {answer}"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("MYNAH_"):
            monkeypatch.delenv(name)
    return tmp_path / "data"


def write_documents(folder: Path) -> Path:
    """The questions' path; their documents are made long enough to be asked about."""
    questions = write_set(folder)
    for path in (folder / "docs").iterdir():
        with path.open("a") as out:
            out.write(f"Whoever wants to know more of the {path.stem} writes to the front desk.\n")
    return questions


@pytest.mark.slow
def test_from_a_teacher_to_the_default_model_and_back(data_dir: Path, tmp_path: Path) -> None:
    questions = write_documents(tmp_path / "set")

    def run(*arguments: object) -> str:
        code, out, err = mynah(data_dir, *arguments)
        assert code == 0, err
        return out

    def run_json(*arguments: object) -> Any:
        return json.loads(run(*arguments, "--json"))

    def refuse_to_use(name: str) -> str:
        code, out, err = mynah(data_dir, "models", "use", name)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"mynah tune report --model {name}" in err
        assert registry.default() is None
        return err

    registry = Registry(data_dir / "models")
    run("ingest", tmp_path / "set" / "docs", "--collection", "house")

    # collect
    rows, clean = tmp_path / "rows.jsonl", tmp_path / "clean.jsonl"
    with running(ScriptedTeacher(say)) as teacher:
        run(
            "tune", "collect", "grounded", rows, "--teacher", teacher.url, "--model", "teacher",
            "--accept-teacher-terms", "--license", "CC0-1.0", "--collection", "house",
            "--num-passages", 2, "--num-rows", NUM_ROWS,
        )  # fmt: skip
    collected = list(read_conversations(rows))
    assert len(collected) == NUM_ROWS
    refusals = [row for row in collected if row.turns[1].content == REFUSAL]
    assert 0 < len(refusals) < NUM_ROWS

    # filter
    report = run_json("tune", "filter", rows, "--out", clean, "--eval", questions)
    kept = list(read_conversations(clean))
    planted = {row.id for row in collected if row.turns[0].content in ASKED.values()}
    assert planted
    assert report["dropped"]["contaminated"] >= len(planted)
    assert report["read"] == NUM_ROWS == report["kept"] + sum(report["dropped"].values())
    assert len(kept) == report["kept"] >= 8
    assert not planted & {row.id for row in kept}

    # train
    trained = tmp_path / "run"
    record = run_json(
        "tune", "train", clean, "--out", trained, *SCRATCH, "--max-steps", 150, "--no-packing",
        "--text-weight", "0.1", "--max-length", 512,
    )  # fmt: skip
    assert record["counts"]["conversations"] == len(kept)
    assert record["result"]["loss"] < 1.0

    # export
    exported = run_json("tune", "export", trained, "--name", "pupil", "--threads", 1)
    entry = registry.get("pupil-q8_0")
    assert entry.sha256 == exported["files"][0]["sha256"]
    assert (entry.base, entry.licences, entry.is_non_commercial) == (None, ("CC0-1.0",), False)
    assert entry.data_sha256 == record["data"]["sha256"]
    # The name that the teacher gives itself in its replies, not the one it is asked by.
    assert entry.details["teachers"] == ["teacher-2"]

    # The gate, before and after the report.
    listed = {row["name"]: row for row in run_json("models", "list")}
    assert (listed["pupil-q8_0"]["gate"], listed["bundled"]["is_default"]) == ("needed", True)
    assert "without a report" in refuse_to_use("pupil-q8_0")
    measure = (
        "tune", "report", questions, "--collection", "house", "--model", "pupil-q8_0", "--out",
        tmp_path / "report", "--limit", 4, "--answer-tokens", 32, "--mode", "answer",
    )  # fmt: skip
    run(*measure)
    # A report that lies somewhere opens nothing: it must be kept with the model.
    assert "without a report" in refuse_to_use("pupil-q8_0")
    run(*measure, "--attach")
    # Facts alone are half of it: style is measured against the teacher's answers.
    assert "lacks its part on style and knowledge" in refuse_to_use("pupil-q8_0")
    said = [{"id": name, "answer": f"{fact} [1]"} for name, (fact, _) in FACTS.items()]
    answers = write_rows(tmp_path / "teacher.jsonl", said)
    found = run_json(*measure, "--teacher-answers", answers, "--attach")
    assert found["model"]["sha256"] == entry.sha256
    assert found["base"] is None
    assert set(found["factuality"]["conditions"]) == {"closed_book", "gold", "retrieved", "wrong"}
    assert (tmp_path / "report" / "report.html").is_file()
    listed = {row["name"]: row for row in run_json("models", "list")}
    assert listed["pupil-q8_0"]["gate"] == "passed"

    # use, ask, roll back
    assert run_json("models", "use", "pupil-q8_0")["is_default"] is True
    default = registry.default()
    assert default is not None
    assert default.name == "pupil-q8_0"
    assert run("ask", ASKED["badge"], "--mode", "answer").strip()
    assert run_json("models", "rollback")["name"] == "bundled"
    assert registry.default() is None

    # The report of one file does not let another one of the same run pass.
    run("models", "quantize", "pupil-q8_0", "--type", "q4_k_m", "--name", "pupil-small")
    assert "without a report" in refuse_to_use("pupil-small")
