"""The loss of a run: lines of JSON, a picture, and a curve in the terminal while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from models.imitation.tuning.libraries import prepare_libraries

_LINE_INTERVAL_S = 5.0
_DRAW_INTERVAL_S = 0.5
_HEIGHT = 14
_MAX_POINTS = 400


@dataclass(frozen=True, slots=True)
class Point:
    """One step: nats per id of an answer; `held_out` where it was measured after this step."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_s: float
    held_out: float | None = None


class Show(Protocol):
    """Shows the newest of all points so far, of `num_steps` steps."""

    def __call__(self, points: Sequence[Point], num_steps: int) -> None: ...


class LossLog:
    """The points of a run in a JSONL file; a resumed run forgets those behind its checkpoint."""

    def __init__(self, path: Path, *, num_steps_done: int = 0) -> None:
        self._path = path
        self.points = [point for point in read_points(path) if point.step <= num_steps_done]
        with path.open("w", encoding="utf-8") as out:
            out.writelines(_line(point) for point in self.points)

    def append(self, point: Point) -> None:
        """Keep a point, on disk at once."""
        self.points.append(point)
        with self._path.open("a", encoding="utf-8") as out:
            out.write(_line(point))


def read_points(path: Path) -> list[Point]:
    """Return the points of a file; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Point(**json.loads(line)) for line in lines if line.endswith("\n")]


def _line(point: Point) -> str:
    return json.dumps(asdict(point)) + "\n"


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential means, the start not drawn towards zero (Kingma and Ba 2015, section 3)."""
    means, total, norm = [], 0.0, 0.0
    for value in values:
        total = weight * total + (1.0 - weight) * value
        norm = weight * norm + (1.0 - weight)
        means.append(total / norm)
    return means


def draw_png(points: Sequence[Point], path: Path) -> None:
    """Write the curve as a PNG: loss of each step, its mean, and the loss held out."""
    prepare_libraries("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps = [point.step for point in points]
    losses = [point.loss for point in points]
    axes.plot(steps, losses, color="tab:blue", alpha=0.3, linewidth=1, label="each step")
    axes.plot(steps, smooth(losses), color="tab:blue", label="mean")
    held_out = [(point.step, point.held_out) for point in points if point.held_out is not None]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color="tab:orange", marker="o", label="held out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per answer token)")
    axes.grid(alpha=0.3)
    axes.legend()
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(str(path))


def draw_text(points: Sequence[Point], width: int, height: int = _HEIGHT) -> str:
    """The curve in characters with colours for a terminal."""
    import plotext

    stride = max(1, len(points) // _MAX_POINTS)
    means = smooth([point.loss for point in points])
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, height)
    figure.draw(figure.signal([p.step for p in points][::stride], means[::stride]).lines())
    held_out = [(p.step, p.held_out) for p in points if p.held_out is not None]
    if held_out:
        figure.draw(figure.signal(*map(list, zip(*held_out, strict=True))))
    return str(figure.build().string())


def describe(points: Sequence[Point], num_steps: int) -> str:
    """One line: where the run is, how well it does, how long it will take."""
    last = points[-1]
    parts = [
        f"step {last.step}/{num_steps}",
        f"loss {smooth([point.loss for point in points[-50:]])[-1]:.4f}",
    ]
    held_out = next((p.held_out for p in reversed(points) if p.held_out is not None), None)
    if held_out is not None:
        parts.append(f"held out {held_out:.4f}")
    parts += [f"lr {last.lr:.2e}", f"{last.tokens_per_s:,.0f} tokens/s"]
    return "  ".join(parts)


@contextmanager
def show_curve(stream: TextIO) -> Iterator[Show]:
    """A live curve in a terminal; anywhere else a line now and then, and one at the end."""
    if not stream.isatty():
        with _plain_lines(stream) as show:
            yield show
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream)
    drawn_s = started_s = time.monotonic()
    first_step: int | None = None
    with Live(console=console, auto_refresh=False) as live:

        def draw(points: Sequence[Point], num_steps: int) -> None:
            nonlocal drawn_s, first_step
            now, step = time.monotonic(), points[-1].step
            first_step = step - 1 if first_step is None else first_step
            if now - drawn_s < _DRAW_INTERVAL_S and step < num_steps:
                return
            drawn_s = now
            left_s = (now - started_s) / max(1, step - first_step) * (num_steps - step)
            line = f"{describe(points, num_steps)}  {left_s / 60:.0f} min left"
            parts: list[Any] = [Text(line)]
            if len(points) > 1:
                curve = draw_text(points, min(console.width, 110))
                parts.insert(0, Text.from_ansi(curve))
            live.update(Group(*parts), refresh=True)

        yield draw


@contextmanager
def _plain_lines(stream: TextIO) -> Iterator[Show]:
    written_s, waiting = 0.0, ""

    def show(points: Sequence[Point], num_steps: int) -> None:
        nonlocal written_s, waiting
        waiting = describe(points, num_steps) + "\n"
        if time.monotonic() - written_s >= _LINE_INTERVAL_S or points[-1].step == num_steps:
            stream.write(waiting)
            stream.flush()
            written_s, waiting = time.monotonic(), ""

    try:
        yield show
    finally:
        stream.write(waiting)
