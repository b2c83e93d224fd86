"""The models that this installation knows, and which of them is the default."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from models.gating import check_gate, read_report
from models.imitation.errors import ModelUnknown, RegistryDamaged
from models.registry_entries import (
    BUNDLED,
    Change,
    Entry,
    Origin,
    State,
    check_name,
    describe_bundled,
    find_bundled,
    hash_template,
    inspect_model,
    is_non_commercial,
    licences_of,
    read_kind,
)
from models.registry_folder import RegistryFolder, hash_file, sync_folder, write_aside

_NUM_SHOWN_DIGITS = 12


class Registry:
    """The models in `folder`. Nothing is made there before the first change.

    Any number of processes may use one folder. A process that is killed leaves the registry as it
    was before its change or after it; the next change deletes what it left over. Every method
    raises `RegistryDamaged` if the folder cannot be read or written, and `ModelUnknown` for a
    name that there is not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = RegistryFolder(folder)

    def list(self) -> tuple[Entry, ...]:
        """Every model, the bundled one first, then as they were added."""
        path = find_bundled()
        bundled = () if path is None else (describe_bundled(path, hash_file(path)),)
        return (*bundled, *self._files.read().entries)

    def get(self, name: str) -> Entry:
        """The model called `name`; `bundled` is the one that comes with Mynah."""
        return self._find(self._files.read(), name)

    def find_file(self, sha256: str) -> Entry | None:
        """A model whose file has this SHA-256, or None."""
        return next((e for e in self._files.read().entries if e.sha256 == sha256), None)

    def default(self) -> Entry | None:
        """The model that is used where none is named; None is the bundled one."""
        state = self._files.read()
        name = state.defaults()[-1]
        if name == BUNDLED:
            return None
        entry = state.find(name)
        if entry is None:
            raise RegistryDamaged(
                f"the default model {name} is not in {self._files.path}; choose another with"
                " `mynah models use NAME`."
            )
        return entry

    def check_free(self, name: str) -> None:
        """Raise `ModelUnknown` if `name` cannot be given to a new model."""
        check_name(name)
        if self._files.read().find(name) is not None:
            raise ModelUnknown(
                f"there is a model {name!r} already; take another with --name, or delete it with"
                f" `mynah models remove {name}`.",
                param="name",
            )

    def add(
        self,
        file: Path,
        name: str,
        *,
        origin: Origin,
        base: str | None = None,
        data_sha256: str | None = None,
        template_sha256: str | None = None,
        licences: Sequence[str] = (),
        details: Mapping[str, object] = {},
        is_moved: bool = False,
    ) -> Entry:
        """Copy the GGUF `file` into the registry, or with `is_moved` move it there.

        `base` is the model it was made from: of a registered one it inherits the licences, and
        that it is tuned. What `template_sha256` and `licences` leave open is read from the file.
        Raises `ModelFileInvalid` if it cannot be served.
        """
        self.check_free(name)
        header = inspect_model(file)
        if int(header.metadata.get("split.count", 1)) > 1:
            raise ModelUnknown(
                f"{file} is one part of a model in {header.metadata['split.count']}; join them"
                " with llama.cpp's `llama-gguf-split --merge` first.",
                param="model",
            )
        parent = self._find_base(base)
        united = licences_of(licences, header, parent)
        json.dumps(dict(details))  # raises before anything is copied
        with self._files.scratch() as folder, self._files.reporting():
            aside = folder / "model.gguf"
            sha256 = self._files.take(file, aside, is_moved=is_moved)
            twin = self.find_file(sha256)
            path = self.folder / f"{name}-{sha256[:_NUM_SHOWN_DIGITS]}.gguf"
            stat = aside.stat()
            entry = Entry(
                name=name,
                path=path,
                sha256=sha256,
                size_bytes=stat.st_size,
                mtime_ns=stat.st_mtime_ns,
                origin=origin,
                kind=read_kind(header),
                added_s=int(time.time()),
                base=base,
                data_sha256=data_sha256,
                template_sha256=template_sha256 or hash_template(header),
                licences=united,
                is_non_commercial=is_non_commercial(united)
                or any(e.is_non_commercial for e in (parent, twin) if e),
                # The same bytes under another name do not get past the gate.
                is_tuned=origin == "tuned" or any(e.is_tuned for e in (parent, twin) if e),
                details=dict(details),
            )
            with self._files.changing() as state:
                self.check_free(name)
                self._files.write(state, path)
                aside.replace(path)
                sync_folder(self.folder)
                self._files.write(state.put(entry))
        return entry

    def remove(self, name: str) -> Entry:
        """Delete a model with its report; not the bundled one and not the default."""
        if name == BUNDLED:
            raise ModelUnknown("the bundled model comes with Mynah and cannot be removed.")
        with self._files.changing() as state:
            entry = self._find(state, name)
            if state.defaults()[-1] == name:
                raise ModelUnknown(
                    f"{name} is the default; choose another first: `mynah models rollback` or"
                    " `mynah models use NAME`.",
                    param="name",
                )
            entries = tuple(kept for kept in state.entries if kept is not entry)
            self._files.write(replace(state, entries=entries), entry.path, entry.report)
        return entry

    def use(self, name: str) -> Entry:
        """Make a model the default from the next start on.

        Raises `GateRefused` for a tuned one without a report that allows it, and
        `RegistryDamaged` if its file does not have its SHA-256.
        """
        with self._files.changing() as state:
            return self._make_default(state, name, "use")

    def rollback(self) -> Entry:
        """Make the default what it was before the last `use` that still stands.

        Raises what `use` raises.
        """
        with self._files.changing() as state:
            for name in reversed(state.defaults()[:-1]):
                if name == BUNDLED or state.find(name):
                    return self._make_default(state, name, "rollback")
        raise ModelUnknown("there is no earlier default to go back to.")

    def attach_report(self, name: str, report: Path) -> Entry:
        """Keep a copy of the report on a model, in the place of an earlier one.

        Raises `GateRefused` if it is no report of this very model.
        """
        with self._files.changing() as state:
            entry = self._find(state, name)
            if name == BUNDLED:
                raise ModelUnknown("the bundled model takes no report; add its file by a name.")
            read_report(report, entry)
            target = self._files.reports / f"{name}-{hash_file(report)[:_NUM_SHOWN_DIGITS]}.json"
            if target != entry.report:
                self._files.write(state, target)
                self._files.reports.mkdir(mode=0o700, exist_ok=True)
                write_aside(target, report.read_bytes())
                self._files.write(state.put(replace(entry, report=target)), entry.report)
        return replace(entry, report=target)

    def verify(self, name: str) -> Entry:
        """The model, its SHA-256 just found to be right; raises `RegistryDamaged` if it is not."""
        entry = self.get(name)
        self._require_hash(entry)
        return entry

    def check_file(self, entry: Entry) -> None:
        """Raise `RegistryDamaged` if the file has changed: by size and time, by hash in doubt."""
        try:
            stat = entry.path.stat()
        except OSError as error:
            raise _damaged(entry, f"cannot be read ({error.strerror or error})") from error
        if stat.st_size != entry.size_bytes:
            raise _damaged(entry, f"has {stat.st_size} bytes, not {entry.size_bytes}")
        if stat.st_mtime_ns != entry.mtime_ns:
            self._require_hash(entry)

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder beside the models for one command's files; gone afterwards."""
        return self._files.scratch()

    def _make_default(self, state: State, name: str, action: Literal["use", "rollback"]) -> Entry:
        entry = self._find(state, name)
        check_gate(entry)
        if name != BUNDLED:
            self._require_hash(entry)
            entry = replace(entry, mtime_ns=entry.path.stat().st_mtime_ns)
            state = state.put(entry)
        if action == "rollback" or state.defaults()[-1] != name:
            change = Change(name, action, int(time.time()))
            state = replace(state, history=(*state.history, change))
        self._files.write(state)
        return entry

    def _find(self, state: State, name: str) -> Entry:
        if name == BUNDLED:
            path = find_bundled()
            if path is None:
                raise ModelUnknown("no model comes with this installation.", param="name")
            return describe_bundled(path, hash_file(path))
        entry = state.find(name)
        if entry is None:
            known = [kept.name for kept in state.entries]
            near = difflib.get_close_matches(name, [*known, BUNDLED], n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "`mynah models list` shows them."
            raise ModelUnknown(f"there is no model named {name!r}; {hint}", param="name")
        return entry

    def _find_base(self, base: str | None) -> Entry | None:
        """The registered model `base`; None for one that is known by its name only."""
        state = self._files.read()
        is_known = base is not None and (base == BUNDLED or state.find(base) is not None)
        return self._find(state, base) if base is not None and is_known else None

    def _require_hash(self, entry: Entry) -> None:
        try:
            sha256 = hash_file(entry.path)
        except OSError as error:
            raise _damaged(entry, f"cannot be read ({error.strerror or error})") from error
        if sha256 != entry.sha256:
            raise _damaged(entry, f"has the SHA-256 {sha256}, not {entry.sha256}")


def _damaged(entry: Entry, what: str) -> RegistryDamaged:
    return RegistryDamaged(
        f"the file of the model {entry.name}, {entry.path}, {what}; remove the model and add it"
        " again.",
        param="model",
    )
