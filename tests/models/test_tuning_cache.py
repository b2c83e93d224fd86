"""What was measured comes back for the same model, machine and variant, and for no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engine_tuning import EngineTuning
from models.machine import Machine
from models.tuning_cache import TuningCache

MACHINE = Machine("Abacus", num_cores=2, num_threads=4, available_bytes=1000)
TUNING = EngineTuning(2, 4, 256, {"decode by threads": {"2": 31.5}})


@settings(deadline=None)
@given(
    tuning=st.builds(
        EngineTuning,
        st.integers(1, 256),
        st.integers(1, 256),
        st.integers(16, 4096),
        st.dictionaries(st.text(), st.dictionaries(st.text(), st.floats(0, 1e6))),
    )
)
def test_what_is_kept_comes_back(
    tuning: EngineTuning, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = TuningCache(tmp_path_factory.mktemp("data"))
    cache.keep("model", MACHINE, "f16", tuning)
    assert cache.find("model", MACHINE, "f16") == tuning


def test_each_model_machine_and_variant_has_its_own(tmp_path: Path) -> None:
    cache = TuningCache(tmp_path / "not" / "yet")
    assert cache.find("model", MACHINE, "f16") is None
    cache.keep("model", MACHINE, "f16", TUNING)
    other = replace(TUNING, chunk_tokens=512)
    cache.keep("other", MACHINE, "f16", other)
    assert cache.find("model", replace(MACHINE, available_bytes=5), "f16") == TUNING
    assert cache.find("other", MACHINE, "f16") == other
    assert cache.find("model", MACHINE, "q8_0") is None
    assert cache.find("model", replace(MACHINE, cpu="Slide rule"), "f16") is None
    assert [path.name for path in cache.path.parent.iterdir()] == ["engine.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{not json",
        '{"format": 99, "tunings": {}}',
        '{"format": 1, "tunings": 3}',
        b"\xff\xfe".decode("latin-1"),
    ],
)
def test_a_damaged_file_is_a_miss_and_is_written_anew(tmp_path: Path, text: str) -> None:
    cache = TuningCache(tmp_path)
    cache.path.write_text(text, encoding="utf-16")
    assert cache.find("model", MACHINE, "f16") is None
    cache.path.write_text(text, encoding="utf-8")
    assert cache.find("model", MACHINE, "f16") is None
    cache.keep("model", MACHINE, "f16", TUNING)
    assert cache.find("model", MACHINE, "f16") == TUNING


@pytest.mark.parametrize(
    "change",
    [{"num_threads": 0}, {"chunk_tokens": 3}, {"speeds": 1}, {"num_batch_threads": "many"}, None],
)
def test_a_damaged_row_is_a_miss(tmp_path: Path, change: dict[str, object] | None) -> None:
    cache = TuningCache(tmp_path)
    cache.keep("model", MACHINE, "f16", TUNING)
    content = json.loads(cache.path.read_text())
    (key,) = content["tunings"]
    row = content["tunings"][key]
    content["tunings"][key] = "text" if change is None else {**row, **change}
    cache.path.write_text(json.dumps(content))
    assert cache.find("model", MACHINE, "f16") is None
