"""Pieces computed apart: states change contexts, and room is never promised twice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.batch import Run
from models.context import Context
from models.engine_settings import EngineSettings
from models.jobs import Job
from models.loaded_model import LoadedModel
from models.state_layout import (
    LayoutUnknown,
    are_alike,
    has_transposed_values,
    lay_values,
    read_keys,
    read_values,
)
from models.workbench import Seats, SpareSequences, Workbench, open_workbench

NUM_SPARE = 8


class Opened:
    """A model with the engine's context and a workbench beside it."""

    def __init__(self, path: Path, flash: bool, kv_type: str = "f16", num_cells: int = 512) -> None:
        chosen = EngineSettings(path=path, kv_type=kv_type, flash_attention=flash, num_threads=1)  # type: ignore[arg-type]
        auto = EngineSettings(path=path, kv_type=kv_type, num_threads=1)  # type: ignore[arg-type]
        self.model = LoadedModel(chosen)
        self.width = self.model.header.width_key
        self.context = Context(self.model, chosen, num_cells)
        first = chosen.num_sequences
        self.spare = SpareSequences(self.context, range(first, first + NUM_SPARE))
        self.bench = open_workbench(self.model, self.spare, auto)

    def close(self) -> None:
        if self.bench is not None:
            self.bench.free()
        self.context.free()
        self.model.free()


@pytest.fixture(params=[(True, "f16"), (False, "f16"), (False, "f32")], ids=str)
def opened(request: pytest.FixtureRequest, wide_gguf: Path) -> Iterator[Opened]:
    flash, kv_type = request.param
    found = Opened(wide_gguf, flash, kv_type)
    yield found
    found.close()


def _compute(context: Context, sequence: int, start: int, num_tokens: int, *, apart: bool) -> None:
    tokens = (np.arange(start, start + num_tokens, dtype=np.int32) * 7) % 200
    for begun in range(0, num_tokens, 200):
        chunk = tokens[begun : begun + 200]
        context.decode([Run(cast(Job, None), sequence, start + begun, chunk, 0, apart)])


def _bench_of(opened: Opened) -> Workbench:
    assert opened.bench is not None
    return opened.bench


def test_a_piece_computed_apart_is_the_piece_computed_in_place(opened: Opened) -> None:
    _compute(opened.context, 0, 0, 12, apart=False)
    prefix = (np.arange(12, dtype=np.int32) * 7) % 200
    states = []
    for bench in (_bench_of(opened), None):
        seats = Seats(opened.spare, bench)
        seat = seats.take(0, prefix, 30)
        assert seat is not None
        assert seat.is_apart == (bench is not None)
        context = opened.context if bench is None else bench.context
        _compute(context, seat.sequence, 12, 30, apart=seat.is_apart)
        states.append(seats.finish(seat, len(prefix)))
    apart, in_place = states
    assert len(apart) == len(in_place)
    width = opened.width
    assert are_alike(read_keys(apart, width), read_keys(in_place, width), 0.9999)
    assert are_alike(read_values(apart, width), read_values(in_place, width), 0.9999)
    spare = opened.spare.take()
    assert spare is not None
    assert opened.context.restore(spare, apart)
    assert opened.context.num_positions(spare) == 42


def test_what_the_workbench_cannot_take_in_is_computed_in_place(
    opened: Opened,
) -> None:
    _compute(opened.context, 0, 0, 12, apart=False)
    prefix = (np.arange(12, dtype=np.int32) * 7) % 200
    # The prefix arrives cut short, so the context takes none of it.
    bench = Workbench(_bench_of(opened).context, lambda state: state[:8], lambda state: state)
    seat = Seats(opened.spare, bench).take(0, prefix, 30)
    assert seat is not None
    assert not seat.is_apart


def test_a_state_laid_out_anew_twice_is_the_state(opened: Opened) -> None:
    _compute(opened.context, 0, 0, 20, apart=False)
    state, width = opened.context.save(0), opened.width
    is_transposed = has_transposed_values(state, width)
    other = lay_values(state, width, transposed=not is_transposed)
    assert has_transposed_values(other, width) != is_transposed
    assert np.array_equal(lay_values(other, width, transposed=is_transposed), state)
    assert are_alike(read_values(other, width), read_values(state, width), 0.999999)


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_state_is_refused_and_never_crashes(opened: Opened, data: st.DataObject) -> None:
    _compute(opened.context, 0, 0, 4, apart=False)
    state = opened.context.save(0)
    opened.context.drop(0)
    head = 28 + 4 * 12
    place = data.draw(st.integers(0, min(head + 40, len(state) - 1)))
    state[place] ^= data.draw(st.integers(1, 255))
    cut = state[: data.draw(st.integers(0, len(state)))]
    for damaged in (state, cut):
        try:
            lay_values(damaged, opened.width, transposed=True)
            lay_values(damaged, opened.width, transposed=False)
        except LayoutUnknown:
            pass


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400)), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_room_of_the_workbench_is_never_promised_twice(
    wide_gguf: Path, steps: list[tuple[int, int]]
) -> None:
    opened = _shared(wide_gguf)
    bench = _bench_of(opened)
    held: list[int] = []
    for action, num_tokens in steps:
        if action == 0 and held:
            bench.give(held.pop(0))
            continue
        prefix = np.full(5 + action, action, dtype=np.int32)
        sequence = bench.take(prefix, num_tokens + len(prefix), partial(_state_of, opened, action))
        if sequence is None:
            assert held
            continue
        _compute(bench.context, sequence, len(prefix), num_tokens, apart=True)
        assert bench.context.num_positions(sequence) == len(prefix) + num_tokens
        held.append(sequence)
    for sequence in held:
        bench.give(sequence)


_OPENED: list[Opened] = []


def _shared(path: Path) -> Opened:
    if not _OPENED:
        _OPENED.append(Opened(path, flash=False))
    return _OPENED[0]


@pytest.fixture(scope="module", autouse=True)
def _closing() -> Iterator[None]:
    yield
    while _OPENED:
        _OPENED.pop().close()


def _state_of(opened: Opened, action: int) -> np.ndarray:
    _compute(opened.context, 0, 0, 5 + action, apart=False)
    state = opened.context.save(0)
    opened.context.drop(0)
    return state
