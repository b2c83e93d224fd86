"""The table of slots against a small cache of sets: never more cells than there are."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.context import Context
from models.slots import Slot, SlotTable, common_prefix
from models.vocabulary import TokenIds

NUM_CELLS, NUM_SEQUENCES = 32, 7


class Cells:
    """Counts cells as a unified cache does: shared cells once."""

    num_cells = NUM_CELLS

    def __init__(self) -> None:
        self.held: dict[int, list[object]] = {}

    def copy_prefix(self, source: int, target: int, num_tokens: int) -> None:
        assert not self.held.get(target)
        assert len(self.held[source]) >= num_tokens
        self.held[target] = self.held[source][:num_tokens]

    def drop(self, sequence: int) -> None:
        self.held.pop(sequence, None)

    def fill(self, sequence: int, num_tokens: int) -> None:
        cells = self.held.setdefault(sequence, [])
        cells += [object() for _ in range(num_tokens - len(cells))]

    @property
    def num_used(self) -> int:
        return len({id(cell) for cells in self.held.values() for cell in cells})


def _prompt(length: int, branch: int) -> TokenIds:
    """Prompts of few kinds, which share beginnings."""
    return np.array([0] * min(length, 4) + [branch] * max(length - 4, 0), dtype=np.int32)


STEP = st.tuples(
    st.integers(0, 5), st.integers(1, 14), st.integers(0, 8), st.integers(0, 2), st.booleans()
)


@given(st.lists(STEP, max_size=60), st.booleans())
def test_promises_are_kept(steps: list[tuple[int, int, int, int, bool]], can_share: bool) -> None:
    cells = Cells()
    table = SlotTable(cast(Context, cells), NUM_SEQUENCES, 2, can_share=can_share)
    admitted: list[tuple[Slot, Any]] = []
    for action, length, num_answer, num_spare, keeps in steps:
        prompt = _prompt(length, action)
        if action < 3 and length + num_answer <= NUM_CELLS:
            slot = table.admit(prompt, length + num_answer, num_spare)
            if slot is None:
                assert admitted, "an empty table has room for everyone"
                continue
            assert slot.num_cached < length
            assert len(cells.held.get(slot.sequence, [])) == slot.num_cached
            assert len(slot.spare_sequences) == num_spare
            assert can_share or not slot.num_cached
            cells.fill(slot.sequence, length + num_answer)
            admitted.append((slot, np.concatenate([prompt, [9] * num_answer]).astype(np.int32)))
        elif action == 5:
            table.forget_all()
            assert not table.kept_sequences
        elif admitted:
            slot, tokens = admitted.pop(length % len(admitted))
            table.release(slot, tokens if keeps else None)
        assert cells.num_used <= NUM_CELLS
        assert table.num_promised_cells == sum(slot.num_cells for slot, _ in admitted)
        assert table.num_promised_cells + table.num_kept_cells <= NUM_CELLS
        used = {slot.sequence for slot, _ in admitted} | set(table.kept_sequences)
        assert set(cells.held) <= used
    for slot, _ in admitted:
        table.release(slot, None)
    table.forget_all()
    assert not cells.held
    assert sorted(table._free) == list(range(NUM_SEQUENCES))


def test_a_kept_beginning_is_taken_over_and_the_oldest_goes_first() -> None:
    cells = Cells()
    table = SlotTable(cast(Context, cells), NUM_SEQUENCES, 3, can_share=True)
    for branch in (1, 2, 3):
        slot = table.admit(_prompt(10, branch), 10)
        assert slot is not None
        cells.fill(slot.sequence, 10)
        table.release(slot, _prompt(10, branch))
    slot = table.admit(_prompt(12, 1), 12)
    assert slot is not None
    assert slot.num_cached == 10
    assert table.num_kept_cells == 20


def test_common_prefix() -> None:
    assert common_prefix(_prompt(6, 1), _prompt(9, 1)) == 6
    assert common_prefix(_prompt(6, 1), _prompt(6, 2)) == 4
    assert common_prefix(_prompt(0, 1), _prompt(6, 2)) == 0
