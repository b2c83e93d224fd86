"""Defaults fit the model and the machine; what cannot be is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn_from
from hypothesis import strategies as st

from models.engine_settings import EngineSettings, count_threads


@pytest.mark.parametrize(
    ("given", "num_ctx_train", "wanted"),
    [
        ({}, 2048, (2048, 8192)),
        ({}, 131072, (8192, 8192)),
        ({"num_slots": 2}, 1024, (1024, 2048)),
        ({"num_ctx": 16384}, 131072, (16384, 16384)),
        ({"num_ctx": 512}, 2048, (512, 2048)),
        ({"num_cells": 1024}, 2048, (1024, 1024)),
        ({"num_ctx": 4096, "num_cells": 1024}, 8192, (4096, 4096)),
    ],
)
def test_context_sizes(given: dict[str, Any], num_ctx_train: int, wanted: tuple[int, int]) -> None:
    settings = EngineSettings(path=Path("model.gguf"), **given)
    assert settings.context_sizes(num_ctx_train) == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"num_slots": 0},
        {"max_waiting": -1},
        {"num_ctx": 1},
        {"kv_type": "q3"},
        {"kv_type": "q8_0", "flash_attention": False},
        {"num_spare_sequences": 255},
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        EngineSettings(path=Path("model.gguf"), **given)


def test_threads() -> None:
    assert count_threads(3) == 3
    assert 1 <= count_threads() <= (os.cpu_count() or 1)


@drawn_from(st.integers(1, 40_000), st.integers(1, 9000))
def test_wide_models_keep_more_cells_and_none_more_than_half(num_cells: int, width: int) -> None:
    settings = EngineSettings(path=Path("m.gguf"))
    kept = settings.count_kept_cells(num_cells, width)
    assert kept <= num_cells // 2
    assert kept <= settings.count_kept_cells(num_cells, width + 1)
    # On a GPU what is kept does not slow down the rest.
    on_gpu = EngineSettings(path=Path("m.gguf"), num_gpu_layers=-1)
    assert on_gpu.count_kept_cells(num_cells, width) == num_cells // 2
    chosen = EngineSettings(path=Path("m.gguf"), num_kept_cells=300)
    assert chosen.count_kept_cells(num_cells, width) == min(300, num_cells)
