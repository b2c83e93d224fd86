"""Growth is what comes after settling; a short soak of the real server passes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.soak import measure_growth

ROOT = Path(__file__).parents[2]


@settings(deadline=None)
@given(start=st.integers(10**6, 10**9), step=st.integers(0, 10**6), num=st.integers(10, 200))
def test_steady_growth_is_seen_and_what_came_before_settling_is_not(
    start: int, step: int, num: int
) -> None:
    settling = [(float(at), 10 * at) for at in range(100)]
    settled = [(100.0 + at, start + at * step) for at in range(num)]
    growth = measure_growth(settling + settled, 100.0)
    assert growth <= step * num
    assert growth >= step * (num - 2 * (num // 5 + 1))


def test_a_single_peak_is_no_growth() -> None:
    samples = [(float(at), 500) for at in range(100)]
    samples[40] = (40.0, 9_000)
    assert measure_growth(samples, 0.0) == 0
    assert measure_growth(samples[:1], 0.0) == 0


@pytest.mark.slow
def test_a_short_soak_passes() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.soak", "--minutes", "0.1", "--threads", "1"),
            # A start is all that so short a run sees.
            *("--max-growth", "1000", "--json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)
    assert figures["errors"] == 0
    assert figures["is_idle"] is True
    assert sum(figures["requests"].values()) > 0
