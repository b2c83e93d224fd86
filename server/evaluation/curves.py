"""Curves over a number, and differences as a column of intervals around zero, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from models.imitation.statistics import Interval
from server.evaluation.drawing import (
    HEIGHT,
    RIGHT,
    TOP,
    WIDTH,
    Frame,
    draw_legend,
    draw_text,
    draw_whisker_x,
    wrap,
)

_ROW_HEIGHT = 26
_LABEL_WIDTH = 250


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, share) in the order of x; x is above 0, shares lie between 0 and 1."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of a column of differences; `verdict` colours it."""

    label: str
    interval: Interval
    verdict: str


def draw_curves(curves: Sequence[Curve], x_title: str, title: str, *, is_stepped: bool) -> str:
    """Shares over a number, a colour a curve; steps where a share holds until the next point."""
    x_max = max(x for curve in curves for x, _ in curve.points)
    frame = Frame(_round_up(x_max), 1.0)
    parts = [frame.draw_grid(is_x_numeric=True)]
    for number, curve in enumerate(curves):
        path, before = "", 0.0
        for x, share in curve.points:
            if is_stepped:
                path += f"{'L' if path else 'M'}{frame.x(x):.1f} {frame.y(before):.1f}"
            path += f"{'L' if path else 'M'}{frame.x(x):.1f} {frame.y(share):.1f}"
            before = share
        parts.append(f'<path class="line s{number}" d="{path}"/>')
        if not is_stepped:
            parts += [_draw_dot(frame, number, curve.label, x, share) for x, share in curve.points]
    parts.append(draw_text(WIDTH - RIGHT, HEIGHT - 10, x_title, "end", "note"))
    parts.append(draw_legend([curve.label for curve in curves]))
    return wrap(parts, title)


def _draw_dot(frame: Frame, number: int, label: str, x: float, share: float) -> str:
    said = escape(f"{label}, {x:g}: {share:.3f}")
    return (
        f'<circle class="s{number}" cx="{frame.x(x):.1f}" cy="{frame.y(share):.1f}" r="3.2">'
        f"<title>{said}</title></circle>"
    )


def draw_differences(rows: Sequence[Difference], title: str) -> str:
    """Each difference as a point with its interval, right of zero what is larger."""
    reach = max(max(abs(row.interval.low), abs(row.interval.high)) for row in rows) or 0.1
    left, right = _LABEL_WIDTH, WIDTH - RIGHT - 20
    bottom = TOP + _ROW_HEIGHT * len(rows)

    def place(value: float) -> float:
        return left + (right - left) * (0.5 + value / (2 * reach))

    parts = []
    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        x = place(share * reach)
        style = "axis" if share == 0 else "grid"
        parts.append(
            f'<line class="{style}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom:.1f}"/>'
        )
        parts.append(draw_text(x, bottom + 18, f"{share * reach:+.2g}", "middle", "note"))
    for number, row in enumerate(rows):
        y = TOP + _ROW_HEIGHT * (number + 0.5)
        interval = row.interval
        parts.append(draw_text(left - 14, y + 4, row.label, "end"))
        parts.append(draw_whisker_x(y, place(interval.low), place(interval.high)))
        said = f"{row.label}: {interval.mean:+.3f}, {row.verdict}"
        parts.append(
            f'<circle class="v-{row.verdict.split()[0]}" cx="{place(interval.mean):.1f}"'
            f' cy="{y:.1f}" r="5"><title>{escape(said)}</title></circle>'
        )
    return wrap(parts, title, bottom + 30)


def _round_up(value: float) -> float:
    """The next 1, 2 or 5 times a power of ten, of which five ticks read well."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))
