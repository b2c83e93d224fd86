"""Rows of JSON and JSON Lines files, and JSON Lines files that appear only when complete."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.report import Malformed

_BOM = b"\xef\xbb\xbf"
_PACKED = (".xz", ".gz")


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object with the place where it stands in its file, counted from 1."""

    file: str
    unit: str
    number: int
    value: dict[str, Any]

    def malformed(self, error: str) -> Malformed:
        return Malformed(self.file, self.unit, self.number, error)


def read_rows(path: Path) -> Iterator[Row | Malformed]:
    """Yield every row of a JSON array or JSON Lines file in order, malformed ones as such.

    Blank lines are no rows. Files ending in `.xz` and `.gz` are unpacked. Raises
    `TrainingDataInvalid` where the file as a whole cannot be read.
    """
    try:
        with _open(path) as file:
            if _is_array(path, file):
                yield from _read_array(path, file)
            else:
                yield from _read_lines(path, file)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise TrainingDataInvalid(f"{path} cannot be read: {error}.") from None


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".xz":
        return cast(BinaryIO, lzma.open(path))
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    return path.open("rb")


def _is_array(path: Path, file: BinaryIO) -> bool:
    name = path.with_suffix("") if path.suffix in _PACKED else path
    if name.suffix in (".jsonl", ".ndjson"):
        return False
    head = file.read(64).removeprefix(_BOM).lstrip()
    file.seek(0)
    return head.startswith(b"[")


def _read_array(path: Path, file: BinaryIO) -> Iterator[Row | Malformed]:
    try:
        items = json.loads(file.read().removeprefix(_BOM))
    except (ValueError, RecursionError) as error:
        raise TrainingDataInvalid(f"{path} is not valid JSON: {error}.") from None
    for number, value in enumerate(items, 1):
        yield _to_row(path, "item", number, value)


def _read_lines(path: Path, file: BinaryIO) -> Iterator[Row | Malformed]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except RecursionError:
            yield Malformed(path.name, "line", number, "nested too deeply")
        except ValueError as error:
            yield Malformed(path.name, "line", number, f"not valid JSON: {error}")
        else:
            yield _to_row(path, "line", number, value)


def _to_row(path: Path, unit: str, number: int, value: object) -> Row | Malformed:
    if not isinstance(value, dict):
        return Malformed(path.name, unit, number, "not a JSON object")
    try:
        # Half of a surrogate pair, as cut-off emoji leave it, can be escaped but not be text.
        to_line(value).encode()
    except UnicodeEncodeError:
        return Malformed(path.name, unit, number, "holds half of a surrogate pair")
    except (ValueError, RecursionError):
        return Malformed(path.name, unit, number, "holds a number that is no JSON, or is too deep")
    return Row(path.name, unit, number, value)


def to_line(value: object) -> str:
    """`value` as one line of JSON, keys in their order. Raises `ValueError` for NaN."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextmanager
def write_lines(path: Path) -> Iterator[Callable[[object], None]]:
    """Gives a function that writes one JSON line; the file replaces `path` at the end.

    Where the block raises, nothing is left behind. Raises `TrainingDataInvalid` where the folder
    cannot be written to.
    """
    aside = path.with_name(path.name + ".part")
    try:
        file = aside.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise TrainingDataInvalid(f"{path} cannot be written: {error.strerror}.") from None

    def write(value: object) -> None:
        file.write(to_line(value) + "\n")

    try:
        with file:
            yield write
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
