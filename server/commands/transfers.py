"""How far a download is: a bar in a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_LINE_INTERVAL_S = 5.0
_UNITS = ("bytes", "kB", "MB", "GB", "TB")

Show = Callable[[int, int | None], None]


def to_size(num_bytes: float) -> str:
    """A size with its decimal unit: `5.04 MB`."""
    unit = 0
    while num_bytes >= 1000 and unit < len(_UNITS) - 1:
        num_bytes, unit = num_bytes / 1000, unit + 1
    return f"{num_bytes:.3g} {_UNITS[unit]}" if unit else f"{num_bytes:.0f} bytes"


@contextmanager
def show_bytes(stream: TextIO) -> Iterator[Show]:
    """Shows bytes done, their number and the speed of this run."""
    started_s = time.monotonic()
    first: int | None = None

    def describe(num_done: int, num_total: int | None) -> str:
        nonlocal first
        first = num_done if first is None else first
        speed = (num_done - first) / max(time.monotonic() - started_s, 1e-3)
        whole = "" if num_total is None else f" of {to_size(num_total)}"
        return f"{to_size(num_done)}{whole}  {to_size(speed)}/s"

    if not stream.isatty():
        yield _make_plain_display(stream, describe)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=30), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, description=describe(done, total)
        )


def _make_plain_display(stream: TextIO, describe: Callable[[int, int | None], str]) -> Show:
    shown_s = time.monotonic()

    def show(num_done: int, num_total: int | None) -> None:
        nonlocal shown_s
        text = describe(num_done, num_total)
        if time.monotonic() - shown_s >= _LINE_INTERVAL_S:
            shown_s = time.monotonic()
            stream.write(f"{text}\n")
            stream.flush()

    return show
