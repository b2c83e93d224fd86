"""Every verdict, forced by made-up measurements: intervals decide, point values never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.errors import TrainingDataInvalid
from models.imitation.statistics import Interval
from models.imitation.style import StyleRow
from server.evaluation.figures import Figure, compare
from server.evaluation.verdict import (
    Preference,
    judge_gate,
    judge_grounding,
    judge_knowledge,
    judge_style,
    read_change,
    read_preference,
)
from tests.server.evaluation.studies import make_outcomes

NUM = 60
IDS = [f"q{n}" for n in range(NUM)]
GOLD = dict.fromkeys(IDS, "yes")


def knows(share: float) -> dict[str, str]:
    return {id_: "yes" if n < share * NUM else "no" for n, id_ in enumerate(IDS)}


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1))
def test_a_change_is_read_from_the_bounds_alone(
    mean: float, below: float, above: float, neutral: float
) -> None:
    interval = Interval(mean, mean - below, mean + above)
    change = read_change(interval, neutral)
    assert (change == "gained") == (interval.low > neutral)
    assert (change == "lost") == (interval.high < neutral)


@pytest.mark.parametrize(
    ("tuned", "base", "change"),
    [(0.8, 0.2, "gained"), (0.2, 0.8, "lost"), (0.5, 0.5, "unchanged"), (0.53, 0.5, "unchanged")],
)
def test_knowledge_follows_the_difference_of_exact_match(
    tuned: float, base: float, change: str
) -> None:
    difference = compare(
        make_outcomes("closed_book", knows(tuned), GOLD),
        make_outcomes("closed_book", knows(base), GOLD),
        "em_answerable",
    )
    verdict = judge_knowledge(difference)
    assert verdict.change == change
    assert f"{NUM} questions" in verdict.sentence


def test_a_large_difference_over_few_questions_is_no_verdict() -> None:
    few = {id_: GOLD[id_] for id_ in IDS[:3]}
    right = make_outcomes("closed_book", {"q0": "yes", "q1": "yes", "q2": "no"}, few)
    wrong = make_outcomes("closed_book", {"q0": "no", "q1": "no", "q2": "yes"}, few)
    difference = compare(right, wrong, "em_answerable")
    assert difference is not None
    assert difference.interval.mean == pytest.approx(1 / 3)
    assert judge_knowledge(difference).change == "unchanged"


def test_that_exact_match_cannot_tell_is_said() -> None:
    same = make_outcomes("closed_book", knows(0.0), GOLD)
    assert "tells little" in judge_knowledge(compare(same, same, "em_answerable")).sentence


def test_a_change_of_form_alone_is_told_apart_from_one_of_facts() -> None:
    """Sentences that hold the same facts match none of them exactly."""
    base = make_outcomes("closed_book", knows(0.5), GOLD)
    wordy = {id_: f"The answer is {said}." for id_, said in knows(0.5).items()}
    tuned = make_outcomes("closed_book", wordy, GOLD)
    verdict = judge_knowledge(
        compare(tuned, base, "em_answerable"), compare(tuned, base, "contains")
    )
    assert verdict.change == "lost"
    assert "form of the answers" in verdict.sentence
    both = compare(base, make_outcomes("closed_book", knows(0.0), GOLD), "em_answerable")
    assert "form of the answers" not in judge_knowledge(both, both).sentence


def preference(low: float, mean: float, high: float) -> Preference:
    return Preference(1, 2, 3, Interval(mean, low, high))


@pytest.mark.parametrize(
    ("low", "mean", "high", "change"),
    [
        (0.51, 0.6, 0.7, "gained"),
        (0.5, 0.6, 0.7, "unchanged"),
        (0.45, 0.9, 0.95, "unchanged"),
        (0.3, 0.4, 0.49, "lost"),
    ],
)
def test_style_follows_the_win_rate_where_there_is_one(
    low: float, mean: float, high: float, change: str
) -> None:
    # The style row says the opposite: it must not be heard.
    row = StyleRow("unigrams", Interval(-0.5, -0.6, -0.4), 10)
    assert judge_style(preference(low, mean, high), row).change == change


@pytest.mark.parametrize(
    ("low", "high", "change"),
    [(0.1, 0.3, "gained"), (-0.1, 0.3, "unchanged"), (-0.3, -0.1, "lost")],
)
def test_style_follows_a_row_where_nobody_judged(low: float, high: float, change: str) -> None:
    row = StyleRow("unigrams", Interval((low + high) / 2, low, high), 10)
    assert judge_style(None, row).change == change


def test_what_was_not_measured_is_unknown() -> None:
    assert judge_style(None, None).change == "unknown"
    assert "base" in judge_style(None, None).sentence
    assert "teacher" in judge_style(None, None, has_teacher=False).sentence
    assert judge_knowledge(None).change == judge_gate(None).change == "unknown"


@pytest.mark.parametrize(
    ("low", "high", "change"),
    [(-0.2, -0.01, "lost"), (-0.2, 0.0, "unchanged"), (0.01, 0.2, "gained")],
)
def test_the_gate_closes_on_a_clear_fall_alone(low: float, high: float, change: str) -> None:
    verdict = judge_gate(Figure(Interval((low + high) / 2, low, high), 40))
    assert verdict.change == change
    assert ("may not become the default" in verdict.sentence) == (change == "lost")


def test_grounding_over_a_closed_book_that_knows_something_is_a_ratio() -> None:
    gain = judge_grounding([1.0] * 80 + [0.0] * 20, [1.0] * 8 + [0.0] * 92)
    assert gain.ratio.mean == pytest.approx(81 / 9)
    assert gain.ratio.low == gain.at_least
    assert 4 < gain.at_least < 9
    assert gain.num_questions == 100


def test_grounding_over_a_closed_book_that_knows_nothing_has_an_honest_bound() -> None:
    gain = judge_grounding([1.0] * 75 + [0.0] * 75, [0.0] * 150)
    # 0 of 150 is compatible with up to 2.4 % (Clopper and Pearson), 75 of 150 with 42 %.
    assert gain.at_least == pytest.approx(gain.grounded.low / 0.02429, rel=0.01)
    assert 15 < gain.at_least < gain.ratio.mean
    assert "at least" in gain.sentence


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_gain_is_finite_whatever_was_right(hits: list[tuple[bool, bool]]) -> None:
    gain = judge_grounding([float(g) for g, _ in hits], [float(c) for _, c in hits])
    row = json.loads(json.dumps(gain.to_json(), allow_nan=False))
    assert row["at_least"] <= row["ratio"]["mean"] + 1e-9


def write(path: Path, **changes: Any) -> Path:
    row = {
        "win": 6,
        "loss": 2,
        "tie": 2,
        "win_rate_adjusted": 0.7,
        "interval": {"mean": 0.7, "low": 0.5, "high": 0.9},
        "flip_rate": 0.1,
    }
    path.write_text(json.dumps({**row, **changes}))
    return path


def test_a_judges_result_is_read_and_survives_json(tmp_path: Path) -> None:
    plain = read_preference(write(tmp_path / "judged.json"))
    assert plain == Preference(6, 2, 2, Interval(0.7, 0.5, 0.9))
    found = read_preference(write(tmp_path / "judged.json", both_bad=3, baseline="its base"))
    assert found == Preference(6, 2, 2, Interval(0.7, 0.5, 0.9), 3, "its base")
    assert "its base" in judge_style(found, None).sentence
    again = tmp_path / "again.json"
    again.write_text(json.dumps(found.to_json()))
    assert read_preference(again) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"win": None},
        {"interval": None},
        {"win_rate_adjusted": 0.95},
        {"interval": {"mean": 0.7, "low": 0.5, "high": 1.9}},
    ],
)
def test_what_is_no_result_of_a_judge_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = write(tmp_path / "judged.json", **changes)
    with pytest.raises(TrainingDataInvalid, match=r"judged\.json"):
        read_preference(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match=r"none\.json"):
        read_preference(tmp_path / "none.json")
