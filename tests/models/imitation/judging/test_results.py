from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.errors import TrainingDataInvalid
from models.imitation.judging.judgements import Judgement, JudgementLog, Outcome
from models.imitation.judging.pairs import Comparison, other
from models.imitation.judging.results import (
    OUTCOMES,
    JudgingResult,
    adjusted_win_rate,
    summarise,
)
from tests.models.imitation.judging.comparisons import (
    BASELINE,
    SYSTEM,
    compare,
    judge,
    make_judgement,
)


def read(comparison: Comparison, folder: Path, raters: list[str] | None = None) -> JudgingResult:
    with JudgementLog(folder) as log:
        return summarise(comparison, log.standing(), raters)


def add_verdicts(
    comparison: Comparison, folder: Path, outcomes: list[tuple[Outcome | None, bool]]
) -> None:
    """Judgements of a model with whether the order changed them; None is an unread verdict."""
    with JudgementLog(folder) as log:
        for pair, (outcome, has_flipped) in zip(comparison.pairs, outcomes, strict=False):
            choice = None if outcome is None else make_judgement(pair, "", outcome).choice
            flipped = None if outcome is None else has_flipped
            judgement = Judgement(
                pair.id, "model:m", choice, pair.sides, 0, judge={"flipped": flipped}
            )
            assert log.add(judgement)


def test_counts_rate_and_length_by_hand(tmp_path: Path) -> None:
    comparison = compare(10)
    outcomes: list[Outcome] = ["win", "win", "win", "loss", "tie", "both_bad", "both_bad"]
    judge(comparison, tmp_path, "Ana", outcomes)
    row = read(comparison, tmp_path).to_json()
    assert {name: row[name] for name in OUTCOMES} == {
        "win": 3,
        "loss": 1,
        "tie": 1,
        "both_bad": 2,
    }
    assert (row["num_judgements"], row["num_judged_pairs"], row["num_pairs"]) == (7, 7, 10)
    assert row["win_rate_adjusted"] == pytest.approx((3 + 3 / 2) / 7)
    assert row["mean_length_difference"] == 1
    assert (row["system"], row["baseline"]) == (SYSTEM, BASELINE)
    assert (row["flip_rate"], row["parse_errors"], row["agreement"]) == (None, 0, None)
    assert row["raters"][0]["win_rate_adjusted"] == pytest.approx(4.5 / 7)


def test_unread_verdicts_are_counted_and_excluded(tmp_path: Path) -> None:
    comparison = compare(6)
    verdicts: list[tuple[Outcome | None, bool]] = [
        ("win", False),
        ("tie", True),
        (None, False),
        ("tie", False),
        (None, False),
        ("loss", False),
    ]
    add_verdicts(comparison, tmp_path, verdicts)
    row = read(comparison, tmp_path).to_json()
    assert (row["parse_errors"], row["num_judgements"], row["num_judged_pairs"]) == (2, 4, 4)
    assert row["win_rate_adjusted"] == 0.5
    # One of the four that count.
    assert row["flip_rate"] == 0.25
    assert row["raters"][0]["parse_errors"] == 2
    assert row["raters"][0]["kind"] == "model"


def test_without_any_verdict_there_is_no_result(tmp_path: Path) -> None:
    comparison = compare(2)
    add_verdicts(comparison, tmp_path, [(None, False), (None, False)])
    with pytest.raises(TrainingDataInvalid, match="no verdict of model:m could be read"):
        read(comparison, tmp_path)


def test_people_count_where_both_judged_and_agreement_is_of_all(tmp_path: Path) -> None:
    comparison = compare(4)
    judge(comparison, tmp_path, "Ana", ["win", "win", "loss", "tie"])
    add_verdicts(comparison, tmp_path, [("win", False), ("loss", False)])
    people = read(comparison, tmp_path)
    assert [rater.name for rater in people.raters] == ["Ana"]
    assert people.flip_rate is None
    assert people.agreement is not None
    assert people.agreement.pairs[0].raters == ("Ana", "model:m")
    assert people.agreement.raw == 0.5
    model = read(comparison, tmp_path, ["model:m"])
    assert (model.counts["win"], model.counts["loss"], model.flip_rate) == (1, 1, 0)
    both = read(comparison, tmp_path, ["model:m", "Ana"])
    assert sum(both.counts.values()) == 6
    assert both.num_judged_pairs == 4


