"""Slots and steps against a small cache of cells: never more than there are, each computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import ModelError
from models.jobs import Job
from models.vocabulary import TokenIds
from tests.models.cells import House, ScriptedJob

# Two letters: prompts and answers often begin alike, and answers run into others' prompts.
TEXTS = st.lists(st.integers(0, 1), min_size=1, max_size=14)
ANSWERS = st.lists(st.integers(0, 1), max_size=6)


def _act(house: House, jobs: list[Job], action: str, data: st.DataObject) -> None:
    if action == "generate":
        jobs.append(ScriptedJob(data.draw(TEXTS), data.draw(ANSWERS)))
        house.scheduler.submit(jobs[-1])
    elif action == "score":
        texts = data.draw(st.lists(TEXTS.map(lambda text: text[:5]), min_size=1, max_size=4))
        jobs.append(house.score_job(data.draw(TEXTS), texts))
        house.scheduler.submit(jobs[-1])
    elif action == "forget":
        house.slots.forget_all()
        assert not house.slots.kept_sequences
    elif action == "step":
        house.step()
    elif house.scheduler.running:
        job = data.draw(st.sampled_from(list(house.scheduler.running)))
        if action == "cancel":
            job.is_cancelled = True
        else:
            house.scheduler.fail(job, ModelError("as told"))


ACTIONS = st.lists(
    st.sampled_from(["generate", "generate", "score", "forget", "cancel", "fail", *["step"] * 6]),
    max_size=50,
)


@pytest.mark.parametrize("can_share", [True, False])
@settings(deadline=None, max_examples=100)
@given(ACTIONS, st.integers(0, 32), st.integers(5, 9), st.sampled_from([0, 40, 400]), st.data())
def test_promises_are_kept(
    can_share: bool,
    actions: list[str],
    kept_cells: int,
    num_sequences: int,
    shelf_tokens: int,
    data: st.DataObject,
) -> None:
    house = House(
        num_cells=32, num_sequences=num_sequences, num_slots=3, chunk_tokens=5,
        kept_cells=kept_cells, can_share=can_share, shelf_tokens=shelf_tokens if can_share else 0,
    )  # fmt: skip
    jobs: list[Job] = []
    for action in actions:
        _act(house, jobs, action, data)
        house.assert_counts()
    house.run_all()
    house.assert_counts()
    house.assert_empty()
    assert can_share or not any(job.num_cached for job in jobs)


@pytest.mark.parametrize("shelf_tokens", [0, 2000])
def test_ten_thousand_steps_leave_nothing(shelf_tokens: int) -> None:
    rng = np.random.default_rng(7)
    house = House(
        num_cells=400, num_sequences=24, num_slots=6, chunk_tokens=24, shelf_tokens=shelf_tokens
    )
    stems = [rng.integers(0, 3, 60).tolist() for _ in range(5)]
    for number in range(10_000):
        draw = rng.random()
        if draw < 0.12 and house.scheduler.num_waiting < 12:
            stem = stems[rng.integers(5)][: rng.integers(1, 60)]
            prompt = [*stem, *rng.integers(0, 3, rng.integers(1, 30)).tolist()]
            answer = rng.integers(0, 3, rng.integers(0, 30)).tolist()
            job: Job = ScriptedJob(prompt, answer)
            if draw < 0.03:
                texts = [rng.integers(0, 3, rng.integers(1, 9)).tolist() for _ in range(6)]
                job = house.score_job(prompt, texts)
            house.scheduler.submit(job)
        elif draw < 0.14 and house.scheduler.running:
            house.scheduler.running[rng.integers(house.scheduler.num_running)].is_cancelled = True
        elif draw < 0.143:
            house.slots.forget_all()
        elif house.scheduler.has_work:
            house.step()
        if number % 50 == 0:
            house.assert_counts()
    house.run_all()
    house.assert_counts()
    assert (house.slots.counts.num_restored > 0) == (shelf_tokens > 0)
    house.assert_empty()


@settings(deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=5, unique_by=tuple), st.integers(1, 4), st.integers(4, 40)
)
def test_a_beginning_is_computed_once_whoever_asks(
    prompts: list[list[int]], num_times: int, chunk_tokens: int
) -> None:
    """Requests of one moment cost the tree of their prompts, and each its last token."""
    prompts = prompts * num_times
    house = House(
        num_cells=500, num_sequences=40, num_slots=len(prompts), chunk_tokens=chunk_tokens
    )
    jobs = [ScriptedJob(prompt, []) for prompt in prompts]
    for job in jobs:
        house.scheduler.submit(job)
    house.run_all()
    beginnings = {tuple(p[:n]) for p in prompts for n in range(1, len(p))}
    assert house.num_computed <= len(beginnings) + len(prompts)
    assert sum(job.num_cached for job in jobs) == sum(map(len, prompts)) - house.num_computed
    assert house.slots.counts.num_reused == sum(job.num_cached for job in jobs)
    house.assert_counts()


def test_equal_prompts_cost_one_prefill_and_no_idle_step() -> None:
    house = House(num_cells=400, num_sequences=16, num_slots=8, chunk_tokens=64)
    prompt = [1, 0, 1, 1] * 50
    jobs = [ScriptedJob(prompt, [2] * 4) for _ in range(8)]
    for job in jobs:
        house.scheduler.submit(job)
    steps = house.run_all()
    # 200 tokens in chunks of 64, then seven last tokens together.
    assert [sum(len(run.tokens) for run in runs) for runs in steps[:5]] == [64, 64, 64, 8, 8]
    assert sum(job.num_cached for job in jobs) == 7 * 199
    assert house.num_computed == 200 + 7 + 8 * 4


def test_many_that_share_fit_where_they_would_not_alone() -> None:
    house = House(num_cells=130, num_sequences=16, num_slots=8, chunk_tokens=64)
    for _ in range(8):
        house.scheduler.submit(ScriptedJob([1] * 90, [2] * 4))
    house.step()
    assert house.scheduler.num_running == 8
    house.run_all()


def test_when_the_first_leaves_the_next_goes_on_from_there() -> None:
    house = House(num_cells=200, num_sequences=8, num_slots=3, chunk_tokens=16)
    first, second, third = (ScriptedJob([1] * 80, [2]) for _ in range(3))
    for job in (first, second, third):
        house.scheduler.submit(job)
    house.step()
    house.step()
    first.is_cancelled = True
    house.step()
    assert first.was_cancelled
    assert (second.num_cached, second.num_prefilled) == (32, 48)
    house.run_all()
    assert house.num_computed == 80 + 1 + 2
    assert third.num_cached == 79


def test_a_failed_one_leaves_what_others_share_and_nothing_else() -> None:
    house = House(num_cells=200, num_sequences=8, num_slots=3, chunk_tokens=16)
    first, second = ScriptedJob([1] * 20 + [0] * 20, []), ScriptedJob([1] * 20 + [2] * 20, [])
    house.scheduler.submit(first)
    house.scheduler.submit(second)
    for _ in range(2):
        house.step()
    house.scheduler.fail(first, ModelError("broken"))
    house.run_all()
    # What the failed step computed is not trusted.
    assert second.num_cached == 16
    assert house.slots.tree.match(first.prompt).num_ready == 20
    house.assert_counts()


def test_the_oldest_end_goes_first_and_its_beginning_stays() -> None:
    house = House(num_cells=40, num_sequences=8, num_slots=1, chunk_tokens=64)

    def say(prompt: list[int]) -> int:
        job = ScriptedJob(prompt, [])
        house.scheduler.submit(job)
        house.run_all()
        house.assert_counts()
        return job.num_cached

    system = [7] * 10
    assert say([*system, *[1] * 10]) == 0
    assert say([*system, *[2] * 10]) == 10
    assert house.slots.num_kept_cells == 30
    # 15 new cells: 5 of them from the end of the first.
    assert say([*system, *[3] * 15]) == 10
    assert house.slots.num_kept_cells == 40
    assert house.slots.counts.num_evicted == 5
    # The last token is computed again, in a cell that is given back at the end.
    assert say([*system, *[2] * 10]) == 19
    assert say([*system, *[1] * 10]) == 14


def test_an_answer_is_shared_while_it_is_written() -> None:
    house = House(num_cells=200, num_sequences=8, num_slots=2, chunk_tokens=64)
    first = ScriptedJob([1] * 20, [5] * 30)
    house.scheduler.submit(first)
    for _ in range(11):
        house.step()
    follow_up = ScriptedJob([*[1] * 20, *[5] * 10, 6], [])
    house.scheduler.submit(follow_up)
    house.step()
    assert follow_up.num_cached == 30
    house.run_all()
    house.assert_counts()


def test_an_answer_is_one_node_however_often_it_is_offered() -> None:
    house = House(num_cells=100, num_sequences=8, num_slots=2, chunk_tokens=64)
    house.scheduler.submit(ScriptedJob([1] * 20, [5] * 40))
    house.step()
    # It finds no room, and so the answer is offered in every step.
    house.scheduler.submit(ScriptedJob([2] * 80, []))
    for _ in range(30):
        house.step()
        house.assert_counts()
    assert house.scheduler.num_running == 1
    (slot,) = house.slots.slots
    assert len([*slot.node.path()]) <= 2
    house.run_all()
    house.assert_empty()


def test_equal_answers_are_kept_once() -> None:
    house = House(num_cells=300, num_sequences=8, num_slots=4, chunk_tokens=64)
    for _ in range(4):
        house.scheduler.submit(ScriptedJob([1] * 20, [5] * 30))
    house.run_all()
    assert house.slots.num_kept_cells == house.cells.num_used == 50


def test_forgetting_reaches_what_runs() -> None:
    house = House(num_cells=300, num_sequences=8, num_slots=2, chunk_tokens=64)
    house.scheduler.submit(ScriptedJob([1] * 20, [5] * 3))
    house.step()
    house.slots.forget_all()
    house.run_all()
    assert house.cells.num_used == 0
    house.assert_empty()


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_no_stream_waits_for_more_than_a_chunk(data: st.DataObject) -> None:
    """Every answer gets its token in every step, and all prompts together one chunk at most."""
    chunk_tokens = data.draw(st.integers(1, 12))
    house = House(
        num_cells=300, num_sequences=12, num_slots=data.draw(st.integers(1, 6)),
        chunk_tokens=chunk_tokens,
    )  # fmt: skip
    for _ in range(data.draw(st.integers(1, 25))):
        for _ in range(data.draw(st.integers(0, 2))):
            prompt: Any = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=30))
            house.scheduler.submit(ScriptedJob(prompt, data.draw(ANSWERS)))
        answering = {id(job) for job in house.scheduler.running if job.is_answering}
        runs = house.step()
        others = [run for run in runs if id(run.job) not in answering]
        assert answering == {id(run.job) for run in runs} & answering
        assert sum(len(run.tokens) for run in others) <= chunk_tokens
        admitted = [job.submitted_at for job in house.scheduler.running]
        assert admitted == sorted(admitted), "somebody was overtaken"
    house.run_all()


def _ids(tokens: list[int]) -> TokenIds:
    return np.array(tokens, dtype=np.int32)


def test_a_sequence_is_found_when_all_are_kept() -> None:
    """With no sequence to spare, one that is kept is cut back to what is shared and goes on."""
    house = House(num_cells=100, num_sequences=1, num_slots=1, chunk_tokens=64)
    for branch in (1, 2, 3):
        job = ScriptedJob([9] * 10 + [branch] * 10, [])
        house.scheduler.submit(job)
        house.run_all()
        assert job.num_cached == (10 if branch > 1 else 0)
        assert house.slots.tree.match(_ids([9] * 10 + [branch] * 10)).num_ready == 20
        house.assert_counts()
    assert house.slots.num_kept_cells == 20
