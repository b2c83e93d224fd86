"""What the registry keeps of each model,."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from models.gguf import GgufHeader, check_generative, read_header
from models.imitation.errors import ModelUnknown
from models.quantizing import KINDS, kind_of

Origin = Literal["bundled", "added", "pulled", "quantized", "tuned"]

BUNDLED = "bundled"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# "CC BY-NC 4.0", "cc-by-nc-sa-3.0", "PolyForm Noncommercial", "for research only".
_NON_COMMERCIAL = re.compile(
    r"(?<![a-z])nc(?![a-z])|non[ _-]?commercial|research[ _-]only|research[ _-]use", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the registry. `path` is absolute here and a file's name in `registry.json`.

    `kind` is the quantization (`q4_k_m`). `is_non_commercial` and `is_tuned` are inherited from
    the base. `report` is the file of the report that was attached last.
    """

    name: str
    path: Path
    sha256: str
    size_bytes: int
    mtime_ns: int
    origin: Origin
    kind: str
    added_s: int
    base: str | None = None
    data_sha256: str | None = None
    template_sha256: str | None = None
    licences: tuple[str, ...] = ()
    is_non_commercial: bool = False
    is_tuned: bool = False
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    report: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as an object that JSON can hold, with file names in the place of paths."""
        row = asdict(replace(self, details={}))
        report = self.report.name if self.report else None
        return {**row, "path": self.path.name, "report": report, "details": dict(self.details)}


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the default: to the model `name`, by `use` or by `rollback`."""

    name: str
    action: Literal["use", "rollback"]
    time_s: int


@dataclass(frozen=True, slots=True)
class State:
    """Everything in `registry.json`.

    `leftovers` are files that an interrupted command may have left: to be deleted.
    """

    entries: tuple[Entry, ...] = ()
    history: tuple[Change, ...] = ()
    leftovers: tuple[str, ...] = ()

    def find(self, name: str) -> Entry | None:
        """The entry of this name."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def put(self, entry: Entry) -> State:
        """The state with `entry` in the place of the one of its name, or added."""
        if self.find(entry.name) is None:
            return replace(self, entries=(*self.entries, entry))
        entries = tuple(entry if kept.name == entry.name else kept for kept in self.entries)
        return replace(self, entries=entries)

    def defaults(self) -> list[str]:
        """The default and, before it, those that `rollback` goes back to; never empty."""
        stack = [BUNDLED]
        for change in self.history:
            if change.action == "use":
                stack.append(change.name)
            else:
                stack.pop()
                while stack[-1] != change.name:
                    stack.pop()
        return stack


def check_name(name: str) -> None:
    """Raise `ModelUnknown` unless `name` may name a model."""
    if name == BUNDLED:
        raise ModelUnknown(f"{name!r} is the model that comes with Mynah; take another name.")
    if not _NAME.fullmatch(name):
        raise ModelUnknown(
            f"{name!r} cannot name a model: use 1 to 64 letters, digits, '.', '_' or '-'.",
            param="name",
        )


def to_name(text: str) -> str:
    """A name that the registry takes, made of a file's name or another text."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text.removesuffix(".gguf")).strip("-._")[:64]
    return name or "model"


def to_quantized_name(name: str, kind: str) -> str:
    """A name for the quantized model: `smol-f16` and `q4_k_m` make `smol-q4_k_m`."""
    stem = name.removesuffix(".gguf")
    for known in KINDS:
        if stem.lower().endswith((f"-{known}", f".{known}", f"_{known}")):
            stem = stem[: -len(known) - 1]
            break
    return f"{to_name(stem)[: 63 - len(kind)]}-{kind}"


def is_non_commercial(licences: Iterable[str]) -> bool:
    """Whether one of the licences forbids commercial use."""
    return any(_NON_COMMERCIAL.search(licence) for licence in licences)


def unite(*groups: Iterable[str]) -> tuple[str, ...]:
    """The texts of all groups in order, each once whatever its case."""
    seen: dict[str, str] = {}
    for text in (text.strip() for group in groups for text in group):
        if text:
            seen.setdefault(text.casefold(), text)
    return tuple(seen.values())


def inspect_model(path: Path) -> GgufHeader:
    """The header of a GGUF that can be served. Raises `ModelFileInvalid`."""
    header = read_header(path)
    check_generative(header, path)
    return header


def hash_template(header: GgufHeader) -> str:
    """SHA-256 of the chat template's UTF-8 text."""
    return hashlib.sha256(header.text("tokenizer.chat_template").encode()).hexdigest()


def own_licences(header: GgufHeader) -> tuple[str, ...]:
    """What the GGUF says of its licence; "other" says nothing."""
    texts = (header.text("general.license"), header.text("general.license.name"))
    return unite(text for text in texts if text.casefold() != "other")


def read_kind(header: GgufHeader) -> str:
    """The quantization that the GGUF names."""
    return kind_of(header.metadata.get("general.file_type"))


def find_bundled() -> Path | None:
    """The newest of the GGUFs that come with Mynah."""
    folder = Path(__file__).parent / "weights"
    found = sorted(folder.glob("*.gguf"), key=lambda path: (path.stat().st_mtime, path.name))
    return found[-1] if found else None


def describe_bundled(path: Path, sha256: str) -> Entry:
    """The entry of the model that comes with Mynah."""
    header, stat = inspect_model(path), path.stat()
    licences = own_licences(header)
    return Entry(
        name=BUNDLED,
        path=path,
        sha256=sha256,
        size_bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        origin="bundled",
        kind=read_kind(header),
        added_s=int(stat.st_mtime),
        template_sha256=hash_template(header),
        licences=licences,
        is_non_commercial=is_non_commercial(licences),
        details={"model": header.text("general.name")},
    )


def licences_of(given: Sequence[str], header: GgufHeader, base: Entry | None) -> tuple[str, ...]:
    """Every licence that holds for a model: those given, its file's own and its base's."""
    return unite(given, own_licences(header), base.licences if base else ())
