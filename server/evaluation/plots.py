"""Plots as inline SVG whose colours the page's style sheet gives, so that they follow its theme."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from models.imitation.statistics import Interval
from server.evaluation.drawing import (
    HEIGHT,
    LEFT,
    TOP,
    Frame,
    draw_legend,
    draw_text,
    draw_whisker_x,
    draw_whisker_y,
    round_up,
    wrap,
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; None where the figure does not apply."""

    group: str
    series: str
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Point:
    """A system by two figures; `x` and `y` have their intervals drawn as a cross."""

    label: str
    x: Interval
    y: Interval


def draw_bars(bars: Sequence[Bar], title: str) -> str:
    """Bars by group and series on a scale of 0 to 1, each with its interval."""
    groups = list(dict.fromkeys(bar.group for bar in bars))
    series = list(dict.fromkeys(bar.series for bar in bars))
    frame = Frame(1.0, 1.0)
    step = frame.width / len(groups)
    width = min(44.0, step * 0.8 / len(series))
    parts = [frame.draw_grid(is_x_numeric=False)]
    for bar in bars:
        number = series.index(bar.series)
        middle = LEFT + step * (groups.index(bar.group) + 0.5)
        x = middle + (number - len(series) / 2) * width
        if bar.interval is None:
            parts.append(draw_text(x + width / 2, frame.y(0) - 6, "n/a", "middle", "note"))
            continue
        top = frame.y(bar.interval.mean)
        label = f"{bar.group}, {bar.series}: {bar.interval.mean:.3f}"
        parts.append(
            f'<rect class="s{number}" x="{x + 2:.1f}" y="{top:.1f}" width="{width - 4:.1f}"'
            f' height="{frame.y(0) - top:.1f}" rx="2"><title>{escape(label)}</title></rect>'
        )
        parts.append(
            draw_whisker_y(x + width / 2, frame.y(bar.interval.low), frame.y(bar.interval.high))
        )
    for number, group in enumerate(groups):
        parts.append(draw_text(LEFT + step * (number + 0.5), frame.y(0) + 20, group, "middle"))
    parts.append(draw_legend(series))
    return wrap(parts, title)


def draw_scatter(points: Sequence[Point], x_title: str, y_title: str, title: str) -> str:
    """Systems as points with both intervals; axes begin at 0."""
    frame = Frame(
        round_up(max(point.x.high for point in points)),
        round_up(max(point.y.high for point in points)),
    )
    parts = [frame.draw_grid(is_x_numeric=True)]
    labels: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        x, y = frame.x(point.x.mean), frame.y(point.y.mean)
        label = f"{point.label}: {x_title} {point.x.mean:.3f}, {y_title} {point.y.mean:.3f}"
        parts.append(draw_whisker_y(x, frame.y(point.y.low), frame.y(point.y.high)))
        parts.append(draw_whisker_x(y, frame.x(point.x.low), frame.x(point.x.high)))
        parts.append(
            f'<circle class="s{number}" cx="{x:.1f}" cy="{y:.1f}" r="7">'
            f"<title>{escape(label)}</title></circle>"
        )
        is_right = x > LEFT + frame.width * 0.7
        place = y - 12 if y > TOP + 6 else y + 20  # above, unless that is outside the plot
        while any(abs(place - other) < 15 and abs(x - at) < 190 for at, other in labels):
            place += 15
        labels.append((x, place))
        shift, anchor = (-10, "end") if is_right else (10, "start")
        parts.append(draw_text(x + shift, place, point.label, anchor))
    parts.append(draw_text(LEFT + frame.width / 2, HEIGHT - 12, x_title, "middle"))
    turned = f'transform="rotate(-90 14 {TOP + frame.height / 2:.0f})"'
    parts.append(draw_text(14, TOP + frame.height / 2, y_title, "middle", extra=turned))
    return wrap(parts, title)
