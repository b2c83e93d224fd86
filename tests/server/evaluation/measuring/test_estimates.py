"""Figures and differences of figures: their laws, and what the intervals say."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.statistics import Interval
from server.evaluation.measuring.comparison import judge
from server.evaluation.measuring.estimates import measure, measure_difference
from server.evaluation.measuring.metrics import ANSWER_METRICS, METRICS, Metric, Reading

MEAN = Metric("mean", "mean", "answers", "A mean.", lambda row: row)
MEDIAN = Metric("median", "median", "latency", "A median.", lambda row: row, "p50")
READINGS: st.SearchStrategy[Reading] = st.none() | st.tuples(
    st.floats(0, 1), st.sampled_from([0.0, 1.0, 3.0])
).map(lambda pair: (pair[0] * pair[1], pair[1]))


def as_rows(readings: Sequence[Reading]) -> dict[str, Reading]:
    return {str(number): reading for number, reading in enumerate(readings)}


@settings(deadline=None, max_examples=40)
@given(st.lists(READINGS, min_size=1, max_size=12))
def test_a_figure_is_the_share_over_what_it_applies_to(readings: list[Reading]) -> None:
    found = measure(MEAN, readings)
    counted = [r for r in readings if r is not None and r[1] > 0]
    if not counted:
        assert found is None
        return
    assert found is not None
    assert found.num_questions == len(counted)
    share = sum(value for value, _ in counted) / sum(weight for _, weight in counted)
    assert found.interval.mean == pytest.approx(share)
    assert 0 <= found.interval.low <= found.interval.mean <= found.interval.high <= 1 + 1e-9


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(READINGS, READINGS), min_size=1, max_size=12))
def test_a_difference_is_that_of_the_two_figures(pairs: list[tuple[Reading, Reading]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    one, other = measure(MEAN, a), measure(MEAN, b)
    found = measure_difference(MEAN, as_rows(a), as_rows(b))
    if one is None or other is None:
        assert found is None
        return
    assert found is not None
    assert found.interval.mean == pytest.approx(one.interval.mean - other.interval.mean)
    turned = measure_difference(MEAN, as_rows(b), as_rows(a))
    assert turned is not None
    assert turned.interval.mean == pytest.approx(-found.interval.mean)


def test_only_common_questions_are_paired() -> None:
    a: dict[str, Reading] = {"x": (1.0, 1.0), "y": (1.0, 1.0), "mine": (0.0, 1.0)}
    b: dict[str, Reading] = {"x": (0.0, 1.0), "y": (1.0, 1.0), "theirs": (0.0, 1.0)}
    found = measure_difference(MEAN, a, b)
    assert found is not None
    assert (found.interval.mean, found.num_questions) == (0.5, 2)


def test_pairing_shows_what_two_separate_intervals_do_not() -> None:
    """Each question is a little better, and questions differ among themselves far more."""
    hard = [number / 40 for number in range(40)]
    a = as_rows([(value * 0.9 + 0.1, 1.0) for value in hard])
    b = as_rows([(value * 0.9, 1.0) for value in hard])
    one, other = measure(MEAN, list(a.values())), measure(MEAN, list(b.values()))
    found = measure_difference(MEAN, a, b)
    assert one is not None
    assert other is not None
    assert found is not None
    assert one.interval.low < other.interval.high, "apart they overlap"
    assert found.interval.low == pytest.approx(0.1)


def test_quantiles_are_taken_of_what_applies() -> None:
    rows: list[Reading] = [(10.0, 1.0), (30.0, 1.0), (20.0, 1.0), None, (0.0, 0.0)]
    found = measure(MEDIAN, rows)
    assert found is not None
    assert found.interval.mean == 20.0
    assert 10 <= found.interval.low <= 20 <= found.interval.high <= 30
    difference = measure_difference(MEDIAN, as_rows(rows), as_rows([(5.0, 1.0)] * 3))
    assert difference is not None
    assert difference.interval.mean == 15.0


@pytest.mark.parametrize(
    ("low", "high", "is_less_better", "verdict"),
    [
        (0.01, 0.1, False, "better"),
        (0.01, 0.1, True, "worse"),
        (-0.1, -0.01, False, "worse"),
        (-0.1, -0.01, True, "better"),
        (-0.01, 0.2, False, "no difference shown"),
        (0.0, 0.0, True, "no difference shown"),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    low: float, high: float, is_less_better: bool, verdict: str
) -> None:
    interval = Interval((low + high) / 2, low, high)
    assert judge(interval, is_less_better=is_less_better) == verdict


def test_every_figure_has_a_name_of_its_own_and_a_meaning() -> None:
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
    assert all(metric.meaning.endswith(".") for metric in METRICS.values())
    assert fmean(len(metric.meaning) for metric in ANSWER_METRICS) > 20
