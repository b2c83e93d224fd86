"""The folder of the registry: its file, its lock, and what interrupted commands leave there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.imitation.errors import RegistryDamaged
from models.registry_entries import Change, Entry, State

VERSION = 1
_NUM_HASHED_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


class RegistryFolder:
    """Reads and writes `registry.json` and the files that it names.

    A reader needs no lock: the file is replaced whole. A writer holds `changing`. A process that
    is killed leaves the state as it was before its change or after it; the next change deletes
    what it left over. Every method raises `RegistryDamaged` where files cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "registry.json"
        self.reports = folder / "reports"

    def read(self) -> State:
        """The state, empty where nothing was written yet."""
        return _read_state(self.path, self.reports)

    def write(self, state: State, *leftovers: Path | None) -> None:
        """Write the state; `leftovers` are deleted by the next sweep that finds them unused."""
        names = [str(path.relative_to(self.folder)) for path in leftovers if path]
        document = {
            "version": VERSION,
            "entries": [entry.to_json() for entry in state.entries],
            "history": [asdict(change) for change in state.history],
            "leftovers": names,
        }
        text = json.dumps(document, indent=2)
        write_aside(self.path, text.encode())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder beside the models for one command's files; gone afterwards."""
        with ExitStack() as stack:
            with self.reporting(), self._locked():
                folder = Path(tempfile.mkdtemp(dir=self.folder, prefix=".work-"))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                # Tells the sweeps of other processes that somebody works here.
                stack.enter_context(_hold(folder, 0))
            yield folder

    def take(self, file: Path, target: Path, *, is_moved: bool) -> str:
        """Put `file` at `target`, down to the disk; return its SHA-256."""
        if is_moved:
            shutil.move(file, target)
            sha256 = hash_file(target)
        else:
            num_free = shutil.disk_usage(target.parent).free
            if file.stat().st_size + _SPARE_BYTES > num_free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with target.open("xb") as copy:
                sha256 = hash_file(file, copy.write)
        target.chmod(0o600)
        with target.open("rb") as written:
            os.fsync(written.fileno())
        return sha256

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Nobody else changes the registry meanwhile. Yields its state."""
        with self.reporting(), self._locked():
            self._sweep()
            yield self.read()
            self._sweep()

    def _sweep(self) -> None:
        """Delete what interrupted commands, and the one at hand, left behind."""
        state = self.read()
        used = {path for entry in state.entries for path in (entry.path, entry.report)}
        for name in state.leftovers:
            if (path := self.folder / name) not in used:
                path.unlink(missing_ok=True)
        if state.leftovers:
            self.write(state)
        for path in (*self.folder.glob(".aside-*"), *self.reports.glob(".aside-*")):
            path.unlink(missing_ok=True)
        for folder in self.folder.glob(".work-*"):
            # Its owner may delete it at this moment, or still work there.
            with suppress(FileNotFoundError, BlockingIOError), _hold(folder, fcntl.LOCK_NB):
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _hold(self.folder / "registry.lock", 0, os.O_CREAT | os.O_RDWR):
            yield

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """What the system refuses inside the block becomes a `RegistryDamaged`."""
        try:
            yield
        except OSError as error:
            raise RegistryDamaged(
                f"cannot change the models in {self.folder}: {error.strerror or error}; check"
                " its owner, its permissions and the free space."
            ) from error


@contextmanager
def _hold(path: Path, option: int, flags: int = os.O_RDONLY) -> Iterator[None]:
    """Hold the lock of a file or folder; with `LOCK_NB`, `BlockingIOError` where it is held."""
    handle = os.open(path, flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | option)
        yield
    finally:
        os.close(handle)


def hash_file(path: Path, receive: Callable[[bytes], object] = len) -> str:
    """SHA-256 of a file in lower-case hexadecimal; `receive` gets its bytes on the way."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_NUM_HASHED_BYTES):
            digest.update(block)
            receive(block)
    return digest.hexdigest()


def _read_state(path: Path, reports: Path) -> State:
    """The state in `path`; empty if there is no such file. Raises `RegistryDamaged`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = int(document["version"])
        if version > VERSION:
            raise RegistryDamaged(
                f"{path} was written by a newer Mynah (version {version}); update Mynah."
            )
        entries = tuple(_read_entry(row, path.parent, reports) for row in document["entries"])
        history = tuple(_read_change(row) for row in document["history"])
        leftovers = tuple(map(str, document["leftovers"]))
        if any(Path(name).name != name.removeprefix("reports/") for name in leftovers):
            raise ValueError("a leftover is no file of this folder")
        state = State(entries, history, leftovers)
        state.defaults()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise RegistryDamaged(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise RegistryDamaged(
            f"cannot read the registry of models in {path}: {error!r}; mend or remove that file."
        ) from error
    return state


def write_aside(path: Path, content: bytes) -> None:
    """Replace `path` (mode 0600) so that it is whole at every moment, after a power cut too."""
    # mkstemp gives mode 0600 from the first byte on.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".aside-")
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_entry(row: Mapping[str, Any], folder: Path, reports: Path) -> Entry:
    if Path(row["path"]).name != row["path"]:
        raise ValueError(f"{row['path']!r} is no file of this folder")
    report = row["report"]
    return Entry(
        **{
            **row,
            "path": folder / row["path"],
            "licences": tuple(row["licences"]),
            "details": dict(row["details"]),
            "report": None if report is None else reports / Path(report).name,
        }
    )


def _read_change(row: Mapping[str, Any]) -> Change:
    if row["action"] not in ("use", "rollback"):
        raise ValueError(f"unknown action {row['action']!r}")
    return Change(str(row["name"]), row["action"], int(row["time_s"]))
