"""How far an ingest is: a bar in a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from server.commands.output import printable

if TYPE_CHECKING:
    from ingest.pipeline import IngestProgress

_LINE_INTERVAL_S = 5.0
_MAX_NAME_CHARS = 32


@contextmanager
def show_ingest(stream: TextIO) -> Iterator[Callable[[IngestProgress], None]]:
    """Shows documents done, passages per second, time left and the file at hand."""
    with _open_display(stream) as display:

        def show(progress: IngestProgress) -> None:
            rate, left_s = progress.passages_per_s, progress.eta_s
            parts = [f"{progress.num_passages} passages"]
            if rate is not None:
                parts.append(f"{rate:.1f}/s")
            if left_s is not None:
                parts.append(f"{to_duration(left_s)} left")
            parts.append(_shorten(printable(progress.path)))
            display(progress.num_documents_done, progress.num_documents, "  ".join(parts))

        yield show


@contextmanager
def show_reembed(stream: TextIO) -> Iterator[Callable[[int, int], None]]:
    """Shows documents done."""
    with _open_display(stream) as display:
        yield lambda num_done, num_documents: display(num_done, num_documents, "embedding")


def to_duration(time_s: float) -> str:
    """Hours, minutes and seconds, the leading ones only where they are needed."""
    minutes, seconds = divmod(max(0, round(time_s)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


Display = Callable[[int, int, str], None]


@contextmanager
def show_count(stream: TextIO, things: str) -> Iterator[Display]:
    """Shows how many of so many `things` are done, and a text."""
    with _open_display(stream, things) as display:
        yield display


@contextmanager
def _open_display(stream: TextIO, things: str = "documents") -> Iterator[Display]:
    if not stream.isatty():
        yield _make_plain_display(stream, things)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        # File names may hold brackets, which are rich's markup.
        TextColumn(things + "  {task.description}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=None)

        def display(num_done: int, num_documents: int, text: str) -> None:
            bar.update(task, completed=num_done, total=num_documents, description=text)

        yield display


def _make_plain_display(stream: TextIO, things: str) -> Display:
    shown_s = time.monotonic()

    def display(num_done: int, num_documents: int, text: str) -> None:
        nonlocal shown_s
        if time.monotonic() - shown_s < _LINE_INTERVAL_S:
            return
        shown_s = time.monotonic()
        stream.write(f"{num_done}/{num_documents} {things}  {text}\n")
        stream.flush()

    return display


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME_CHARS else f"...{name[-_MAX_NAME_CHARS + 3 :]}"
