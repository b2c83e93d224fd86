"""Measured on a tiny model: every choice is one of the measured, and almost as fast as the best."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine import open_engine
from models.engine_settings import EngineSettings
from models.engine_tuning import (
    CHUNK_SIZES,
    choose_chunk,
    choose_threads,
    list_thread_counts,
    make_measured_settings,
    measure_tuning,
)
from models.errors import ModelFileInvalid
from models.machine import Machine
from tests.models.engines import GREEDY, prompt_for, text_of

MACHINE = Machine("Abacus", num_cores=2, num_threads=4, available_bytes=None)
SPEEDS = st.dictionaries(st.integers(1, 64), st.floats(0.01, 1e6), min_size=1)


@settings(deadline=None)
@given(speeds=SPEEDS)
def test_what_is_chosen_is_the_least_that_is_almost_the_best(speeds: dict[int, float]) -> None:
    for choose, tolerance in ((choose_threads, 0.03), (choose_chunk, 0.05)):
        chosen = choose(speeds)
        good = (1 - tolerance) * max(speeds.values())
        assert speeds[chosen] >= good
        assert all(speeds[number] < good for number in speeds if number < chosen)


@pytest.mark.parametrize(
    ("cores", "threads", "wanted"),
    [(1, 1, [1]), (2, 4, [1, 2, 4]), (16, 32, [1, 8, 12, 16, 32])],
)
def test_thread_counts_fit_the_machine(cores: int, threads: int, wanted: list[int]) -> None:
    assert list_thread_counts(Machine("", cores, threads, None)) == wanted


def test_a_tiny_model_is_measured_and_runs_as_found(tiny_gguf: Path) -> None:
    tuning = measure_tuning(make_measured_settings(tiny_gguf), MACHINE, budget_s=0.6)
    assert tuning.num_threads in (1, 2, 4)
    assert tuning.num_batch_threads in (1, 2, 4)
    assert tuning.chunk_tokens in CHUNK_SIZES
    assert set(tuning.speeds["prefill by chunk"]) <= {str(size) for size in CHUNK_SIZES}
    assert all(speed > 0 for speeds in tuning.speeds.values() for speed in speeds.values())
    engine = open_engine(
        tiny_gguf,
        num_threads=tuning.num_threads,
        num_batch_threads=tuning.num_batch_threads,
        chunk_tokens=tuning.chunk_tokens,
    )
    try:
        assert text_of(engine.generate(prompt_for(engine, "When?"), GREEDY))
    finally:
        engine.close()


def test_no_time_still_gives_a_choice(tiny_gguf: Path) -> None:
    tuning = measure_tuning(make_measured_settings(tiny_gguf), MACHINE, budget_s=0.0)
    assert (tuning.num_threads, tuning.num_batch_threads) == (4, 4)
    assert tuning.chunk_tokens == CHUNK_SIZES[0]


def test_a_context_smaller_than_the_largest_chunk(tiny_gguf: Path) -> None:
    small = EngineSettings(path=tiny_gguf, num_ctx=128, num_cells=256, num_slots=1)
    tuning = measure_tuning(small, MACHINE, budget_s=0.2)
    assert set(tuning.speeds["prefill by chunk"]) == {"64"}


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_text("nothing of the kind")
    with pytest.raises(ModelFileInvalid):
        measure_tuning(make_measured_settings(path), MACHINE, budget_s=1.0)
