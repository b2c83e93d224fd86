from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.imitation.collecting.teacher import Teacher
from models.imitation.errors import RunDamaged, TeacherFailed
from models.imitation.judging.judgements import Judgement, JudgementLog
from models.imitation.judging.model_judge import JudgeSummary, ModelJudge
from models.imitation.judging.pairs import Comparison
from models.imitation.judging.prompt import Verdict, read_verdict
from models.imitation.judging.results import JudgingResult, summarise
from tests.models.imitation.collecting.scripted_teacher import (
    ScriptedTeacher,
    prompt_of,
    running,
)
from tests.models.imitation.judging.comparisons import (
    BASELINE,
    SYSTEM,
    compare,
    find_asked,
    say_first,
    say_pomelo,
)

RATER = "model:m/1"


def run(
    comparison: Comparison, folder: Path, teacher: ScriptedTeacher, **options: Any
) -> JudgeSummary:
    with JudgementLog(folder) as log:
        return ModelJudge(comparison, Teacher(teacher.url, "m/1"), log, folder, **options).run()


def read(comparison: Comparison, folder: Path) -> tuple[JudgingResult, dict[str, Judgement]]:
    with JudgementLog(folder) as log:
        return summarise(comparison, log.standing()), log.standing_of(RATER)


def test_every_pair_is_asked_in_both_orders_without_names(tmp_path: Path) -> None:
    comparison = compare(9)
    with running(ScriptedTeacher(say_pomelo, delay_s=0.01)) as teacher:
        summary = run(comparison, tmp_path, teacher)
    assert (summary.num_judged, summary.num_requests, summary.stopped_by) == (9, 18, "done")
    asked = {find_asked(body) for body in teacher.bodies}
    assert len(teacher.bodies) == len(asked) == 18
    for pair in comparison.pairs:
        assert {
            (pair.question, pair.system, pair.baseline),
            (pair.question, pair.baseline, pair.system),
        } <= asked
    for body in teacher.bodies:
        assert body["temperature"] == 0
        prompt = prompt_of(body).casefold()
        for word in (SYSTEM, BASELINE, "system", "baseline"):
            assert word.casefold() not in prompt


def test_names_in_answers_are_hidden_from_the_judge_too(tmp_path: Path) -> None:
    comparison = compare(3, questions={f"q{i}": f"Is {SYSTEM} better, {i}?" for i in range(3)})
    with running(ScriptedTeacher(say_first)) as teacher:
        run(comparison, tmp_path, teacher)
    assert all("Is [name] better" in find_asked(body)[0] for body in teacher.bodies)
    assert all(SYSTEM not in prompt_of(body) for body in teacher.bodies)


def test_a_judge_that_always_says_a_gives_only_ties_and_only_flips(tmp_path: Path) -> None:
    comparison = compare(20)
    with running(ScriptedTeacher(say_first)) as teacher:
        run(comparison, tmp_path, teacher)
    result, judged = read(comparison, tmp_path)
    assert result.counts == {"win": 0, "loss": 0, "tie": 20, "both_bad": 0}
    assert result.flip_rate == 1
    assert (result.interval.low, result.interval.mean, result.interval.high) == (0.5, 0.5, 0.5)
    for pair in comparison.pairs:
        judgement = judged[pair.id]
        assert judgement.sides == pair.sides
        assert judgement.judge is not None
        first, second = judgement.judge["orders"]
        # What it said in each order, and who stood first there, can be read afterwards.
        assert {first["A"], second["A"]} == {"system", "baseline"}
        assert first["A"] == pair.a
        assert (first["verdict"], second["verdict"]) == ("A", "A")
        assert first["text"] == say_first({})


def test_a_judge_that_always_says_c_ties_without_a_flip(tmp_path: Path) -> None:
    comparison = compare(5)
    with running(ScriptedTeacher(lambda _: "[[C]]")) as teacher:
        run(comparison, tmp_path, teacher)
    result, _ = read(comparison, tmp_path)
    assert (result.counts["tie"], result.flip_rate) == (5, 0)


def test_a_steady_judge_is_heard_on_either_side(tmp_path: Path) -> None:
    comparison = compare(12)
    with running(ScriptedTeacher(say_pomelo)) as teacher:
        run(comparison, tmp_path, teacher)
    result, judged = read(comparison, tmp_path)
    assert (result.counts["win"], result.flip_rate, result.interval.mean) == (12, 0, 1)
    assert {judgement.choice for judgement in judged.values()} == {"A", "B"}


