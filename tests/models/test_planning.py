"""A context that nobody sized fits the memory, and what the user said stays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from models.planning import plan_context

GIB = 1 << 30


@settings(deadline=None)
@given(
    num_ctx_train=st.integers(0, 200_000),
    cell_bytes=st.floats(500, 500_000),
    weights_bytes=st.integers(10**6, 40 * GIB),
    available_bytes=st.none() | st.integers(0, 500 * GIB),
    num_ctx=st.none() | st.integers(16, 100_000),
    num_slots=st.none() | st.integers(1, 64),
)
def test_a_plan_serves_one_request_and_takes_no_more_than_its_share(
    num_ctx_train: int,
    cell_bytes: float,
    weights_bytes: int,
    available_bytes: int | None,
    num_ctx: int | None,
    num_slots: int | None,
) -> None:
    plan = plan_context(
        num_ctx_train=num_ctx_train,
        cell_bytes=cell_bytes,
        weights_bytes=weights_bytes,
        available_bytes=available_bytes,
        num_ctx=num_ctx,
        num_slots=num_slots,
    )
    assert plan.num_cells >= plan.num_ctx >= 1
    assert plan.num_slots >= 1
    assert plan.num_ctx == num_ctx or (num_ctx is None and plan.num_ctx <= 8192)
    assert plan.num_slots == num_slots or (num_slots is None and plan.num_slots <= 8)
    if num_ctx is None and num_ctx_train:
        assert plan.num_ctx <= num_ctx_train
    # Beyond one request's cells, nothing is taken that is not there.
    if plan.num_cells > max(plan.num_ctx, 2048) and available_bytes is not None:
        share = max(0, available_bytes - weights_bytes) / 4
        assert plan.num_cells * cell_bytes <= min(share, 2 * GIB)


@settings(deadline=None)
@given(
    cell_bytes=st.floats(500, 500_000),
    available=st.tuples(st.integers(0, 200 * GIB), st.integers(0, 200 * GIB)).map(sorted),
)
def test_more_memory_never_makes_a_plan_smaller(cell_bytes: float, available: list[int]) -> None:
    less, more = (
        plan_context(
            num_ctx_train=32_768,
            cell_bytes=cell_bytes,
            weights_bytes=GIB,
            available_bytes=num_bytes,
        )
        for num_bytes in available
    )
    assert less.num_ctx <= more.num_ctx
    assert less.num_cells <= more.num_cells
    assert less.num_slots <= more.num_slots


def test_models_of_known_size() -> None:
    # 8B in Q8_0, 128 KiB a cell in f16.
    large = {"num_ctx_train": 131_072, "cell_bytes": 131_072, "weights_bytes": 8 * GIB}
    plan = plan_context(available_bytes=14 * GIB, **large)
    assert (plan.num_ctx, plan.num_cells, plan.num_slots) == (8192, 12_288, 6)
    plan = plan_context(available_bytes=7 * GIB, **large)
    assert (plan.num_ctx, plan.num_cells, plan.num_slots) == (2048, 2048, 1)
    small = plan_context(
        num_ctx_train=2048, cell_bytes=3072, weights_bytes=7_500_000, available_bytes=4 * GIB
    )
    assert (small.num_ctx, small.num_cells, small.num_slots) == (2048, 16_384, 8)
