"""Changes a registry in children that kill themselves before their nth step on the disk.

`python -m tests.models.killed_registry FOLDER STRIDE GGUF GGUF` kills one before every STRIDEth
step and prints how many there were; an `AssertionError` ends it where what a child left is not one
of the states that it went through.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from models.registry import Registry
from models.registry_folder import RegistryFolder
from tests.models.tuning_reports import write_report

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fcntl.flock"}
# (names, default) before, between and after the changes of `change`.
_STATES = [
    (["a"], "a"),
    (["a", "b"], "a"),
    (["a", "b"], "b"),
    (["b"], "b"),
    (["b"], None),
]


def change(folder: Path, file: Path, report: Path) -> None:
    registry = Registry(folder)
    registry.add(file, "b", origin="tuned")
    registry.attach_report("b", report)
    registry.use("b")
    registry.remove("a")
    registry.rollback()


def kill_before(num_step: int, folder: Path) -> None:
    """Kill this process before its step `num_step` in `folder`, counted from 1."""
    num_seen = 0

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal num_seen
        if event not in _STEPS:
            return
        if event == "open" and not str(arguments[0]).startswith(str(folder)):
            return
        num_seen += 1
        if num_seen == num_step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


def check(folder: Path, files: Mapping[str, Path]) -> None:
    registry, inside = Registry(folder), RegistryFolder(folder)
    names = [entry.name for entry in inside.read().entries]
    default = registry.default()
    assert (names, default.name if default else None) in _STATES, (names, default)
    for name in names:
        registry.verify(name)
        registry.check_file(registry.get(name))
    # The next change leaves nothing behind but what is in use.
    with inside.changing() as state:
        used = {path for e in state.entries for path in (e.path, e.report) if path}
    found = {path for path in folder.rglob("*") if path.is_file()}
    assert found == used | {folder / "registry.json", folder / "registry.lock"}, found
    assert not list(folder.glob(".*"))
    assert (folder / "registry.json").stat().st_mode & 0o777 == 0o600
    for name in ("a", "b"):
        if name not in names:
            registry.add(files[name], name, origin="added")
    assert {entry.name for entry in inside.read().entries} == {"a", "b"}


def run(folder: Path, stride: int, files: Mapping[str, Path]) -> int:
    """The number of children that were killed before one came to the end."""
    tuned = Registry(folder.parent / "other").add(files["b"], "b", origin="tuned")
    report = write_report(folder.parent / "report.json", tuned)
    num_killed = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        Registry(folder).add(files["a"], "a", origin="added")
        Registry(folder).use("a")
        child = os.fork()
        if child == 0:
            try:
                kill_before(1 + num_killed * stride, folder)
                change(folder, files["b"], report)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        check(folder, files)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return num_killed
        assert os.WTERMSIG(status) == signal.SIGKILL
        num_killed += 1


if __name__ == "__main__":
    sources = dict(zip("ab", map(Path, sys.argv[3:]), strict=True))
    sys.stdout.write(f"{run(Path(sys.argv[1]), int(sys.argv[2]), sources)}\n")