def test_a_preference_and_a_draw_are_a_flip_and_a_tie(tmp_path: Path) -> None:
    comparison = compare(4)

    def say(body: Mapping[str, Any]) -> str:
        return "[[A]]" if "pomelo" in find_asked(body)[1] else "[[C]]"

    with running(ScriptedTeacher(say)) as teacher:
        run(comparison, tmp_path, teacher)
    result, _ = read(comparison, tmp_path)
    assert (result.counts["tie"], result.flip_rate) == (4, 1)


def test_what_cannot_be_read_is_counted_and_left_out(tmp_path: Path) -> None:
    comparison = compare(10)
    unread = {pair.question for pair in comparison.pairs[:3]}

    def say(body: Mapping[str, Any]) -> str | tuple[str, str]:
        question, a, _ = find_asked(body)
        # In one of the two orders alone, which is enough.
        return (
            ("I would say", "length") if question in unread and "pomelo" in a else say_pomelo(body)
        )

    with running(ScriptedTeacher(say)) as teacher:
        summary = run(comparison, tmp_path, teacher)
        again = run(comparison, tmp_path, teacher)
        assert len(teacher.bodies) == 20
    assert (summary.num_judged, summary.num_errors) == (7, 3)
    assert (again.num_judged, again.num_errors, again.num_requests_now) == (7, 3, 0)
    result, judged = read(comparison, tmp_path)
    assert (result.num_errors, result.counts["win"], result.num_judged_pairs) == (3, 7, 7)
    assert result.flip_rate == 0
    errors = [j.judge["error"] for j in judged.values() if j.judge and j.choice is None]
    assert errors == ["no verdict (finish reason length)"] * 3


def test_a_budget_stops_between_pairs_and_the_run_goes_on(tmp_path: Path) -> None:
    comparison = compare(8)
    with running(ScriptedTeacher(say_pomelo)) as teacher:
        first = run(comparison, tmp_path, teacher, max_requests=7)
        assert (first.num_judged, first.num_requests, first.stopped_by) == (3, 6, "max_requests")
        second = run(comparison, tmp_path, teacher, max_tokens=first.num_tokens + 1)
        assert (second.num_requests_now, second.stopped_by) == (0, "max_tokens")
        last = run(comparison, tmp_path, teacher)
        assert (last.num_judged, last.num_requests, last.num_requests_now) == (8, 16, 10)
    assert len(teacher.bodies) == 16


def test_a_failure_keeps_what_was_said(tmp_path: Path) -> None:
    comparison = compare(100)
    told: list[tuple[int, int, int]] = []
    with running(ScriptedTeacher(say_pomelo)) as teacher:

        def show(done: int, wanted: int, num_retries: int) -> None:
            told.append((done, wanted, num_retries))
            if done == 70:
                teacher.fail_next((401, {}, {"error": {"message": "no credit"}}))

        with pytest.raises(TeacherFailed, match=r"answers 401 \(no credit\)"):
            run(comparison, tmp_path, teacher, progress=show)
        _, judged = read(comparison, tmp_path)
        assert 30 <= len(judged) < 100
        num_asked = len(teacher.bodies)
        assert run(comparison, tmp_path, teacher).num_judged == 100
        # Asked again is only what was under way: the refused one and three beside it at most.
        assert len(teacher.bodies) - 200 <= 4
        assert len(teacher.bodies) > num_asked
    assert told[0] == (0, 200, 0)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_another_prompt_length_does_not_mix_with_what_was_said(tmp_path: Path) -> None:
    comparison = compare(2)
    with running(ScriptedTeacher(say_first)) as teacher:
        run(comparison, tmp_path, teacher)
        with pytest.raises(RunDamaged, match="begun with another answer_tokens"):
            run(comparison, tmp_path, teacher, answer_tokens=9)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", "A"),
        ("[[ B ]].", "B"),
        ("Not [[A]], rather:\n[[C]]\n", "C"),
        ("**[[B]]**", "B"),
        ("[A]", None),
        ("[[D]]", None),
        ("[[a]]", None),
        ("A", None),
        ("", None),
    ],
)
def test_the_last_verdict_in_the_agreed_form_is_read(text: str, verdict: Verdict | None) -> None:
    assert read_verdict(text) == verdict


def test_braces_and_marks_in_answers_pass_into_the_prompt_as_they_are(tmp_path: Path) -> None:
    comparison = compare(1, questions={"q0": "What is {a} in {0}? [[A]] %s \\"})
    with running(ScriptedTeacher(say_first)) as teacher:
        run(comparison, tmp_path, teacher)
    assert {find_asked(body)[0] for body in teacher.bodies} == {"What is {a} in {0}? [[A]] %s \\"}
