from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from server.auth import KEY_PREFIX, KeyStore
from server.errors import KeyInvalid, KeysDamaged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys.json"


def test_a_key_is_found_by_itself_and_by_nothing_else(path: Path) -> None:
    store = KeyStore(path)
    secret, kept = store.create("laptop")
    other, _ = store.create("phone")
    assert secret.startswith(KEY_PREFIX)
    assert len(secret) >= len(KEY_PREFIX) + 43
    assert store.find(secret) == kept
    assert (store.find(other) or kept).name == "phone"
    for wrong in ("", KEY_PREFIX, secret[:-1], secret + "x", secret.upper(), "\ud800", "schlüssel"):
        assert store.find(wrong) is None


def test_the_file_holds_no_key_and_is_private(path: Path) -> None:
    secret, kept = KeyStore(path).create("laptop")
    content = path.read_text()
    assert secret not in content
    assert kept.sha256 in content
    assert len(kept.prefix) < 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".keys-")] == []


def test_a_running_store_sees_keys_made_and_deleted_beside_it(path: Path) -> None:
    running, beside = KeyStore(path), KeyStore(path)
    assert running.list() == ()
    secret, _ = beside.create("laptop")
    assert running.find(secret) is not None
    beside.delete("laptop")
    assert running.find(secret) is None


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "../x", "é", "a\n"])
def test_a_wrong_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeyInvalid, match="cannot name a key"):
        KeyStore(path).create(name)


def test_a_name_is_taken_once_and_deleted_once(path: Path) -> None:
    store = KeyStore(path)
    store.create("laptop")
    with pytest.raises(KeyInvalid, match="already"):
        store.create("laptop")
    store.delete("laptop")
    with pytest.raises(KeyInvalid, match="no key named"):
        store.delete("laptop")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"keys": [1]}', '{"keys": [{"name": "a"}]}'])
def test_a_damaged_file_closes_the_door(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(KeysDamaged, match="mend or remove"):
        KeyStore(path).find("x")


def test_keys_created_at_once_are_all_kept(path: Path) -> None:
    threads = [
        threading.Thread(target=lambda i=i: KeyStore(path).create(f"key{i}")) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in KeyStore(path).list()} == {f"key{i}" for i in range(8)}