def test_agreement_of_people_by_hand(tmp_path: Path) -> None:
    comparison = compare(6)
    # As choices of sides these differ from pair to pair; as outcomes p_o = 1/2, p_e = 10/36.
    judge(comparison, tmp_path, "Ana", ["win", "win", "loss", "loss", "tie", "both_bad"])
    judge(comparison, tmp_path, "Ben", ["win", "win", "loss", "tie", "win", "tie"])
    agreement = read(comparison, tmp_path).agreement
    assert agreement is not None
    assert agreement.raw == 0.5
    assert agreement.kappa == pytest.approx(4 / 13)


def test_the_interval_narrows_with_pairs_and_not_with_raters(tmp_path: Path) -> None:
    outcomes: list[Outcome] = ["win", "loss", "win", "tie"]

    def width(num: int, raters: list[str]) -> float:
        comparison = compare(num)
        folder = tmp_path / f"{num}-{len(raters)}"
        folder.mkdir()
        for rater in raters:
            judge(comparison, folder, rater, outcomes * (num // 4))
        interval = read(comparison, folder).interval
        assert interval.low < interval.mean == 0.625 < interval.high
        return interval.high - interval.low

    small, large = width(40, ["Ana"]), width(640, ["Ana"])
    # Sixteen times the pairs, a quarter of the width.
    assert small / large == pytest.approx(4, rel=0.15)
    # Whoever repeats what another said of the same pairs adds no evidence.
    assert width(40, ["Ana", "Ben", "Cy"]) == pytest.approx(small)


def test_the_interval_is_near_that_of_the_normal_law(tmp_path: Path) -> None:
    comparison = compare(400)
    judge(comparison, tmp_path, "Ana", ["win", "win", "win", "loss"] * 100)
    interval = read(comparison, tmp_path).interval
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert interval.low == pytest.approx(0.75 - half, abs=0.01)
    assert interval.high == pytest.approx(0.75 + half, abs=0.01)


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_exchanging_the_systems_mirrors_the_result(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[Outcome]
) -> None:
    comparison = compare(12)
    exchanged = Comparison(
        comparison.baseline,
        comparison.system,
        0,
        comparison.hidden,
        0,
        tuple(
            type(p)(p.id, p.source_id, p.question, p.baseline, p.system, other(p.a))
            for p in comparison.pairs
        ),
    )
    folder = tmp_path_factory.mktemp("mirror")
    judge(comparison, folder, "Ana", outcomes)
    with JudgementLog(folder) as log:
        standing = log.standing()
    mirrored = {
        rater: {
            item: Judgement(
                item, rater, j.choice, {"A": other(j.sides["A"]), "B": other(j.sides["B"])}, 0
            )
            for item, j in of_rater.items()
        }
        for rater, of_rater in standing.items()
    }
    plain, mirror = summarise(comparison, standing), summarise(exchanged, mirrored)
    assert plain.interval.mean == pytest.approx(1 - mirror.interval.mean)
    assert plain.counts["win"] == mirror.counts["loss"]
    assert plain.mean_length_difference == -mirror.mean_length_difference


@pytest.mark.parametrize(
    ("counts", "rate"),
    [
        ({"win": 1, "loss": 0, "tie": 0, "both_bad": 0}, 1.0),
        ({"win": 0, "loss": 3, "tie": 1, "both_bad": 0}, 0.125),
        ({"win": 0, "loss": 0, "tie": 0, "both_bad": 4}, 0.5),
        ({"win": 0, "loss": 0, "tie": 0, "both_bad": 0}, None),
    ],
)
def test_a_tie_and_two_bad_answers_are_half_a_win(counts: Any, rate: float | None) -> None:
    assert adjusted_win_rate(counts) == rate


def test_what_cannot_be_summed_up_is_told(tmp_path: Path) -> None:
    comparison = compare(3)
    with pytest.raises(TrainingDataInvalid, match="nobody has judged yet"):
        read(comparison, tmp_path)
    judge(comparison, tmp_path, "Ana", ["win"])
    with pytest.raises(TrainingDataInvalid, match="Ben has judged nothing; those who have: Ana"):
        read(comparison, tmp_path, ["Ben"])
    with pytest.raises(TrainingDataInvalid, match="the folder mixes two comparisons"):
        read(compare(3, seed=5), tmp_path)
