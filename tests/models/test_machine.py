"""Memory is what the system has left, or less where a control group limits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.machine import read_available_bytes, read_machine

MEMINFO = "MemTotal:       8000 kB\nMemFree:        1000 kB\nMemAvailable:   4000 kB\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "proc/meminfo", MEMINFO)
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Abacus 3\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def limit(root: Path, folder: str, limit: str, usage: str, stat: str) -> None:
    names = ("memory.max", "memory.current", "memory.stat")
    if "/memory" in folder:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    for name, text in zip(names, (limit, usage, stat), strict=True):
        write(root, f"sys/fs/cgroup{folder}/{name}", text)


def test_without_groups_it_is_the_systems(root: Path) -> None:
    assert read_available_bytes(root) == 4000 * 1024


def test_a_group_of_version_2_counts_with_those_above_it(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/box/inner\n")
    limit(root, "/box/inner", "max\n", "500\n", "inactive_file 100\n")
    limit(root, "/box", "3000\n", "1000\n", "active_file 7\ninactive_file 400\n")
    assert read_available_bytes(root) == 3000 - 1000 + 400


def test_a_container_that_sees_its_own_group_at_the_top(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/not/visible/here\n")
    limit(root, "", "2000\n", "500\n", "inactive_file 0\n")
    assert read_available_bytes(root) == 1500


def test_a_group_of_version_1(root: Path) -> None:
    write(root, "proc/self/cgroup", "5:cpu:/x\n4:memory:/box\n0::/\n")
    limit(root, "/memory", str(2**63 - 4096), "500\n", "total_inactive_file 0\n")
    assert read_available_bytes(root) == 4000 * 1024
    limit(root, "/memory/box", "1000\n", "5000\n", "total_inactive_file 0\n")
    assert read_available_bytes(root) == 0


def test_a_machine_is_named_by_its_processors(root: Path) -> None:
    machine = read_machine(root)
    assert machine.cpu == "Abacus 3"
    assert 1 <= machine.num_cores <= machine.num_threads
    write(root, "proc/meminfo", "MemAvailable: 1 kB\n")
    assert read_machine(root).name == machine.name
    assert read_machine(root).available_bytes == 1024


def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert read_machine(tmp_path).available_bytes is None
