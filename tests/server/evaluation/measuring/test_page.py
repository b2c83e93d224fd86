"""A whole measurement over a small handbook: its JSON, its page, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.imitation.errors import TrainingDataInvalid
from server.evaluation.measuring.comparison import compare_reports, read_report
from server.evaluation.measuring.failures import REASONS, find_reason
from server.evaluation.measuring.page import render_measurement
from server.evaluation.measuring.report import CHECKER, Circumstances, build_measurement
from server.evaluation.measuring.retrieval import RetrievalRow, measure_retrieval
from server.evaluation.measuring.thresholds import read_thresholds
from server.evaluation.outcomes import Outcome, Quote
from server.evaluation.pages import show_number
from server.evaluation.questions import Question, QuestionSet
from server.evaluation.study import Plan, Results
from tests.server.evaluation.studies import (
    FACTS,
    OneSlotEngine,
    make_outcomes,
    make_system,
    perfect_engine,
    read_passages,
    run,
)
from tests.server.evaluation.test_report import HOSTILE, Reader

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def measure_study(folder: Path, engine: OneSlotEngine, *, mode: str = "answer") -> dict[str, Any]:
    system = make_system("model")
    plan, results, material = run(folder, {"model": engine}, systems=(system,))
    rows = measure_retrieval(
        plan.questions.questions, material.pool, material.retriever, lambda _done, _num: None
    )
    documents = {"num_documents": 6, "num_passages": 6}
    circumstances = Circumstances(mode, documents, command="mynah eval q.jsonl", num_cores=2)
    return build_measurement(plan, system, results, rows, circumstances)


class Forgetful:
    """Reads as well as the perfect reader but for two facts, which it answers with another."""

    def __call__(self, prompt: str) -> str:
        said = read_passages(prompt)
        if said in (FACTS["badge"][0], FACTS["dog"][0]):
            return FACTS["train"][0]
        return said


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    engine = perfect_engine()
    assert isinstance(engine, OneSlotEngine)
    return measure_study(tmp_path_factory.mktemp("perfect"), engine)


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return measure_study(tmp_path_factory.mktemp("forgetful"), OneSlotEngine(Forgetful()))


@pytest.fixture(scope="module")
def compared(perfect: dict[str, Any], forgetful: dict[str, Any]) -> dict[str, Any]:
    report = {**forgetful, "comparison": compare_reports(forgetful, perfect)}
    bounds = read_thresholds("recall@5=0.9,containment=0.9,mrr=0.1")
    return {**report, "thresholds": [bound.check(report) for bound in bounds]}


@pytest.fixture(scope="module")
def page(compared: dict[str, Any]) -> str:
    return render_measurement(compared)


def means(report: dict[str, Any], condition: str) -> dict[str, float]:
    figures = report["conditions"][condition]["figures"]
    return {name: figure["mean"] for name, figure in figures.items()}


def test_a_perfect_reader_has_perfect_figures(perfect: dict[str, Any]) -> None:
    for condition in ("gold", "retrieved"):
        found = means(perfect, condition)
        for name in (
            "containment", "strict", "abstention_recall", "abstention_precision", "support",
            "supported", "citation_recall", "citation_precision", "cites_evidence",
            "evidence_shown", "sentences",
        ):  # fmt: skip
            assert found[name] == 1.0, name
        assert found["false_abstention"] == 0.0
        assert 0 < found["first_token_p50_ms"] <= found["whole_p50_ms"] <= found["whole_p95_ms"]
    closed = means(perfect, "closed_book")
    assert closed["containment"] == 0.0
    assert closed["abstention_precision"] == pytest.approx(1 / 7)
    assert "support" not in closed
    assert "search_p50_ms" not in closed
    search = perfect["retrieval"]["groups"]
    assert list(search) == ["all", "stand_alone"], "no question follows up on another"
    assert search["all"]["figures"]["recall@5"]["mean"] == 1.0
    assert search["all"]["found_by_rank"][-1] == 1.0
    assert perfect["failures"] == []


def test_a_report_is_json_and_its_rows_are_read_again(
    perfect: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(perfect, allow_nan=False))
    again = read_report(path)
    assert again == perfect
    comparison = compare_reports(again, perfect)
    assert comparison["num_common"] == 7
    assert comparison["num_better"] == comparison["num_worse"] == 0
    for section in comparison["sections"]:
        assert all(row["difference"]["mean"] == 0.0 for row in section["rows"])


def test_failures_say_where_it_went_wrong(forgetful: dict[str, Any]) -> None:
    failures = {row["id"]: row for row in forgetful["failures"]}
    assert set(failures) == {"badge", "dog"}
    row = failures["badge"]
    assert row["reason"] == "wrong_choice"
    assert row["expected"] == [["12 euros"]]
    assert row["evidence"] == [{"doc": "badge.md", "text": FACTS["badge"][0]}]
    assert FACTS["train"][0] in row["answer"]
    assert row["answer_with_evidence"] is not None


def make_outcome(**changes: Any) -> Outcome:
    (outcome,) = make_outcomes("retrieved", {"q": "x"}, {"q": "y"})
    return replace(outcome, **changes)


@pytest.mark.parametrize(
    ("changes", "rank", "reason"),
    [
        ({"strict": 1.0}, 0, None),
        ({"decision": "failed"}, 1, "failed"),
        ({"gold_shown": 0.0}, 0, "not_found"),
        ({"gold_shown": 0.0}, 9, "not_read"),
        ({"gold_shown": 0.0, "abstained": 1.0}, 9, "not_read"),
        ({"gold_shown": 1.0, "abstained": 1.0}, 1, "declined"),
        ({"gold_shown": 1.0, "cites_gold": 1.0}, 1, "variant"),
        ({"gold_shown": 1.0, "cites_gold": 0.0}, 1, "wrong_choice"),
        ({}, None, "other"),
        ({"abstained": 1.0}, None, "other"),
        ({"is_answerable": False, "strict": None}, None, "made_up"),
        ({"is_answerable": False, "strict": None, "abstained": 1.0}, None, None),
    ],
)
def test_the_cause_is_the_first_thing_that_went_wrong(
    changes: dict[str, Any], rank: int | None, reason: str | None
) -> None:
    row = RetrievalRow("q", "fact", False, rank=rank)
    assert find_reason(make_outcome(**changes), row) == reason
    assert reason is None or reason in REASONS


def find_figures(value: Any) -> Iterator[dict[str, float]]:
    """Every figure with an interval in a JSON value, whatever holds it."""
    if isinstance(value, dict):
        if {"mean", "low", "high"} <= set(value):
            yield value
        for inner in value.values():
            yield from find_figures(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from find_figures(inner)


def read_text(page: str) -> str:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.fetched == []
    return " ".join(reader.text.replace("−", "-").split())


def test_the_page_shows_every_figure_of_the_json(compared: dict[str, Any], page: str) -> None:
    text = read_text(page)
    figures = list(find_figures(compared))
    assert len(figures) > 100
    for figure in figures:
        for bound in ("mean", "low", "high"):
            assert show_number(abs(figure[bound])) in text, figure
    for row in compared["thresholds"]:
        assert f"{row['kind']} {row['bound']}" in text
    for condition in compared["conditions"].values():
        assert condition["title"] in text
    for share in compared["retrieval"]["groups"]["all"]["found_by_rank"]:
        assert f"{share:.3f}" in page


def test_the_page_needs_nothing_else_and_is_whole(page: str) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "prefers-color-scheme: dark" in page
    text = read_text(page)
    assert not re.search(r"\b(?:nan|inf|None|Undefined)\b", text)
    assert CHECKER in text
    assert "ALCE" in text
    assert "mynah eval q.jsonl" in text
    assert page.count("<svg") == 4


def test_the_page_lists_failures_with_what_a_user_needs(page: str) -> None:
    text = read_text(page)
    assert REASONS["wrong_choice"][0] in text
    assert REASONS["not_found"][0] not in text
    for part in ("What does a lost badge cost at the lobby?", "12 euros", "badge.md", "train.md"):
        assert part in text


def test_texts_of_models_and_documents_are_shown_as_text() -> None:
    question = Question("h", HOSTILE, HOSTILE, True, (HOSTILE,), (), (HOSTILE,), (), (HOSTILE,))
    (outcome,) = make_outcomes("retrieved", {"h": HOSTILE}, {"h": "gold"})
    outcome = replace(outcome, kind=HOSTILE, quotes=(Quote(1, HOSTILE, None, HOSTILE),))
    plan = Plan(QuestionSet(HOSTILE, (question,)), (make_system("model"),))
    report = build_measurement(
        plan, plan.systems[0], Results({"model": {"retrieved": [outcome]}}), [],
        Circumstances("quote", command=HOSTILE),
    )  # fmt: skip
    page = render_measurement(report)
    assert "<script" not in page
    reader = Reader()
    reader.feed(page)
    assert reader.text.count(HOSTILE) >= 6


def test_a_measurement_of_the_search_alone_is_a_page_too(perfect: dict[str, Any]) -> None:
    report = {**perfect, "conditions": {}, "failures": []}
    text = read_text(render_measurement(report))
    assert "recall@5" in text
    assert "four ways" not in text


def test_verdicts_follow_the_paired_difference(compared: dict[str, Any]) -> None:
    comparison = compared["comparison"]
    rows = {
        row["metric"]: row
        for section in comparison["sections"]
        if section["name"] == "retrieved"
        for row in section["rows"]
    }
    assert rows["containment"]["difference"]["mean"] == pytest.approx(-2 / 6)
    assert rows["containment"]["this"]["mean"] == pytest.approx(4 / 6)
    assert rows["containment"]["verdict"] == "no difference shown", "two of six may be chance"
    assert rows["false_abstention"]["verdict"] == "no difference shown"


def make_run(num_right: int, *, answers: str = "fact") -> dict[str, Any]:
    gold = {f"q{n}": f"{answers} {n}" for n in range(40)}
    said = {id_: gold[id_] if n < num_right else "dunno" for n, id_ in enumerate(gold)}
    questions = tuple(Question(id_, f"{id_}?", "fact", True, (gold[id_],)) for id_ in gold)
    plan = Plan(QuestionSet("made up", questions), (make_system("model"),))
    results = Results({"model": {"retrieved": make_outcomes("retrieved", said, gold)}})
    return build_measurement(plan, plan.systems[0], results, [], Circumstances("quote"))


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [(30, 20, "better"), (20, 30, "worse"), (21, 20, "no difference shown")],
)
def test_a_clear_change_is_told_from_chance(mine: int, theirs: int, verdict: str) -> None:
    comparison = compare_reports(make_run(mine), make_run(theirs))
    (section,) = comparison["sections"]
    rows = {row["metric"]: row["verdict"] for row in section["rows"]}
    assert rows["containment"] == rows["em"] == rows["f1"] == verdict


def test_only_equal_questions_are_compared() -> None:
    with pytest.raises(TrainingDataInvalid, match="no question in common"):
        compare_reports(make_run(3), make_run(3, answers="other"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"conditions": {}, "retrieval": {}}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(TrainingDataInvalid, match=r"other\.json"):
        read_report(path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no browser on this machine")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(page: str, tmp_path: Path, scheme: str) -> None:
    """The whole page is laid out at two widths, and nothing is asked for over the network."""
    path = tmp_path / "eval.html"
    path.write_text(page, encoding="utf-8")
    for width in (1200, 480):
        shot = tmp_path / f"{width}.png"
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},2400",
            f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
            f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert shot.read_bytes().startswith(b"\x89PNG")
        assert shot.stat().st_size > 40_000, "an empty page is a few kilobytes"
