"""`/v1/engine` shows the engine's work and none of its texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2

from models.engine import LlamaEngine
from models.protocols import Message, SamplingSettings
from server.auth import KeyStore
from server.components import Services
from tests.server.scripted import LoadedServices, ScriptedGrounder, ServerSetup, run_server


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in _keys(part)}
    if isinstance(value, list):
        return {key for part in value for key in _keys(part)}
    return set()


def test_it_shows_the_engine_at_work(tiny_engine: LlamaEngine, tmp_path: Path) -> None:
    secret, _ = KeyStore(tmp_path / "keys.json").create("laptop")
    services = Services(tiny_engine, ScriptedGrounder(), lambda: (), lambda: None)
    setup = ServerSetup(source=LoadedServices(services), keys_path=tmp_path / "keys.json")
    prompt = tiny_engine.prepare([Message("user", "Is the zebra in the vault?")])
    with run_server(setup) as server:
        assert httpx2.get(f"{server.url}/v1/engine").status_code == 401
        generation = tiny_engine.generate(prompt, SamplingSettings(max_tokens=4))
        list(generation)
        reply = httpx2.get(f"{server.url}/v1/engine", headers={"authorization": f"Bearer {secret}"})
    assert reply.status_code == 200
    body = reply.json()
    assert (body["object"], body["model"]) == ("engine", "tiny")
    assert body["num_slots"] == 4
    assert body["requests"]["num_finished"] >= 1
    assert body["cells"]["num_cells"] == tiny_engine._context.num_cells
    assert body["prefixes"]["num_lookups"] >= 1
    assert {"prefill_tokens_per_s", "decode_tokens_per_s", "num_states", "num_kept"} <= _keys(body)
    assert "zebra" not in reply.text
