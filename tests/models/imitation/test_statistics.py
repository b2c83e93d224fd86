from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.statistics import (
    Interval,
    bootstrap,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
)

FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
SAMPLES = st.lists(FLOATS, min_size=1, max_size=40)
PAIRS = st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=40)
QUICK = settings(max_examples=60, deadline=None)


@QUICK
@given(SAMPLES)
def test_an_interval_holds_the_mean_and_stays_within_the_sample(values: list[float]) -> None:
    interval = bootstrap_mean(values, num_resamples=200)
    assert interval.mean == pytest.approx(float(np.mean(values)))
    assert interval.low <= interval.mean <= interval.high
    slack = 1e-9 * max(map(abs, values)) + 1e-12
    assert min(values) - slack <= interval.low
    assert interval.high <= max(values) + slack


@QUICK
@given(FLOATS, st.integers(1, 30))
def test_a_constant_sample_has_no_spread(value: float, num: int) -> None:
    interval = bootstrap_mean([value] * num, num_resamples=100)
    assert interval.low == pytest.approx(value)
    assert interval.high == pytest.approx(value)


@QUICK
@given(SAMPLES)
def test_equal_samples_differ_by_nothing(values: list[float]) -> None:
    assert bootstrap_difference(values, values, num_resamples=100) == Interval(0.0, 0.0, 0.0)


@QUICK
@given(PAIRS)
def test_a_difference_changes_sign_with_its_sides(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = (bootstrap_difference(*sides, num_resamples=999) for sides in ((a, b), (b, a)))
    assert there.mean == pytest.approx(-back.mean)
    spread = max(map(abs, (*a, *b))) + 1
    assert there.low == pytest.approx(-back.high, abs=0.1 * spread)


@QUICK
@given(PAIRS, st.integers(0, 5))
def test_a_seed_gives_the_same_interval_again(pairs: list[tuple[float, float]], seed: int) -> None:
    a, b = zip(*pairs, strict=True)
    first = bootstrap_difference(a, b, num_resamples=100, seed=seed)
    assert bootstrap_difference(a, b, num_resamples=100, seed=seed) == first


def test_pairs_are_drawn_together() -> None:
    """Unpaired, two noisy samples with one constant gap would have a wide interval."""
    a = list(np.random.default_rng(1).normal(0, 100, 50))
    interval = bootstrap_difference([value + 1 for value in a], a)
    assert interval.high - interval.low < 1e-9
    assert interval.mean == pytest.approx(1)


def test_an_interval_of_a_coin_is_about_as_wide_as_theory_says() -> None:
    interval = bootstrap_mean([0.0, 1.0] * 200)
    assert interval.mean == 0.5
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.1)


def test_resampling_in_pieces_keeps_every_value_in_play() -> None:
    """More values than are held at a time: the rows come in several draws."""
    values = np.zeros(300_000)
    values[:150_000] = 1
    interval = bootstrap(lambda a: a.mean(-1), list(values), num_resamples=40)
    assert 0.49 < interval.low < 0.5 < interval.high < 0.51


@QUICK
@given(st.lists(st.integers(0, 1), min_size=3, max_size=40), st.floats(0.5, 20))
def test_a_ratio_to_a_multiple_is_that_multiple(hits: list[int], factor: float) -> None:
    if any(hits):
        interval = bootstrap_ratio([hit * factor for hit in hits], hits, num_resamples=50)
        assert interval.mean == pytest.approx(factor)


def test_a_ratio_to_nothing_is_infinite_and_finite_once_smoothed() -> None:
    a, b = [1.0] * 9 + [0.0], [0.0] * 10
    assert bootstrap_ratio(a, b).mean == math.inf
    smoothed = bootstrap_ratio(a, b, smoothing=1.0)
    assert smoothed.mean == 10.0
    assert 1 < smoothed.low <= 10 <= smoothed.high <= 11


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_samples_that_are_no_pairs_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="one length above 0"):
        bootstrap_difference(a, b)


@given(st.builds(Interval, FLOATS, FLOATS, FLOATS))
def test_an_interval_survives_json(interval: Interval) -> None:
    assert Interval.from_json(interval.to_json()) == interval
