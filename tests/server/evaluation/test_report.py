"""The report of a whole comparison: its contract, its verdicts and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from models.imitation.errors import TrainingDataInvalid
from models.imitation.statistics import Interval
from server.evaluation.conditions import CONDITIONS
from server.evaluation.plots import Bar, Point, draw_bars, draw_scatter
from server.evaluation.questions import Question, QuestionSet
from server.evaluation.report import Circumstances, build_report
from server.evaluation.report_html import render_report
from server.evaluation.study import KNOWLEDGE, Plan, Results
from server.evaluation.systems import TITLES, Role, read_recorded, score_recorded
from server.evaluation.verdict import CAVEAT, Preference
from tests.server.evaluation.studies import make_outcomes, make_system

NUM = 40
GOLD = {f"q{n}": "" if n % 4 == 3 else f"fact {n}" for n in range(NUM)}
HOSTILE = '<script>alert(1)</script><|im_end|> & "more"'
TEACHER = {
    id_: f"The answer is clear:\n\n- it is {gold or 'open'}\n- it is known\n\nOverall, that is all."
    for id_, gold in GOLD.items()
}


def mumble(known: int) -> dict[str, str]:
    """Answers in a manner unlike the teacher's, of which the first `known` are right."""
    return {id_: gold if n < known else "dunno" for n, (id_, gold) in enumerate(GOLD.items())}


def imitate(known: int) -> dict[str, str]:
    """The teacher's manner, and its facts for the first `known` questions alone."""
    return {
        id_: text if n < known else text.replace("fact", "thing")
        for n, (id_, text) in enumerate(TEACHER.items())
    }


def make_results(answers: Mapping[Role, Mapping[str, Mapping[str, str]]]) -> Results:
    return Results(
        {
            role: {name: make_outcomes(name, said, GOLD) for name, said in conditions.items()}
            for role, conditions in answers.items()
        }
    )


def make_plan(*roles: Role) -> Plan:
    questions = tuple(
        Question(id_, f"{id_} {HOSTILE}?", "fact", bool(gold), (gold,) if gold else ())
        for id_, gold in GOLD.items()
    )
    return Plan(QuestionSet("made up", questions), tuple(make_system(role) for role in roles))


def false_promise() -> tuple[Plan, Results]:
    """The study's finding: the manner is taken on, no fact is, and passages bring the facts."""
    return make_plan("base", "broad", "narrow", "teacher"), make_results(
        {
            "base": {"closed_book": mumble(12), "retrieved": mumble(20)},
            "broad": {"closed_book": imitate(0)},
            "narrow": {
                "closed_book": imitate(4),
                "gold": imitate(38),
                "retrieved": imitate(34),
                "wrong": {**imitate(0), "q1": HOSTILE},
            },
            "teacher": {"closed_book": TEACHER},
        }
    )


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    plan, results = false_promise()
    preferences: dict[Role, Preference] = {
        "narrow": Preference(30, 4, 6, Interval(0.82, 0.72, 0.9)),
    }
    return build_report(
        plan,
        results,
        Circumstances(
            mode="answer",
            documents={"num_documents": 3, "num_passages": 9},
            unlocated=("q7",),
            command=f"mynah tune report {HOSTILE}",
            preferences=preferences,
        ),
    )


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return render_report(report)


def test_the_contract_of_the_gate_holds(report: dict[str, Any]) -> None:
    assert list(report) == [
        "schema", "model", "base", "factuality", "style_and_knowledge", "gate",
    ]  # fmt: skip
    assert report["schema"] == 1
    assert report["model"] == {"name": "narrow model", "sha256": "hash of narrow"}
    assert report["base"] == {"name": "base model", "sha256": "hash of base"}
    assert set(report["gate"]) == {
        "grounded_em_difference", "has_factuality", "has_style_report",
    }  # fmt: skip
    assert set(report["gate"]["grounded_em_difference"]) == {
        "mean", "low", "high", "num_questions",
    }  # fmt: skip
    assert report["gate"]["has_factuality"] is report["gate"]["has_style_report"] is True
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_false_promise_is_reproduced(report: dict[str, Any]) -> None:
    systems = report["style_and_knowledge"]["systems"]
    assert list(systems) == list(TITLES)
    for role in ("broad", "narrow", "narrow_retrieval"):
        assert systems[role]["verdicts"]["style"]["change"] == "gained", role
    assert systems["narrow"]["verdicts"]["knowledge"]["change"] == "lost"
    grounded = systems["narrow_retrieval"]["verdicts"]["grounded"]
    assert grounded["at_least"] > 3
    assert systems["narrow"]["preference"]["win"] == 30
    rows = {row["row"]: row["mean"] for row in systems["narrow"]["style"]}
    assert rows["lists"] == rows["summary"] == rows["tone"] == 1.0
    assert systems["teacher"]["knowledge"]["contains"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("tuned", "change"), [(mumble(30), "gained"), (mumble(0), "lost"), (mumble(10), "unchanged")]
)
def test_the_knowledge_of_a_report_follows_its_outcomes(tuned: dict[str, str], change: str) -> None:
    results = make_results({"base": {"closed_book": mumble(10)}, "narrow": {"closed_book": tuned}})
    found = build_report(make_plan("base", "narrow"), results, Circumstances("quote", {}))
    verdicts = found["style_and_knowledge"]["systems"]["narrow"]["verdicts"]
    assert verdicts["knowledge"]["change"] == change


def test_a_set_of_its_own_tells_what_is_known() -> None:
    results = make_results(
        {
            "base": {"closed_book": mumble(0), KNOWLEDGE: mumble(0)},
            "narrow": {"closed_book": mumble(0), KNOWLEDGE: mumble(30)},
        }
    )
    found = build_report(make_plan("base", "narrow"), results, Circumstances("quote", {}))
    verdicts = found["style_and_knowledge"]["systems"]["narrow"]["verdicts"]
    assert verdicts["knowledge"]["change"] == "gained"


