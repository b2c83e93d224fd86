"""`mynah tune judge` as a command: pairs, a judging model, the result that the report reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.imitation.judging.judgements import JudgementLog
from models.imitation.judging.pairs import read_comparison
from server import cli
from server.evaluation.verdict import CAVEAT, judge_style, read_preference
from tests.models.imitation.collecting.scripted_teacher import ScriptedTeacher, running
from tests.models.imitation.judging.comparisons import judge as keep_outcomes
from tests.models.imitation.judging.comparisons import say_first, say_pomelo

Run = Callable[..., tuple[int, str, str]]

NUM = 12
KEY = "sk-secret-1234567890"


@pytest.fixture
def judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs the command over one folder; exit code, output, errors."""
    for name in list(os.environ):
        if name.startswith("MYNAH_"):
            monkeypatch.delenv(name)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        given = ["--data-dir", tmp_path / "data", "tune", "judge", tmp_path / "cmp", *arguments]
        code = cli.run(list(map(str, given)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def write_answers(path: Path, mark: str, num: int = NUM, **row: Any) -> Path:
    rows = [
        {"id": f"q{i}", "question": f"What is {i}?", "answer": f"It is {mark}, {i}.", **row}
        for i in range(num)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    system = write_answers(tmp_path / "tuned.jsonl", "surely a pomelo")
    baseline = write_answers(tmp_path / "base.jsonl", "medlar", NUM + 1)
    return ["--system", str(system), "--baseline", str(baseline)]


@pytest.fixture
def first_judge() -> Iterator[ScriptedTeacher]:
    with running(ScriptedTeacher(say_first)) as teacher:
        yield teacher


def model_of(teacher: ScriptedTeacher, name: str = "m") -> list[str]:
    return ["--judge-url", teacher.url, "--judge-model", name]


def test_pairs_are_made_once_and_found_again(judge: Run, files: list[str], tmp_path: Path) -> None:
    code, out, err = judge(*files)
    assert (code, err) == (0, "")
    assert out.startswith(f"{NUM} pairs of tuned and base stand in {tmp_path / 'cmp'}; 1 answers")
    assert "Next: --page" in out
    code, out, _ = judge("--json")
    assert (code, json.loads(out)) == (
        0,
        {
            "folder": str(tmp_path / "cmp"),
            "system": "tuned",
            "baseline": "base",
            "seed": 0,
            "num_pairs": NUM,
            "num_unpaired": 1,
            "num_hidden": 0,
        },
    )
    code, out, err = judge(*files, "--seed", "3")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "name another folder" in err


def test_names_and_words_are_hidden_and_told(judge: Run, files: list[str], tmp_path: Path) -> None:
    code, out, _ = judge(*files, "--system-name", "Quetzal", "--hide", "medlar", "--limit", "5")
    assert code == 0
    assert "In 5 of them raters read [name] in the place of a word" in out
    assert "(Quetzal, base, medlar)" in out
    comparison = read_comparison(tmp_path / "cmp")
    assert len(comparison.pairs) == 5
    assert all("medlar" not in str(comparison.show(pair)) for pair in comparison.pairs)


def test_questions_come_from_a_file_where_answers_do_not_say(judge: Run, tmp_path: Path) -> None:
    system = write_answers(tmp_path / "a.jsonl", "x", 2, question=None)
    baseline = write_answers(tmp_path / "b.jsonl", "y", 2, question=None)
    given = ["--system", system, "--baseline", baseline]
    code, _, err = judge(*given)
    assert (code, err.count("\n")) == (1, 1)
    assert "give the questions with --questions FILE" in err
    asked = tmp_path / "questions.jsonl"
    asked.write_text(
        "".join(
            json.dumps({"id": f"q{i}", "question": f"Why {i}?", "answers": ["z"]}) + "\n"
            for i in range(2)
        )
    )
    assert judge(*given, "--questions", asked)[0] == 0
    pairs = read_comparison(tmp_path / "cmp").pairs
    assert {pair.question for pair in pairs} == {"Why 0?", "Why 1?"}


def test_a_judge_that_always_says_a_ties_and_flips_everything(
    judge: Run, files: list[str], first_judge: ScriptedTeacher, tmp_path: Path
) -> None:
    code, out, err = judge(*files, *model_of(first_judge), "--results")
    assert (code, err) == (0, "")
    assert f"model:m has judged {NUM} of {NUM} pairs in both orders: {2 * NUM} requests" in out
    assert "The order of the answers changed 100.0% of the verdicts." in out
    assert "win rate 0.500 (0.500 to 0.500)" in out
    assert CAVEAT in out
    row = json.loads((tmp_path / "cmp" / "result.json").read_text())
    assert (row["win"], row["loss"], row["tie"]) == (0, 0, NUM)
    assert (row["flip_rate"], row["parse_errors"]) == (1, 0)
    preference = read_preference(tmp_path / "cmp" / "result.json")
    assert (preference.num_tied, preference.interval.mean, preference.baseline) == (
        NUM,
        0.5,
        "base",
    )
    assert judge_style(preference, None).change == "unchanged"


def test_the_report_reads_the_result_of_a_steady_judge(
    judge: Run, files: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "steady.json"
    with running(ScriptedTeacher(say_pomelo)) as teacher:
        code, said, _ = judge(*files, *model_of(teacher), "--results", "--out", out, "--json")
    assert code == 0
    assert json.loads(said) == json.loads(out.read_text())
    preference = read_preference(out)
    assert (preference.num_won, preference.num_lost, preference.num_tied) == (NUM, 0, 0)
    assert preference.to_json()["win_rate_adjusted"] == 1
    assert judge_style(preference, None).change == "gained"
    # "It is surely a pomelo" has two words more than "It is medlar".
    assert json.loads(said)["mean_length_difference"] == 2
    assert not (tmp_path / "cmp" / "result.json").exists()


def test_people_and_a_model_are_told_apart_and_their_agreement_is_shown(
    judge: Run, files: list[str], first_judge: ScriptedTeacher, tmp_path: Path
) -> None:
    folder = tmp_path / "cmp"
    judge(*files, *model_of(first_judge))
    comparison = read_comparison(folder)
    keep_outcomes(comparison, folder, "Ana", ["win", "win", "loss", "loss", "tie", "both_bad"])
    keep_outcomes(comparison, folder, "Ben", ["win", "win", "loss", "tie", "win", "tie"])
    code, out, _ = judge("--results")
    assert code == 0
    # By hand: 3 of 6 alike, p_e = 10/36, kappa 4/13.
    assert "Ana and Ben agree on 50.0% of 6 pairs, kappa 0.31." in out
    assert "Not counted: model:m; --rater NAME counts whom it names." in out
    row = json.loads((folder / "result.json").read_text())
    assert [rater["name"] for rater in row["raters"]] == ["Ana", "Ben"]
    assert (row["win"], row["loss"], row["tie"], row["both_bad"]) == (5, 3, 3, 1)
    assert row["win_rate_adjusted"] == pytest.approx(7 / 12)
    assert read_preference(folder / "result.json").num_both_bad == 1
    assert row["agreement"]["pairs"][0]["kappa"] == pytest.approx(4 / 13)
    code, out, _ = judge("--results", "--rater", "model:m", "--json")
    assert (code, json.loads(out)["tie"]) == (0, NUM)


def test_unread_verdicts_are_counted_and_without_any_other_the_command_fails(
    judge: Run, files: list[str]
) -> None:
    with running(ScriptedTeacher(lambda _: "I cannot decide.")) as teacher:
        code, out, err = judge(*files, *model_of(teacher))
        assert (code, err) == (1, "")
        assert f"Of {NUM} pairs no verdict could be read; they count for nothing." in out
        code, _, err = judge(*model_of(teacher), "--results")
        assert (code, err.count("\n")) == (1, 1)
        assert "no verdict of model:m could be read" in err
        assert len(teacher.bodies) == 2 * NUM


def test_a_budget_says_how_to_go_on(
    judge: Run, files: list[str], first_judge: ScriptedTeacher
) -> None:
    code, out, _ = judge(*files, *model_of(first_judge), "--max-requests", "5")
    assert code == 0
    assert f"has judged 2 of {NUM} pairs" in out
    assert "Stopped at --max-requests; raise it" in out
    code, out, _ = judge(*model_of(first_judge), "--json")
    summary = json.loads(out)
    assert (summary["num_judged"], summary["num_requests_now"]) == (NUM, 2 * NUM - 4)
    assert len(first_judge.bodies) == 2 * NUM


def test_a_judge_elsewhere_needs_its_terms_accepted(
    judge: Run, files: list[str], tmp_path: Path
) -> None:
    code, _, err = judge(*files, "--judge-url", "https://judge.example/v1", "--judge-model", "m")
    assert (code, err.count("\n")) == (1, 1)
    assert "judge.example" in err
    assert "--accept-teacher-terms" in err
    with JudgementLog(tmp_path / "cmp") as log:
        assert log.standing() == {}


def test_the_key_is_sent_and_written_nowhere(
    judge: Run,
    files: list[str],
    first_judge: ScriptedTeacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MYNAH_TEACHER_API_KEY", KEY)
    judge(*files, *model_of(first_judge, "org/m 1"))
    assert set(first_judge.keys) == {f"Bearer {KEY}"}
    first_judge.fail_next((401, {}, {"error": {"message": f"Unknown key {KEY}"}}))
    code, out, err = judge(*model_of(first_judge, "other"))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "The judge cannot go on: The teacher at" in err
    assert "the same command goes on" in err
    assert KEY not in err
    for path in (tmp_path / "cmp").iterdir():
        assert KEY not in path.read_text()
    # A name with a slash makes no folder.
    assert all(path.is_file() for path in (tmp_path / "cmp").iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "there are no pairs in"),
        (["--results"], 1, "there are no pairs in"),
        (["--page"], 1, "there are no pairs in"),
        (["--system", "FILE"], 2, "--system"),
        (["--system", "FILE", "--baseline", "FILE"], 1, "both systems are called a"),
        (["--system", "FILE", "--baseline", "none"], 1, "cannot read none: No such file"),
        (["--system", "FILE", "--baseline", "BROKEN"], 1, "line 1: not JSON"),
        (["--seed", "1"], 2, "--seed"),
        (["--port", "1"], 2, "it needs --page"),
        (["--judge-model", "m"], 2, "it needs --judge-url"),
        (["--judge-url", "http://127.0.0.1:9/v1"], 2, "name the judging model"),
        (["--rater", "Ana"], 2, "it needs --results"),
        (["--page", "--results"], 2, "leave --judge-url, --results and --json away"),
        (["PAIRS", "--results"], 1, "nobody has judged yet"),
        (["PAIRS", "--results", "--rater", "Ben"], 1, "nobody has judged yet"),
        (["PAIRS", "--judge-url", "nowhere", "--judge-model", "m"], 1, "no address of an endpoint"),
        (["PAIRS", "--page", "--host", "0.0.0.0"], 1, "there are no API keys"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], code: int, message: str, judge: Run, files: list[str], tmp_path: Path
) -> None:
    names = {"FILE": write_answers(tmp_path / "a.jsonl", "x"), "BROKEN": tmp_path / "broken.jsonl"}
    names["BROKEN"].write_text("{\n")
    if arguments[:1] == ["PAIRS"]:
        judge(*files)
        arguments = arguments[1:]
    result, out, err = judge(*[str(names.get(argument, argument)) for argument in arguments])
    assert (result, out) == (code, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_result_that_cannot_be_written_is_one_line(
    judge: Run, files: list[str], first_judge: ScriptedTeacher, tmp_path: Path
) -> None:
    judge(*files, *model_of(first_judge))
    code, _, err = judge("--results", "--out", tmp_path / "none" / "result.json")
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot write" in err
