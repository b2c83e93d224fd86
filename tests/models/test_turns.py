"""Time is shared between prompts and the answers that run beside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.turns import NUM_PATIENT, Turns
from tests.models.cells import House, ScriptedJob

MANY = NUM_PATIENT + 1

durations_s = st.floats(0.001, 4.0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def run(turns: Turns, clock: Clock, chunk_s: float, answer_s: float, num_steps: int) -> list[bool]:
    """Steps beside many answers, each with a chunk where that is allowed; which ones had one."""
    chunks = []
    for _ in range(num_steps):
        has_chunk = turns.begin(MANY)
        turns.note(has_chunk)
        clock.now_s += chunk_s if has_chunk else answer_s
        chunks.append(has_chunk)
    return chunks


@given(durations_s, durations_s)
def test_prompts_and_answers_get_the_same_time(chunk_s: float, answer_s: float) -> None:
    clock = Clock()
    chunks = run(Turns(clock), clock, chunk_s, answer_s, 400)
    chunk_time_s = chunk_s * sum(chunks)
    answer_time_s = answer_s * (len(chunks) - sum(chunks))
    # The last turn may be half over, and the last answer of each goes beyond it.
    slack_s = 1e-6 * (chunk_time_s + answer_time_s)
    assert chunk_time_s <= answer_time_s + chunk_s + slack_s
    assert answer_time_s <= chunk_time_s + answer_s * sum(chunks) + slack_s
    assert any(chunks)
    assert not all(chunks)


@given(durations_s, st.integers(0, NUM_PATIENT))
def test_prompts_beside_few_answers_never_wait(chunk_s: float, num_answering: int) -> None:
    clock = Clock()
    turns = Turns(clock)
    run(turns, clock, chunk_s, 0.1, 1)
    for _ in range(5):
        assert turns.begin(num_answering)
        turns.note(True)
        clock.now_s += chunk_s


def test_time_in_which_nothing_ran_owes_nothing() -> None:
    clock = Clock()
    turns = Turns(clock)
    assert turns.begin(MANY)
    turns.note(False)
    clock.now_s += 1000.0
    assert turns.begin(MANY)


def test_answers_are_owed_what_a_chunk_took() -> None:
    clock = Clock()
    # A chunk of one second, then answers of 0.3 s: four of them pay it back.
    assert run(Turns(clock), clock, 1.0, 0.3, 11) == pytest.approx(
        [True, *[False] * 4, True, *[False] * 4, True]
    )


def test_a_long_prompt_waits_for_its_turn_and_a_short_rest_does_not() -> None:
    clock = Clock()
    house = House(
        num_cells=2000,
        num_sequences=10,
        num_slots=NUM_PATIENT + 3,
        chunk_tokens=256,
        turns=Turns(clock),
    )
    answers = [ScriptedJob([1, number], [2] * 40) for number in range(MANY)]
    for answer in answers:
        house.scheduler.submit(answer)
    house.step()
    long, short = ScriptedJob([3] * 600, [2]), ScriptedJob([4] * 60, [2])
    house.scheduler.submit(long)
    house.step()
    clock.now_s += 1.0  # what the chunk took
    house.scheduler.submit(short)
    jobs = [run.job for run in house.step()]
    assert set(answers) <= set(jobs)
    assert short in jobs
    assert long not in jobs
    clock.now_s += 2.0
    assert long in [run.job for run in house.step()]