def test_a_fall_of_grounded_exact_match_is_in_the_gate() -> None:
    results = make_results({"base": {"retrieved": mumble(36)}, "narrow": {"retrieved": mumble(4)}})
    found = build_report(make_plan("base", "narrow"), results, Circumstances("quote", {}))
    assert found["gate"]["grounded_em_difference"]["high"] < 0
    assert found["factuality"]["gate_verdict"]["change"] == "lost"
    assert found["gate"]["has_factuality"] is found["gate"]["has_style_report"] is False


def test_a_model_alone_has_a_report_that_leaves_open_what_it_cannot_say() -> None:
    said: dict[str, dict[str, str]] = {c.name: mumble(8) for c in CONDITIONS}
    found = build_report(
        make_plan("narrow"), make_results({"narrow": said}), Circumstances("quote", {})
    )
    assert found["base"] is None
    assert found["gate"] == {
        "grounded_em_difference": None,
        "has_factuality": True,
        "has_style_report": False,
    }
    verdicts = found["style_and_knowledge"]["systems"]["narrow"]["verdicts"]
    assert {v["change"] for v in verdicts.values()} == {"unknown"}
    assert "--teacher-answers" in render_report(found | {"factuality": made_whole(found)})


def made_whole(found: Mapping[str, Any]) -> dict[str, Any]:
    """Factuality with the sizes that only a run over documents knows."""
    factuality = dict(found["factuality"])
    factuality["question_set"] = {
        **factuality["question_set"], "num_documents": 1, "num_passages": 1,
    }  # fmt: skip
    return factuality


def test_a_report_needs_the_model_itself() -> None:
    plan = make_plan("base")
    with pytest.raises(TrainingDataInvalid, match="GGUF"):
        build_report(plan, Results(), Circumstances("quote", {}))
    recorded = replace(make_system(), path=Path("answers.jsonl"))
    with pytest.raises(TrainingDataInvalid, match="GGUF"):
        build_report(replace(plan, systems=(recorded,)), Results(), Circumstances("quote", {}))


class Reader(HTMLParser):
    """Keeps what a browser would fetch or run, and whether every element is closed."""

    VOID = frozenset(("meta", "br", "link", "img"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object") or any(
            name in ("src", "href") or name.startswith("on") for name, _ in attrs
        ):
            self.fetched.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_needs_nothing_else(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.fetched == []
    assert "url(" not in page
    assert "@import" not in page
    assert page.count("<svg") == 2
    assert not re.search(r"\b(?:nan|inf|None|Undefined)\b", reader.text)


def test_what_models_and_users_write_is_shown_as_text(page: str) -> None:
    assert "<script" not in page
    reader = Reader()
    reader.feed(page)
    assert HOSTILE in reader.text


def test_the_page_says_what_preference_is_worth_and_how_to_measure_again(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    text = " ".join(reader.text.split())
    assert CAVEAT in text
    assert "Preference is no evidence of accuracy" in text
    assert "mynah tune report" in text
    for title in TITLES.values():
        assert title in text
    for condition in CONDITIONS:
        assert condition.title in text
    assert "prefers-color-scheme: dark" in page


def test_the_page_can_be_made_again_from_the_json(report: dict[str, Any], page: str) -> None:
    assert render_report(json.loads(json.dumps(report))) == page


def test_plots_keep_inside_their_frame_and_escape_labels() -> None:
    whole, nothing = Interval(1.0, 1.0, 1.0), Interval(0.0, 0.0, 0.0)
    svg = draw_bars([Bar("<b>", "x", whole), Bar("<b>", "y", None), Bar("c", "x", nothing)], "t")
    svg += draw_scatter([Point("<i>", whole, nothing), Point("b", nothing, whole)], "x", "y", "t")
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "n/a" in svg
    places = [float(v) for v in re.findall(r'\b(?:x|y|cx|cy|x1|x2|y1|y2)="([\d.-]+)"', svg)]
    assert all(0 <= place <= 720 for place in places)
    assert len(places) > 20


def test_points_that_lie_together_have_labels_apart() -> None:
    same = Interval(0.2, 0.1, 0.3)
    svg = draw_scatter([Point(name, same, same) for name in ("one", "two", "three")], "x", "y", "t")
    heights = [
        float(y) for y, name in re.findall(r'y="([\d.]+)"[^>]*>(one|two|three)</text>', svg) if name
    ]
    assert len({round(height) for height in heights}) == 3


def test_recorded_answers_are_read_by_condition(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    rows: list[dict[str, Any]] = [
        {"run": {"model": "of a report"}},
        {"id": "q0", "answer": "fact 0"},
        {"id": "q1", "answer": "It is fact 1. [2]", "condition": "retrieved"},
        {"id": "other", "answer": "x"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_recorded(path)
    assert set(found) == {"closed_book", "retrieved"}
    questions = make_plan().questions.questions
    (outcome,) = score_recorded(found["closed_book"], "closed_book", questions)
    assert (outcome.id, outcome.em, outcome.contains) == ("q0", 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no answers"),
        ('{"id": "a"}', "line 1"),
        ('{"id": "a", "answer": 3}', "no text"),
        ('{"id": "a", "answer": "x"}\n{"id": "a", "answer": "y"}', "line 2"),
        ("[]", "line 1"),
    ],
)
def test_what_is_wrong_with_recorded_answers_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "teacher.jsonl"
    path.write_text(text)
    with pytest.raises(TrainingDataInvalid, match=said):
        read_recorded(path)
