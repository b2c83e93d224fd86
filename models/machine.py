"""What the machine offers: its processors, and the memory that may still be taken."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from models.engine_settings import count_threads

# A limit so high is none: version 1 of control groups writes one near 2^63.
_NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Machine:
    """`num_cores` are physical ones that this process may use, `num_threads` logical ones.

    `available_bytes` is None where the system does not tell.
    """

    cpu: str
    num_cores: int
    num_threads: int
    available_bytes: int | None

    @property
    def name(self) -> str:
        """The same text for the same processors; memory comes and goes."""
        return f"{self.cpu}, {self.num_cores} cores, {self.num_threads} threads"


def read_machine(root: Path = Path("/")) -> Machine:
    """Return this machine; `root` is where `proc` and `sys` are found."""
    try:
        num_threads = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        num_threads = os.cpu_count() or 1
    return Machine(_read_cpu(root), count_threads(), num_threads, read_available_bytes(root))


def read_available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be taken without pushing anyone else's out: the system's and the group's."""
    found = [_read_system(root), *_read_groups(root)]
    return min((num_bytes for num_bytes in found if num_bytes is not None), default=None)


def _read_cpu(root: Path) -> str:
    try:
        for line in (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return value.strip()
    except OSError:
        pass
    return os.uname().machine if hasattr(os, "uname") else "unknown"


def _read_system(root: Path) -> int | None:
    try:
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return _find_number(text.replace(":", ""), "MemAvailable", unit=1024)


def _read_groups(root: Path) -> list[int]:
    """What the limits of the process's control groups and of those above leave, versions 1, 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds:
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.strip("/")
        # A container may see its own group at the top, whatever the path says.
        for group in {folder, base, *(p for p in folder.parents if p.is_relative_to(base))}:
            free = _read_group(group, *names)
            if free is not None:
                left.append(free)
    return left


def _read_group(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        limit_bytes = int((folder / limit).read_text())
        used_bytes = int((folder / usage).read_text())
        stat = (folder / "memory.stat").read_text(encoding="utf-8")
    except (OSError, ValueError):  # "max" is no number.
        return None
    if limit_bytes >= _NO_LIMIT_BYTES:
        return None
    return max(0, limit_bytes - used_bytes + (_find_number(stat, reclaimable) or 0))


def _find_number(text: str, name: str, unit: int = 1) -> int | None:
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == name and words[1].isdecimal():
            return int(words[1]) * unit
    return None
