"""Kept cells change their place in the cache, and nobody can tell by the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.engine import LlamaEngine, open_engine
from models.protocols import Message, SamplingSettings
from tests.models.engines import assert_nothing_leaks, end_of, wait_until_idle

STEM = "The handbook says that each parent receives sixteen weeks of leave. " * 3


@pytest.mark.parametrize("kv_type", ["f32", "f16"])
def test_answers_behind_moved_cells_are_the_same(tiny_gguf: Path, kv_type: str) -> None:
    prompts = [[Message("user", f"{number} {STEM}")] for number in range(6)]
    sampling = SamplingSettings(max_tokens=8, logit_bias={2: -100.0})
    settings: dict[str, Any] = {
        "num_threads": 1,
        "kv_type": kv_type,
        "flash_attention": False,
        "num_slots": 6,
    }
    plain = open_engine(tiny_gguf, reuse="off", **settings)
    wanted = [_say(plain, prompt, sampling)[0] for prompt in prompts]
    plain.close()
    # Six at once use many times as many cells as may be kept.
    engine = open_engine(tiny_gguf, reuse="exact", num_kept_cells=60, num_cells=2048, **settings)
    running = [engine.generate(engine.prepare(prompt), sampling) for prompt in prompts]
    for generation in running:
        end_of(generation)
    wait_until_idle(engine)
    slots = engine._slots
    assert slots.kept_sequences
    # Put together, or more would be noted.
    assert slots._num_spread == slots.num_kept_cells
    found = [_say(engine, prompt, sampling) for prompt in prompts]
    assert [text for text, _ in found] == wanted
    assert found[0][1] > 0
    assert_nothing_leaks(engine)
    engine.close()


def _say(
    engine: LlamaEngine, messages: list[Message], sampling: SamplingSettings
) -> tuple[str, int]:
    deltas = list(engine.generate(engine.prepare(messages), sampling))
    wait_until_idle(engine)
    usage = deltas[-1].usage
    assert usage is not None
    return "".join(delta.text for delta in deltas), usage.num_cached_tokens
