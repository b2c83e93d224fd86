"""What `mynah tune import` and `filter` share: progress, the file of dropped rows, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from server.commands.output import printable, write, write_error, write_json, write_table

if TYPE_CHECKING:
    from models.imitation.importing.importer import OnDrop
    from models.imitation.importing.report import Drop, Report

_LINE_INTERVAL_S = 5.0
_MAX_SHOWN = 20


def make_progress(stream: TextIO) -> Callable[[Report], None]:
    """What writes a line of counts now and then."""
    shown_s = time.monotonic()

    def show(report: Report) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s < _LINE_INTERVAL_S:
            return
        shown_s = time.monotonic()
        stream.write(f"{report.num_read} rows read, {report.num_kept} kept\n")
        stream.flush()

    return show


@contextmanager
def open_drops(path: Path | None) -> Iterator[OnDrop | None]:
    """Gives what writes every dropped row with its reason to `path`, or None without a path."""
    if path is None:
        yield None
        return
    from models.imitation.importing.files import write_lines

    with write_lines(path) as write_line:

        def on_drop(drop: Drop, file: str, number: int, row: Mapping[str, Any] | None) -> None:
            write_line(
                {
                    "reason": drop.reason,
                    "detail": drop.detail,
                    "file": file,
                    "number": number,
                    "row": row,
                }
            )

        yield on_drop


def check_outputs(out: Path, dropped: Path | None) -> None:
    """Raises `BadParameter` where both would be one file."""
    if dropped is not None and dropped.resolve() == out.resolve():
        raise typer.BadParameter("--dropped and --out name the same file")


def split_words(text: str) -> tuple[str, ...]:
    """The words of a list with commas, blanks around them left out."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def show_report(report: Report, out: Path, *, as_json: bool) -> None:
    """Every count, the malformed rows by number, and where the rest went."""
    if as_json:
        write_json({**report.to_json(), "out": str(out)})
        return
    num_dropped = sum(report.dropped.values())
    write(f"Read {report.num_read} rows: kept {report.num_kept}, dropped {num_dropped}.")
    if report.dropped:
        write_table(("DROPPED", "ROWS"), sorted(report.dropped.items()))
    changed = [(what, count) for what, count in sorted(report.changed.items()) if count]
    if changed:
        write_table(("IN KEPT ROWS", "TIMES"), changed)
    for row in report.malformed[:_MAX_SHOWN]:
        write_error(str(row))
    if len(report.malformed) > _MAX_SHOWN:
        write_error(f"and {len(report.malformed) - _MAX_SHOWN} more malformed; --json lists all")
    write(printable(f"Wrote {report.num_written} conversations to {out}."))
