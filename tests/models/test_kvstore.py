"""Saved states come back whole or not at all, within their budgets, and go with their document."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.kvfolder import DeletionWatch, KvFolder, State, forget_states
from models.kvstore import KvStore, identify

TOKENS = np.arange(5, dtype=np.int32)
KILLED_WRITER = Path(__file__).with_name("killed_writer.py")


def _state(seed: int, num_bytes: int = 1000) -> State:
    return np.random.default_rng(seed).integers(0, 256, num_bytes, dtype=np.uint8)


def _store(folder: Path | None, *, ram: int = 1 << 20, disk: int = 1 << 20) -> KvStore:
    return KvStore(b"model", max_ram_bytes=ram, folder=folder, max_disk_bytes=disk)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_a_state_comes_back_from_ram_and_after_a_restart_from_disk(tmp_path: Path) -> None:
    store = _store(tmp_path)
    key = store.key(TOKENS[:2], TOKENS[2:], "doc")
    assert store.get(key, "doc") is None
    store.put(key, "doc", _state(1))
    assert np.array_equal(_found(store, key), _state(1))
    store.close()
    again = _store(tmp_path)
    assert again.get(key, "another") is None
    assert np.array_equal(_found(again, key), _state(1))
    again.close()
    assert (store.stats.num_hits, store.stats.num_misses) == (1, 1)
    assert (again.stats.num_hits, again.stats.num_disk_hits, again.stats.num_misses) == (1, 1, 1)
    assert again.stats.disk_bytes == sum(path.stat().st_size for path in _files(tmp_path))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in _files(tmp_path))


def _found(store: KvStore, key: bytes) -> State:
    state = store.get(key, "doc")
    assert state is not None
    return state


def test_what_changes_a_state_changes_its_key() -> None:
    store, other = _store(None), KvStore(b"other", max_ram_bytes=0)
    keys = {
        store.key(TOKENS[:2], TOKENS[2:], "doc"),
        store.key(TOKENS[:3], TOKENS[3:], "doc"),
        store.key(TOKENS[:2], TOKENS[2:4], "doc"),
        store.key(TOKENS[:2], TOKENS[2:], "other"),
        other.key(TOKENS[:2], TOKENS[2:], "doc"),
    }
    assert len(keys) == 5


def test_the_identity_is_that_of_the_whole_file_and_of_every_part(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 3_000_000)
    one = identify(["a", "b"], path)
    assert identify(["a", "b"], path) == one
    assert identify(["ab", ""], path) != one
    with path.open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"y")
    assert identify(["a", "b"], path) != one


@given(
    place=st.floats(0, 1),
    damage=st.sampled_from(["flip", "cut", "append", "empty"]),
)
def test_a_damaged_file_is_a_miss_and_is_removed(
    tmp_path_factory: pytest.TempPathFactory, place: float, damage: str
) -> None:
    tmp_path = tmp_path_factory.mktemp("kv")
    folder = KvFolder(tmp_path, 1 << 20)
    key = bytes(32)
    assert folder.write(key, "doc", _state(1))
    (path,) = _files(tmp_path)
    data = bytearray(path.read_bytes())
    index = min(int(place * len(data)), len(data) - 1)
    if damage == "flip":
        data[index] ^= 1
    elif damage == "cut":
        data = data[:index]
    elif damage == "append":
        data += b"x"
    else:
        data = bytearray()
    path.write_bytes(data)
    assert folder.read(key, "doc") is None
    assert not path.exists()
    assert folder.write(key, "doc", _state(2))
    assert np.array_equal(folder.read(key, "doc"), _state(2))  # type: ignore[arg-type]


def test_a_file_of_another_key_is_a_miss(tmp_path: Path) -> None:
    folder = KvFolder(tmp_path, 1 << 20)
    folder.write(bytes(32), "doc", _state(1))
    (path,) = _files(tmp_path)
    path.rename(path.with_name(f"{bytes([1] * 32).hex()}.kv"))
    assert folder.read(bytes([1] * 32), "doc") is None
    assert folder.read(bytes(32), "doc") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 400)), max_size=40))
def test_ram_holds_the_last_used_within_its_budget(steps: list[tuple[int, int]]) -> None:
    store = KvStore(b"", max_ram_bytes=1000)
    sizes: dict[int, int] = {}
    for number, size in steps:
        key = bytes([number] * 32)
        if store.get(key, "") is None:
            store.put(key, "", _state(number, size))
            sizes[number] = size
        last = store.get(key, "")
        assert last is not None
        assert len(last) == sizes[number]
        assert store.stats.ram_bytes <= 1000


def test_the_disk_holds_the_last_used_within_its_budget(tmp_path: Path) -> None:
    folder = KvFolder(tmp_path, 3500)
    keys = [bytes([number] * 32) for number in range(5)]
    for number, key in enumerate(keys[:3]):
        folder.write(key, "doc", _state(number))
        (path,) = tmp_path.glob(f"*/{key.hex()}.kv")
        os.utime(path, (number, number))
    assert folder.read(keys[0], "doc") is not None
    folder.write(keys[3], "doc", _state(3))
    kept = [folder.read(key, "doc") is not None for key in keys]
    assert kept == [True, False, True, True, False]
    assert folder.num_bytes <= 3500
    assert KvFolder(tmp_path, 1200).num_bytes <= 1200
    assert folder.count() == 1


def test_a_forgotten_document_has_no_state_and_gets_none_any_more(tmp_path: Path) -> None:
    store, other = _store(tmp_path), _store(tmp_path)
    watch = DeletionWatch(tmp_path)
    for name in ("doc", "kept"):
        store.put(store.key(TOKENS, TOKENS, name), name, _state(1))
    store.close()
    key = store.key(TOKENS, TOKENS, "doc")
    assert _found(other, key) is not None
    # Another process: it has no engine, and it does not know what this one holds.
    forget_states(tmp_path, ["doc"])
    forget_states(tmp_path, ["doc"])
    assert watch.is_changed()
    assert watch.has_new()
    assert not watch.has_new()
    other.drop_gone(watch.is_gone)
    assert other.get(key, "doc") is None
    assert other.get(store.key(TOKENS, TOKENS, "kept"), "kept") is not None
    other.put(key, "doc", _state(1))
    other.close()
    assert _store(tmp_path).get(key, "doc") is None
    assert not any(key.hex() in path.name for path in tmp_path.rglob("*"))


def test_a_store_forgets_in_ram_and_on_disk_at_once(tmp_path: Path) -> None:
    store = _store(tmp_path)
    key = store.key(TOKENS, TOKENS, "doc")
    store.put(key, "doc", _state(1))
    store.forget(["doc"])
    assert store.get(key, "doc") is None
    store.close()
    assert not list(tmp_path.rglob("*.kv"))


def test_nothing_is_made_where_no_state_was_ever_saved(tmp_path: Path) -> None:
    forget_states(tmp_path / "kv", ["doc"])
    assert not (tmp_path / "kv").exists()


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_states_or_none(tmp_path: Path) -> None:
    rng = random.Random(1)
    num_read = 0
    for _ in range(8):
        process = subprocess.Popen([sys.executable, KILLED_WRITER, tmp_path])
        time.sleep(0.5 + rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        folder = KvFolder(tmp_path, 1 << 30)
        for path in tmp_path.glob("*/*.kv"):
            key = bytes.fromhex(path.stem)
            state = folder.read(key, "doc")
            assert state is not None, "a file under its name is whole"
            assert np.array_equal(state, _state(key[0], 200_000))
            num_read += 1
    assert num_read


def test_a_folder_that_was_removed_counts_as_a_deletion(tmp_path: Path) -> None:
    folder = tmp_path / "kv"
    watch = DeletionWatch(folder)
    assert not watch.is_changed()
    folder.rmdir()
    assert watch.is_changed()
    assert watch.has_new()
    # It is there again, for others to note their deletions in.
    watch.is_changed()
    assert not watch.has_new()
    forget_states(folder, ["doc"])
    assert watch.is_changed()
    assert watch.has_new()
    assert watch.is_gone("doc")
