"""The engine is opened as the settings say, then as was measured, then as fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError, ModelFileInvalid
from models.registry_entries import find_bundled
from server import cli
from server.assembly import open_engine
from server.config import Settings, load_settings
from server.engine_options import choose_gpu_layers, to_engine_settings
from tests.gguf_factory import NUM_CTX_TRAIN
from tests.models.engines import GREEDY, prompt_for, text_of


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def settings_for(data_dir: Path, **options: Any) -> Settings:
    return load_settings(environment={}, data_dir=data_dir, **options)


def tune(data_dir: Path, model: Path, *more: str) -> int:
    arguments = ["--data-dir", str(data_dir), "tune-engine", "--seconds", "1"]
    return cli.run([*arguments, "--model", str(model), *more])


def test_where_nothing_is_said_sizes_fit_the_model(data_dir: Path, tiny_gguf: Path) -> None:
    found = to_engine_settings(settings_for(data_dir), tiny_gguf)
    assert found.num_ctx == NUM_CTX_TRAIN
    assert 1 <= found.num_slots <= 8
    assert found.num_cells is not None
    assert NUM_CTX_TRAIN <= found.num_cells <= NUM_CTX_TRAIN * found.num_slots
    assert (found.num_threads, found.num_batch_threads, found.chunk_tokens) == (0, 0, 256)


def test_what_is_set_stays(data_dir: Path, tiny_gguf: Path) -> None:
    given = {
        "context_tokens": 512, "num_slots": 3, "num_threads": 1, "num_gpu_layers": 0,
        "chunk_tokens": 96, "kv_type": "q8_0", "max_waiting": 5,
    }  # fmt: skip
    found = to_engine_settings(settings_for(data_dir, **given), tiny_gguf)
    assert (found.num_ctx, found.num_slots, found.num_threads) == (512, 3, 1)
    assert (found.chunk_tokens, found.kv_type, found.max_waiting) == (96, "q8_0", 5)
    assert found.num_cells == 3 * 512


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_an_engine_runs_with_either_kind_of_cache(data_dir: Path, kv_type: str) -> None:
    bundled = find_bundled()
    assert bundled is not None
    engine = open_engine(settings_for(data_dir, num_threads=1, kv_type=kv_type), bundled)
    try:
        assert text_of(engine.generate(prompt_for(engine, "When?"), GREEDY))
    finally:
        engine.close()


def test_a_model_that_q8_0_does_not_go_with_is_named(data_dir: Path, tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match="16 wide") as caught:
        open_engine(settings_for(data_dir, kv_type="q8_0"), tiny_gguf)
    assert caught.value.param == "kv_type"


def test_layers_go_to_a_gpu_only_where_the_build_has_one(data_dir: Path) -> None:
    from models.llama import library

    wanted = -1 if library().llama_supports_gpu_offload() else 0
    assert choose_gpu_layers(settings_for(data_dir)) == wanted
    assert choose_gpu_layers(settings_for(data_dir, num_gpu_layers=7)) == 7


def test_what_was_measured_is_used_until_something_is_set(
    data_dir: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data_dir, tiny_gguf, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    found = to_engine_settings(settings_for(data_dir), tiny_gguf)
    for name in ("num_threads", "num_batch_threads", "chunk_tokens"):
        assert getattr(found, name) == told[name] > 0
    set_ = to_engine_settings(settings_for(data_dir, num_threads=1, chunk_tokens=32), tiny_gguf)
    assert (set_.num_threads, set_.num_batch_threads, set_.chunk_tokens) == (1, 0, 32)
    # Another kind of cache has speeds of its own.
    other = to_engine_settings(settings_for(data_dir, kv_type="q8_0"), tiny_gguf)
    assert (other.num_threads, other.chunk_tokens) == (0, 256)


def test_a_dry_run_shows_and_keeps_nothing(
    data_dir: Path, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(data_dir, tiny_gguf, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NUMBER", "TOKENS/S", "OF"]
    assert sum(line.endswith("chosen") for line in lines) == 3
    assert not data_dir.exists()


def test_a_file_that_is_no_model_is_refused(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF and nothing behind it")
    with pytest.raises(ModelFileInvalid):
        to_engine_settings(settings_for(data_dir), path)
    assert tune(data_dir, path) == 1
