"""Conversations leave the cells for memory and come back as if they had stayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.engine import LlamaEngine, open_engine
from models.kvfolder import State, forget_states
from models.prefixes import common_prefix
from models.protocols import Message, PromptDocument, SamplingSettings
from models.shelf import Shelf
from tests.models.engines import assert_nothing_leaks, end_of, no_end, text_of, wait_until_idle

LEAVE = Message("user", "The handbook says that each parent receives sixteen weeks of leave. " * 4)
KEYS = Message("user", "Keys of the vans are kept in the warehouse by the manager on duty. " * 4)
SAYING = SamplingSettings(max_tokens=8, logit_bias={2: -100.0})


class Holder:
    """Saves a sequence as so many bytes as the test says it has."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def save(self, sequence: int) -> State:
        return np.zeros(self.num_bytes, dtype=np.uint8)


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 1), min_size=1, max_size=9)), max_size=40
    )
)
def test_the_longest_beginning_that_has_room_is_found(steps: list[tuple[bool, list[int]]]) -> None:
    holder = Holder()
    shelf = Shelf(holder, max_bytes=25, least_tokens=2)
    for puts, ids in steps:
        tokens = np.array(ids, dtype=np.int32)
        held = [kept for kept, _ in shelf._states.values()]
        lengths = [common_prefix(kept, tokens) for kept in held]
        if puts:
            holder.num_bytes = len(tokens)
            assert shelf.put(tokens, 0) == (len(tokens) > 1)
        found = shelf.find(tokens, 0)
        longest = max([*lengths, len(tokens) if puts else 0])
        assert (found is not None) == (longest > 1)
        if found is not None:
            state, num_tokens, num_common = found
            assert num_common == longest <= num_tokens == state.nbytes
        assert shelf.num_bytes == sum(s.nbytes for _, s in shelf._states.values()) <= 25
        # None begins another: the longer one serves both.
        kept = [k.tolist() for k, _ in shelf._states.values()]
        assert not any(a != b and b[: len(a)] == a for a in kept for b in kept)


def test_a_state_that_is_too_large_is_not_kept() -> None:
    holder = Holder()
    holder.num_bytes = 30
    shelf = Shelf(holder, max_bytes=25)
    assert not shelf.put(np.arange(100, dtype=np.int32), 0)
    assert not len(shelf)
    assert shelf.num_bytes == 0


@pytest.fixture(params=[("f32", False), ("f16", None), ("q8_0", None)], ids=str)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    kv_type, flash = request.param
    return {"num_threads": 1, "kv_type": kv_type, "flash_attention": flash, "num_cells": 2048}


@pytest.fixture
def engine(wide_gguf: Path, options: dict[str, Any]) -> Iterator[LlamaEngine]:
    # Beside a running request 16 cells are kept.
    engine = open_engine(wide_gguf, reuse="exact", num_kept_cells=128, **options)
    yield engine
    engine.close()


def _say(engine: LlamaEngine, *messages: Message) -> tuple[str, int]:
    deltas = list(engine.generate(engine.prepare(messages), SAYING))
    wait_until_idle(engine)
    usage = deltas[-1].usage
    assert usage is not None
    return "".join(delta.text for delta in deltas), usage.num_cached_tokens


def test_a_conversation_goes_on_after_others(
    engine: LlamaEngine, wide_gguf: Path, options: dict[str, Any]
) -> None:
    first, num_cached = _say(engine, LEAVE)
    num_first = engine.prepare([LEAVE]).num_tokens
    assert num_cached < num_first / 2
    _say(engine, KEYS)
    turns = [LEAVE, Message("assistant", first), Message("user", "And who asks for it?")]
    answer, num_cached = _say(engine, *turns)
    assert num_cached >= num_first - 8
    assert engine.stats.prefixes.num_restored > 0
    if options["kv_type"] == "f32":
        plain = open_engine(wide_gguf, reuse="off", **options)
        assert text_of(plain.generate(plain.prepare(turns), SAYING)) == answer
        plain.close()
    assert_nothing_leaks(engine)


def test_what_was_forgotten_does_not_come_back(engine: LlamaEngine) -> None:
    _say(engine, LEAVE)
    _say(engine, KEYS)
    shelf = engine._slots.shelf
    assert shelf is not None
    assert len(shelf)
    assert_nothing_leaks(engine)  # It forgets.
    assert not len(shelf)
    assert _say(engine, LEAVE)[1] == 0


def test_few_cells_are_kept_beside_a_request(engine: LlamaEngine) -> None:
    _say(engine, LEAVE)
    sampling = SamplingSettings(max_tokens=800, logit_bias=no_end(engine))
    generation = engine.generate(engine.prepare([KEYS]), sampling)
    next(iter(generation))
    stats = engine.stats
    assert len(stats.slots) == 1
    assert stats.cells.num_kept <= stats.cells.max_kept // 8
    generation.cancel()
    end_of(generation)


def test_placed_passages_are_not_kept_twice(wide_gguf: Path) -> None:
    engine = open_engine(wide_gguf, reuse="passages", num_threads=1, num_kept_cells=128)
    documents = [PromptDocument("Leave", LEAVE.content), PromptDocument("Keys", KEYS.content)]
    for question in ("How long is leave?", "Where are the keys?", "Who keeps them?"):
        messages = [Message("system", "Answer."), Message("user", question)]
        end_of(engine.generate(engine.prepare(messages, documents), SAYING))
        wait_until_idle(engine)
    assert engine.passage_stats.num_hits
    assert not len(engine._slots.shelf or ())
    assert_nothing_leaks(engine)
    engine.close()


def test_a_folder_that_cannot_be_made_stops_no_engine_that_keeps_nothing_there(
    wide_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "kv"
    engine = open_engine(wide_gguf, reuse="exact", num_threads=1, passage_folder=folder)
    _say(engine, LEAVE)
    engine.close()


@pytest.mark.parametrize("reuse", ["exact", "passages"])
def test_what_another_process_deletes_leaves_the_memory_of_an_idle_engine(
    wide_gguf: Path, tmp_path: Path, reuse: Any
) -> None:
    folder = tmp_path / "kv"
    engine = open_engine(
        wide_gguf, reuse=reuse, num_threads=1, num_kept_cells=128, passage_folder=folder
    )
    _say(engine, LEAVE)
    _say(engine, KEYS)
    assert engine._slots.kept_sequences
    assert engine._slots.shelf
    assert engine._tokenizer._known._ids
    forget_states(folder, ["a document"])
    deadline = time.monotonic() + 20
    while engine._slots.kept_sequences or engine._slots.shelf or engine._tokenizer._known._ids:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    engine.close()
